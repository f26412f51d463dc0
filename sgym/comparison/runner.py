"""Carrying out runs: what finished before comes from the store, the rest from processes."""

import multiprocessing
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from types import TracebackType
from typing import Self

from sgym.comparison.runs import Finished, Task, become_worker, check_picklable, run, warm_up
from sgym.comparison.store import Store
from sgym.config import Scenario
from sgym.errors import ScenarioError
from sgym.export import is_bundle

AHEAD = 4  # tasks handed out per process, so that an interruption loses little

Metrics = dict[str, float]
Progress = Callable[[str, int, int], None]
"""Is called with what is going on, runs done and runs in all."""


class Runner:
    """Simulates tasks of one scenario in `jobs` processes; use it as a context manager."""

    def __init__(
        self, scenario: Scenario, store: Store, jobs: int = 1, progress: Progress | None = None
    ) -> None:
        if jobs < 1:
            raise ScenarioError(f"jobs must be at least 1, got {jobs}: it is a number of processes")
        self.scenario = scenario
        self._store, self._jobs, self._progress = store, jobs, progress
        self._pool: ProcessPoolExecutor | None = None
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def metrics(self, tasks: Sequence[Task], doing: str) -> list[Metrics]:
        """The summaries of all tasks, in their order.

        Args:
            tasks: what to simulate.
            doing: what this is for, for the progress bar.

        Raises:
            PolicyError: a policy cannot be sent to another process.
        """
        results = [self._store.find(task) for task in tasks]
        missing = [place for place, known in enumerate(results) if known is None]
        done = len(tasks) - len(missing)
        self._show(doing, done, len(tasks))
        for place, finished in self._run_all(tasks, missing):
            self._store.add(finished)
            self._pass_on(finished)
            results[place] = finished.metrics
            done += 1
            self._show(doing, done, len(tasks))
        return [known for known in results if known is not None]

    def _run_all(
        self, tasks: Sequence[Task], missing: Sequence[int]
    ) -> Iterator[tuple[int, Finished]]:
        """Missing places of `tasks` with what they were worth, in any order."""
        if not missing:
            return
        if self._jobs == 1:
            for place in missing:
                yield place, run(self.scenario, tasks[place])
            return
        check_picklable([tasks[place] for place in missing])
        pool = self._started_pool(tasks)
        queue = iter(missing)
        pending: dict[Future[Finished], int] = {}
        while True:
            while len(pending) < AHEAD * self._jobs and (place := next(queue, None)) is not None:
                pending[pool.submit(run, self.scenario, tasks[place])] = place
            if not pending:
                return
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield pending.pop(future), future.result()

    def _started_pool(self, tasks: Sequence[Task]) -> ProcessPoolExecutor:
        if self._pool is None:
            own, bundle = (
                (task.is_own for task in tasks),
                (is_bundle(task.policy) for task in tasks),
            )
            warm_up(any(own), any(bundle))  # else every process compiles for itself
            self._pool = ProcessPoolExecutor(
                self._jobs,
                multiprocessing.get_context("spawn"),
                initializer=become_worker,
                initargs=(list(sys.path),),
            )
        return self._pool

    def _pass_on(self, finished: Finished) -> None:
        """Warn in this process of what a run warned of, once."""
        for message in finished.warnings:
            if message not in self._said:
                self._said.add(message)
                warnings.warn(message, stacklevel=4)

    def _show(self, doing: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(doing, done, total)
