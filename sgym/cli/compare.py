"""`sgym compare`: which scheduler serves this load best, and why."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sgym.cli.common import (
    DEFAULT_SCENARIO,
    DurationOption,
    ScenarioArgument,
    SetOption,
    TraceOption,
    compiling,
    console,
    import_from_here,
    names,
    numbers,
    overrides_of,
    say_note,
    warnings_as_notes,
)
from sgym.comparison import Comparison, Knee, default_policies
from sgym.comparison import compare as compare_policies
from sgym.comparison.changes import folder_name
from sgym.comparison.compare import labelled
from sgym.comparison.runs import warm_up
from sgym.config import Scenario
from sgym.export import is_bundle
from sgym.loading import load_scenario
from sgym.preflight import alike, notes

if TYPE_CHECKING:
    import pandas as pd

INTERRUPTED = 130
RESULTS = Path("sgym-results")
FOLDED = 12  # columns that a policy's name has at least, if it is that long
WIDEST = 10_000  # columns of a console on which any table fits


class Extra(NamedTuple):
    """A column that is left out where the console is too narrow."""

    heading: str
    cell: Callable[[Any], str]


EXTRAS = (
    Extra("on time", lambda row: f"{100 * row['slo_attainment']:.1f} %"),
    Extra("tok/s", lambda row: f"{row['throughput_tok_s']:.0f}"),
    Extra("TTFT\np99 s", lambda row: f"{row['ttft_p99']:.2f}"),
    Extra("TPOT\np99 s", lambda row: f"{row['tpot_p99']:.3f}"),
    Extra("preempt.", lambda row: f"{row['num_preemptions']:.0f}"),
)
"""From left to right; the last is left out first."""


def compare(
    scenario: ScenarioArgument = DEFAULT_SCENARIO,
    policies: Annotated[
        str | None,
        typer.Option(
            help="Names (`sgym list policies`), bundle:FOLDER, module:Class; first: the reference. "
            "Left out: heuristics, and what the zoo has for this scenario."
        ),
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option(help="Requests per second, such as 5,6,7. Left out: around the knee."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds per policy and rate.")] = 16,
    jobs: Annotated[int | None, typer.Option(help="Processes; left out: one per core.")] = None,
    trace: TraceOption = None,
    settings: SetOption = None,
    duration: DurationOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the results; left out: sgym-results/<scenario>-<what was changed>."
        ),
    ] = None,
) -> None:
    """Compare schedulers on the same requests: a table, a figure and CSV files.

    A command that was interrupted continues where it stopped when it is given again.
    """
    screen = console()
    import_from_here()
    overrides = overrides_of(settings, trace, duration)
    loaded = load_scenario(scenario, overrides)
    chosen = default_policies(loaded) if policies is None else names(policies)
    wanted = list(labelled(chosen))
    given = None if rates is None else numbers(rates, "--rates")
    screen.print(f"[bold]{loaded.name}[/]: {_setting(loaded)}")
    workers = cores() if jobs is None else jobs
    known = [*notes(loaded, wanted), *(alike(loaded) if seeds > 1 else [])]
    for note in known:
        say_note(screen, note)
    folder = out or RESULTS / folder_name(loaded.name, overrides)
    try:
        with warnings_as_notes(screen, known):
            result = _compare(screen, loaded, overrides, wanted, given, seeds, workers, folder)
            written = result.save(folder)
    except KeyboardInterrupt:
        screen.print(
            f"\nInterrupted. What was finished is in {folder}; the same command continues."
        )
        raise typer.Exit(INTERRUPTED) from None
    print_table(screen, result)
    screen.print(f"Written: {', '.join(str(path) for path in written)}", soft_wrap=True)


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _compare(
    screen: Console,
    scenario: Scenario,
    overrides: Mapping[str, Any],
    policies: list[str],
    rates: list[float] | None,
    seeds: int,
    jobs: int,
    folder: Path,
) -> Comparison:
    with compiling(screen):
        bundles = [policy for policy in policies if is_bundle(policy)]
        own = [policy for policy in policies if ":" in policy and policy not in bundles]
        warm_up(bool(own), bool(bundles))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), console=screen, transient=True) as bar:
        line = bar.add_task("", total=None)

        def show(doing: str, done: int, total: int) -> None:
            bar.update(line, description=doing, completed=done, total=total)

        def say_knee(knee: Knee) -> None:
            bar.print(str(knee), soft_wrap=True)

        return compare_policies(
            scenario,
            policies,
            rates,
            seeds,
            jobs,
            overrides,
            out=folder,
            progress=show,
            on_knee=say_knee,
        )


def _setting(scenario: Scenario) -> str:
    """What is simulated, in one line."""
    cluster, workload = scenario.cluster, scenario.workload
    machine = (
        "a linear latency model"
        if scenario.latency.linear is not None
        else f"{cluster.model} on {cluster.num_instances * cluster.tp} x {cluster.gpu}"
    )
    if workload.trace is not None:
        load = f"trace {Path(workload.trace).name}"
    else:
        load = " + ".join(
            part.dataset or f"lengths around {part.prompt}/{part.output}"
            for part in workload.lengths
        )
    return f"{machine}, {load}, {scenario.episode.duration:g} s"


def print_table(screen: Console, result: Comparison) -> None:
    """The comparison as a table, and what it says in a sentence."""
    folding = max(0, max(map(len, result.policies)) - FOLDED)
    roomy = screen.options.update(width=WIDEST)
    table = _table(result, 0)
    for columns in range(1, len(EXTRAS) + 1):
        wider = _table(result, columns)
        if Measurement.get(screen, roomy, wider).maximum - folding > screen.width:
            break
        table = wider
    screen.print(table)
    reference = result.policies[0]
    for rate in sorted(set(result.table["rate"])):
        screen.print(verdict(result.table, rate, reference), soft_wrap=True)


def _table(result: Comparison, columns: int) -> Table:
    """The table with so many of the extra columns."""
    reference = result.policies[0]
    table = Table(title=escape(result.title), title_justify="left", caption_justify="left")
    table.caption = _footnote(result, columns)
    table.add_column("rate", justify="right", no_wrap=True)
    table.add_column("policy", overflow="fold")
    for heading in (
        "smooth goodput\ntok/s",
        f"less\n{reference if len(reference) <= FOLDED else 'the first'}",
        *(extra.heading for extra in EXTRAS[:columns]),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for rate, rows in result.table.groupby("rate"):
        records: list[dict[Any, Any]] = rows.to_dict("records")
        best = max(row["smooth_goodput"] for row in records)
        for index, row in enumerate(records):
            style = "bold" if row["smooth_goodput"] == best else ""
            cells = *_cells(row, reference), *(extra.cell(row) for extra in EXTRAS[:columns])
            table.add_row(f"{rate:g}" if index == 0 else "", *cells, style=style)
        table.add_section()
    return table


def _footnote(result: Comparison, columns: int) -> str:
    """What the columns mean, and which of them did not fit."""
    text = (
        f"Means over seeds with {100 * result.level:g} % intervals. * = the difference to "
        f"{result.policies[0]} on the same seeds is not 0 at that level; no correction for "
        "comparing many."
    )
    if columns:
        text += (
            " On time: share of requests with every token on time (unfinished ones count as not)."
        )
    if missing := [extra.heading.replace("\n", " ") for extra in EXTRAS[columns:]]:
        text += f" Too narrow for {', '.join(missing)}: table.csv has all columns."
    return text


def _cells(row: Any, reference: str) -> list[str]:
    """Cells of the columns that are always there, after the rate."""
    star = "* " if row["significant"] else ""
    return [
        row["policy"],
        f"{row['smooth_goodput']:.1f} {_plus_minus(row, 'smooth_goodput')}",
        ""
        if row["policy"] == reference
        else f"{star}{row['difference']:+.1f} {_plus_minus(row, 'difference')}",
    ]


def _plus_minus(row: Any, name: str) -> str:
    half = row[f"{name}_high"] - row[name]
    return f"± {half:.1f}" if half == half else "± ?"


def verdict(table: "pd.DataFrame", rate: float, reference: str) -> str:
    """Which policy earns most at a rate, and what it does otherwise than the reference."""
    rows = table[table["rate"] == rate].set_index("policy")
    best = str(rows["smooth_goodput"].idxmax())
    row, base = (rows.loc[name].to_dict() for name in (best, reference))
    head = f"At {rate:g} requests/s [bold]{best}[/] earns most"
    if best == reference:
        return f"{head}."
    share = (
        f" ({100 * row['difference'] / base['smooth_goodput']:.1f} %)"
        if base["smooth_goodput"] > 0
        else ""
    )
    chance = "" if row["significant"] else ", which may be chance"
    idle, idle_base = row["idle_latency_mean"], base["idle_latency_mean"]
    return (
        f"{head}: {row['difference']:.1f} tokens/s{share} more than {reference}{chance}; its "
        f"readers wait {idle:.2f} s on average for tokens that are due, against {idle_base:.2f} s, "
        f"half of them {row['ttft_p50']:.2f} s or less for the first token, against "
        f"{base['ttft_p50']:.2f} s{_preemptions(row, base)}."
    )


def _preemptions(row: Any, base: Any) -> str:
    counts = row["num_preemptions"], base["num_preemptions"]
    return f"; {counts[0]:.0f} against {counts[1]:.0f} preemptions" if max(counts) >= 1 else ""
