"""`sgym run`: one episode under one policy, summed up."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sgym.cli.common import (
    DurationOption,
    ScenarioArgument,
    SetOption,
    TraceOption,
    compiling,
    console,
    import_from_here,
    load,
    say_note,
    warnings_as_notes,
)
from sgym.comparison.store import make_folder
from sgym.errors import PolicyError
from sgym.export import resolve, simulate
from sgym.preflight import notes
from sgym.simulator import Result

GROUPS: dict[str, tuple[str, ...]] = {
    "worth": (
        "smooth_goodput", "slo_attainment", "goodput_tok_s", "goodput_req_s", "throughput_tok_s",
        "qoe_mean", "fairness_jain",
    ),
    "requests": (
        "num_requests", "request_rate", "num_backlog", "num_finished", "num_unfinished",
        "num_rejected", "num_refused",
    ),
    "latency": (
        "ttft_mean", "ttft_p50", "ttft_p99", "tpot_mean", "tpot_p50", "tpot_p99", "tbt_mean",
        "tbt_p99", "e2e_mean", "e2e_p50", "e2e_p99", "idle_latency_mean", "idle_latency_p99",
    ),
    "engine": (
        "iterations", "mean_batch_tokens", "mean_running", "busy_share", "kv_utilisation",
        "num_preemptions", "num_migrations", "recomputed_tokens",
    ),
}  # fmt: skip
"""Which numbers of a summary stand together; those of user classes come after them."""


def run(
    scenario: ScenarioArgument,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Name (`sgym list policies`), bundle:FOLDER, module:Class; left out: scenario's."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    settings: SetOption = None,
    trace: TraceOption = None,
    duration: DurationOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for requests.parquet and summary.json.")
    ] = None,
) -> None:
    """Simulate one episode and sum it up."""
    screen = console()
    import_from_here()
    if seed < 0:
        raise PolicyError(f"--seed must be at least 0, got {seed}")
    loaded = load(scenario, settings, trace, duration)
    name = policy or loaded.policy.name
    resolve(name)
    if out is not None:
        make_folder(out)  # before the work, not after it
    known = notes(loaded, [name])
    for note in known:
        say_note(screen, note)
    with warnings_as_notes(screen, known), compiling(screen):
        result = simulate(loaded, policy, seed)
    print_summary(screen, result, name)
    if out is not None:
        written = save(result, name, out)
        screen.print(f"Written: {', '.join(str(path) for path in written)}", soft_wrap=True)


def print_summary(screen: Console, result: Result, policy: str) -> None:
    """All numbers of an episode, side by side in groups."""
    title = f"{result.scenario.name} under {policy}, seed {result.seed}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    summary = result.summary
    shown = {name for group in GROUPS.values() for name in group}
    groups = {
        heading: [name for name in group if name in summary] for heading, group in GROUPS.items()
    }
    groups["classes"] = [name for name in summary if "." in name and name not in shown]
    for heading, members in groups.items():
        if members:
            table.add_column(heading, no_wrap=True)
            table.add_column("", justify="right", no_wrap=True)
    columns = [members for members in groups.values() if members]
    for index in range(max(map(len, columns))):
        cells: list[str] = []
        for members in columns:
            name = members[index] if index < len(members) else None
            cells += ["", ""] if name is None else [name, short(summary[name])]
        table.add_row(*cells)
    screen.print(table)


def short(value: float) -> str:
    """A number for people: five significant digits."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if value == round(value) else f"{value:.5g}"


def save(result: Result, policy: str, folder: Path) -> list[Path]:
    """Write requests.parquet and summary.json, each in one piece."""
    make_folder(folder)
    parquet, summary = folder / "requests.parquet", folder / "summary.json"
    draft = folder / ".requests.tmp"
    result.requests.to_parquet(draft, index=False)
    os.replace(draft, parquet)
    content = {
        "policy": policy,
        "seed": result.seed,
        "window_s": list(result.window),
        "summary": _finite(result.summary),
        "scenario": result.scenario.model_dump(mode="json"),
    }
    draft = folder / ".summary.tmp"
    draft.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(draft, summary)
    return [parquet, summary]


def _finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: what is not known is null."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
