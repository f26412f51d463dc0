"""Many runs for an experiment: in parallel, with a progress bar, and resumable.

A cell is a scenario under a policy, at some rates and on some seeds. Each finished cell is a file,
written under another name first; its name holds a digest of all that its rows depend on, so that a
later call reads what is there and computes the rest.
"""

import hashlib
import inspect
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from agents.progress import progress
from sgym import Simulator
from sgym.comparison.runs import Task, at_rate, become_worker, warm_up
from sgym.comparison.store import Store
from sgym.config import Scenario
from sgym.simulator import Result

Measure = Callable[[Result], Mapping[str, float]]
"""What is kept of a run."""


class Cell(NamedTuple):
    """Runs that differ in rate and seed alone."""

    labels: dict[str, str | int | float]  # columns of its rows
    scenario: Scenario
    policy: str
    rates: tuple[float, ...]  # requests per second
    seeds: int  # 0, 1, ...
    log: tuple[str, ...] = ()  # what `measure` needs


def run_cell(cell: Cell, measure: Measure) -> pd.DataFrame:
    """A row per rate and seed: labels, rate, seed, and what `measure` says."""
    rows = []
    for rate in cell.rates:
        simulator = Simulator(
            at_rate(cell.scenario, rate), 0, cell.policy, log=cell.log, track=False
        )
        for seed in range(cell.seeds):
            simulator.reset(seed)
            rows.append({**cell.labels, "rate": rate, "seed": seed, **measure(simulator.run())})
    return pd.DataFrame(rows)


def file_of(cell: Cell, measure: Measure, folder: Path) -> Path:
    """Where the rows of a cell are kept."""
    run = Store(None, cell.scenario).key(Task("", cell.policy, cell.rates[0], 0))
    source = inspect.getsource(sys.modules[measure.__module__])
    basis = (run, cell.labels, cell.rates, cell.seeds, cell.log, measure.__name__, source)
    digest = hashlib.sha256(repr(basis).encode()).hexdigest()[:12]
    parts = (str(value).replace(" ", "-").replace("/", "-") for value in cell.labels.values())
    name = "_".join(parts)
    return folder / f"{name}_{digest}.csv"


def _run_and_keep(cell: Cell, measure: Measure, path: Path) -> None:
    rows = run_cell(cell, measure)
    draft = path.with_suffix(".part")
    rows.to_csv(draft, index=False)
    draft.replace(path)


def run_all(cells: Sequence[Cell], measure: Measure, folder: Path, jobs: int) -> pd.DataFrame:
    """The rows of all cells, in their order; those that `folder` already has are only read.

    Args:
        cells: what to simulate.
        measure: a function of a module, so that other processes find it.
        folder: is made if need be.
        jobs: processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [file_of(cell, measure, folder) for cell in cells]
    todo = [(cell, path) for cell, path in zip(cells, paths, strict=True) if not path.is_file()]
    tasks = [(cell, measure, path) for cell, path in todo]
    in_processes(_run_and_keep, tasks, jobs, "simulating", len(cells) - len(tasks))
    return pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)


def in_processes(
    function: Callable[..., None],
    tasks: Sequence[tuple[Any, ...]],
    jobs: int,
    title: str,
    done: int = 0,
    environments: bool = False,
) -> None:
    """Call a function with each of `tasks`, under a progress bar; Ctrl-C begins no further one.

    Args:
        function: of a module, so that other processes find it.
        tasks: its arguments.
        jobs: processes.
        title: of the bar.
        done: tasks that were finished before; the bar starts there.
        environments: whether tasks need the kernels of environments.
    """
    with progress(title, done + len(tasks), done) as advance:
        if jobs == 1 or not tasks:
            for task in tasks:
                function(*task)
                advance("")
            return
        warm_up(own_policy=False, bundle=environments)  # else every process compiles for itself
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(jobs, spawn, become_worker, (list(sys.path),))
        try:
            for future in as_completed([pool.submit(function, *task) for task in tasks]):
                future.result()
                advance("")
        finally:
            pool.shutdown(cancel_futures=True)


def save(frame: pd.DataFrame, path: Path) -> None:
    """Write a table in one piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".csv.part")
    frame.to_csv(draft, index=False, float_format="%.6g")
    draft.replace(path)


def save_figure(figure, path: Path) -> None:
    """Write a figure in one piece."""
    draft = path.with_name(f".{path.stem}.part.png")
    figure.savefig(draft, dpi=120)
    draft.replace(path)
