"""What a simulation or a real run was worth: smooth goodput, SLOs, latencies, intervals."""

from sgym.metrics.frames import requests_frame
from sgym.metrics.intervals import Interval, mean_interval, paired_difference
from sgym.metrics.smooth import benefit, idle_latency, smooth_goodput
from sgym.metrics.summary import Baseline, baseline, headline, summarize
from sgym.metrics.token_times import from_token_times, score_log

__all__ = [
    "Baseline",
    "Interval",
    "baseline",
    "benefit",
    "from_token_times",
    "headline",
    "idle_latency",
    "mean_interval",
    "paired_difference",
    "requests_frame",
    "score_log",
    "smooth_goodput",
    "summarize",
]
