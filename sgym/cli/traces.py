"""`sgym traces`: public traces and their formats."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from sgym import workload
from sgym.cli.common import console
from sgym.workload.fetch import TRACES
from sgym.workload.fetch import fetch as fetch_trace

app = typer.Typer(help="List, fetch and look at request traces.", no_args_is_help=True)

QUANTILES = (0, 50, 90, 99, 100)


@app.command("list")
def list_traces() -> None:
    """List the public traces that `sgym traces fetch` knows."""
    table = Table(title="Public traces", title_justify="left")
    for heading in ("name", "what it is", "licence", "address"):
        table.add_column(heading, no_wrap=heading == "name", overflow="fold")
    for name, trace in TRACES.items():
        table.add_row(name, trace.description, trace.license, trace.url)
    console().print(table)


@app.command()
def formats() -> None:
    """List the file formats that can be read."""
    table = Table(title="Trace formats, found by header or first object", title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("how to recognise it", overflow="fold")
    for name, about in workload.formats().items():
        table.add_row(name, about.replace("[", r"\["))
    console().print(table)


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="As in `sgym traces list`.")]) -> None:
    """Download a public trace once, into the user's cache, and check it."""
    screen = console()
    with screen.status(f"Fetching {name} ..."):
        path = fetch_trace(name)
    screen.print(f"{path}: use it as --trace {name}", soft_wrap=True)


@app.command()
def show(
    file: Annotated[str, typer.Argument(help="A file, or the name of a fetched trace.")],
    file_format: Annotated[
        str, typer.Option("--format", help="As in `sgym traces formats`.")
    ] = "auto",
    time_unit: Annotated[str, typer.Option(help="auto, s, ms, us, ns or datetime.")] = "auto",
) -> None:
    """Read a trace and say what is in it, and what was left out."""
    screen = console()
    path: Path = workload.resolve_trace(file)
    trace = workload.read_trace(path, file_format, time_unit=time_unit)
    screen.print(str(trace.report), markup=False, soft_wrap=True)
    table = Table()
    for heading in ("", "mean", *(f"{rank} %" for rank in QUANTILES)):
        table.add_column(heading, justify="right" if heading else "left")
    columns = {"prompt tokens": trace.table["prompt"], "output tokens": trace.table["output"]}
    gaps = np.diff(trace.table["arrival"].to_numpy())
    if len(gaps) and np.isfinite(gaps).all():
        columns["seconds between arrivals"] = gaps
    for name, values in columns.items():
        numbers = np.asarray(values, np.float64)
        found = np.percentile(numbers, QUANTILES)
        table.add_row(name, f"{numbers.mean():.5g}", *(f"{value:.5g}" for value in found))
    screen.print(table)
    if "seconds between arrivals" in columns and gaps.mean() > 0:
        screen.print(
            f"{1 / gaps.mean():.4g} requests per second; the gaps' coefficient of variation is "
            f"{gaps.std() / gaps.mean():.3g}"
        )
    if trace.prefixes is not None:
        share = workload.hit_share(trace.table["prompt"].to_numpy(), trace.prefixes)
        screen.print(
            f"{100 * share:.3g} % of the prompt tokens begin like an earlier prompt: what a prefix "
            f"cache that forgets nothing would hit (hash_ids of {trace.prefixes.block} tokens)",
            soft_wrap=True,
        )
