"""`sgym timeline`: an episode as a trace that ui.perfetto.dev opens."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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
from sgym.config import Scenario
from sgym.errors import PolicyError
from sgym.export import resolve, simulate
from sgym.preflight import notes
from sgym.simulator import Result
from sgym.viz.cluster_log import LOGS
from sgym.viz.timeline import check_name, write_timeline

PolicyOption = Annotated[
    str | None,
    typer.Option(
        help="Name (`sgym list policies`), bundle:FOLDER, module:Class; left out: scenario's."
    ),
]
SeedOption = Annotated[int, typer.Option(help="Of everything random.")]
FromOption = Annotated[
    float | None,
    typer.Option("--from", metavar="S", help="Second of simulated time at which it begins."),
]
ToOption = Annotated[
    float | None, typer.Option("--to", metavar="S", help="Second at which it ends.")
]

HEAVY = 300e6  # bytes; beyond, a browser takes minutes or runs out of memory


def timeline(
    scenario: ScenarioArgument,
    policy: PolicyOption = None,
    seed: SeedOption = 0,
    settings: SetOption = None,
    trace: TraceOption = None,
    duration: DurationOption = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write, .json or .json.gz.")
    ] = Path("timeline.json"),
    start: FromOption = None,
    end: ToOption = None,
) -> None:
    """Write what a cluster does over time as a trace: open it in https://ui.perfetto.dev.

    Batches, KV memory, queues, hand-offs, migrations, preemptions and rejections, per instance.
    """
    screen = console()
    loaded = load(scenario, settings, trace, duration)
    check_name(out)  # before the work, not after it
    make_folder(out.parent)
    result = logged_run(screen, loaded, policy, seed)
    written = write_timeline(result, out, start, end)
    screen.print(
        f"Written: {written.path} ({megabytes(written.size)}, {written.events:,} events). "
        "Open it in https://ui.perfetto.dev",
        soft_wrap=True,
    )
    if written.size > HEAVY:
        say_note(screen, "that is much for a browser: write less of it with --from and --to")


def logged_run(screen: Console, scenario: Scenario, policy: str | None, seed: int) -> Result:
    """Simulate an episode with all that a timeline needs.

    Raises:
        PolicyError: there is no such policy, or the seed is negative.
    """
    import_from_here()
    if seed < 0:
        raise PolicyError(f"--seed must be at least 0, got {seed}")
    name = policy or scenario.policy.name
    resolve(name)
    known = notes(scenario, [name])
    for note in known:
        say_note(screen, note)
    with warnings_as_notes(screen, known), compiling(screen):
        return simulate(scenario, policy, seed, log=LOGS)


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
