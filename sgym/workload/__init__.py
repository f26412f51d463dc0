"""Workloads: readers of public traces, arrival processes and lengths; all become one table.

`generate(scenario, seed)` is what the simulator calls: arrivals and what their prompts share. The
rest is for people who look at, fit or fetch traces. `sgym.workload.fetch` downloads public traces.
"""

from sgym.workload.fetch import resolve_trace
from sgym.workload.formats import formats
from sgym.workload.generation import describe, generate
from sgym.workload.given import from_table
from sgym.workload.prefixes import Prefixes, Requests, hit_share
from sgym.workload.quantiles import Dataset, datasets, fit, load_dataset, save_fit
from sgym.workload.trace import Trace, TraceReport, read_trace

__all__ = [
    "Dataset",
    "Prefixes",
    "Requests",
    "Trace",
    "TraceReport",
    "datasets",
    "describe",
    "fit",
    "formats",
    "from_table",
    "generate",
    "hit_share",
    "load_dataset",
    "read_trace",
    "resolve_trace",
    "save_fit",
]
