"""`sgym plot`: pictures of an episode."""

from pathlib import Path
from typing import Annotated

import typer

from sgym.cli.common import (
    DurationOption,
    ScenarioArgument,
    SetOption,
    TraceOption,
    console,
    load,
)
from sgym.cli.timeline import FromOption, PolicyOption, SeedOption, ToOption, logged_run
from sgym.comparison.store import make_folder
from sgym.viz.timeline_plot import check_name, draw_timeline

app = typer.Typer(help="Draw what happened in an episode.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep the name of the picture in the command, though there is only one so far."""


@app.command()
def timeline(
    scenario: ScenarioArgument,
    policy: PolicyOption = None,
    seed: SeedOption = 0,
    settings: SetOption = None,
    trace: TraceOption = None,
    duration: DurationOption = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write, .png, .pdf or .svg.")
    ] = Path("timeline.png"),
    start: FromOption = None,
    end: ToOption = None,
) -> None:
    """Draw batches, memory, queues and transfers of each instance over time."""
    screen = console()
    loaded = load(scenario, settings, trace, duration)
    check_name(out)
    make_folder(out.parent)
    result = logged_run(screen, loaded, policy, seed)
    screen.print(f"Written: {draw_timeline(result, out, start, end)}", soft_wrap=True)
