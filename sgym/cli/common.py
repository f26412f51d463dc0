"""What all commands share: the console, the scenario options, notes before and during a run."""

import os
import sys
import threading
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from sgym.config import Scenario
from sgym.errors import ScenarioError
from sgym.loading import load_scenario
from sgym.preflight import notes

DEFAULT_SCENARIO = "qwen14b-l40s-assistants"
SLOW_START = 3.0  # seconds after which kernels are not being loaded but compiled
PIPE_WIDTH = 132  # columns when the output is no terminal

ScenarioArgument = Annotated[
    str, typer.Argument(help="Name (`sgym list scenarios`) or YAML file of a scenario.")
]
TraceOption = Annotated[
    str | None,
    typer.Option(help="Trace file, or name of a fetched one: replaces lengths and arrivals."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override, such as engine.max_num_seqs=64. Repeatable."
    ),
]
DurationOption = Annotated[
    float | None, typer.Option(help="Seconds of simulated time, instead of the scenario's.")
]


def console(stderr: bool = False) -> Console:
    """Where a command writes; wide enough for the tables when it is a pipe."""
    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_WIDTH
    return made


def load(
    source: str,
    settings: Sequence[str] | None = None,
    trace: str | None = None,
    duration: float | None = None,
) -> Scenario:
    """The scenario that a command line describes.

    Raises:
        ScenarioError: it does not exist or breaks a rule.
    """
    return load_scenario(source, overrides_of(settings, trace, duration))


def overrides_of(
    settings: Sequence[str] | None, trace: str | None, duration: float | None
) -> dict[str, Any]:
    """What a command line changes in a scenario: dotted names to values."""
    overrides = parse_settings(settings or ())
    if trace is not None:
        overrides["workload.trace"] = trace
    if duration is not None:
        overrides["episode.duration"] = duration
    return overrides


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Overrides from `key=value` texts; the value is read as YAML."""
    overrides: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ScenarioError(f"--set must be key=value, such as workload.rate=6, got {text!r}")
        try:
            overrides[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ScenarioError(f"--set {key}: {value!r} is not valid YAML: {error}") from None
    return overrides


def numbers(text: str, option: str) -> list[float]:
    """A list such as `5,6,7.5`."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ScenarioError(f"{option} must be numbers with commas between, got {text!r}") from None


def names(text: str) -> list[str]:
    """A list such as `vllm,spf`."""
    return [part.strip() for part in text.split(",") if part.strip()]


def import_from_here() -> None:
    """Let `module:Class` find modules of the current folder, as `python` itself would."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def say_notes(out: Console, scenario: Scenario, policies: Sequence[str]) -> None:
    """Print what should be known before these policies run: refused requests, extrapolation."""
    for note in notes(scenario, policies):
        say_note(out, note)


def say_note(out: Console, note: str) -> None:
    """Print one note."""
    out.print(f"[yellow]note:[/] {_escaped(note)}", soft_wrap=True)


@contextmanager
def warnings_as_notes(out: Console, known: Sequence[str] = ()) -> Generator[None]:
    """Print what is warned of inside as notes, each once, at its end; `known` ones are left out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        if not any(text in note for note in known):
            say_note(out, text)


@contextmanager
def compiling(out: Console) -> Generator[None]:
    """Say what takes so long if kernels are compiled inside: loading them takes far less."""
    message = "Compiling the simulator, once per installed version: about half a minute ..."
    timer = threading.Timer(SLOW_START, out.print, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
