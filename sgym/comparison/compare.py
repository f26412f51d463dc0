"""`compare`: policies side by side on the same workloads, at the loads where order matters."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgym.comparison.changes import changes
from sgym.comparison.knee import Knee, find_knee
from sgym.comparison.runner import Metrics, Progress, Runner
from sgym.comparison.runs import Task
from sgym.comparison.store import Store, make_folder
from sgym.comparison.table import summary_table
from sgym.config import Scenario
from sgym.errors import PolicyError, ScenarioError
from sgym.export import Stored, resolve
from sgym.export.names import AnyPolicy
from sgym.export.zoo import trained_on
from sgym.loading import load_scenario
from sgym.simulator import Source

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_POLICIES = (
    "vllm",
    "vllm-v0",
    "sarathi",
    "orca",
    "spf",
    "sjf",
    "srpt",
    "edf",
    "llf",
    "vtc",
)
"""Heuristics that are compared when nobody says: the first is the reference of the others."""


def default_policies(scenario: Scenario) -> tuple[str, ...]:
    """DEFAULT_POLICIES, and what the zoo has for this scenario, whatever its load."""
    trained = trained_on(scenario.name)
    if trained:
        load = {"workload": scenario.workload, "episode": scenario.episode}
        if load_scenario(scenario.name).model_copy(update=load) != scenario:
            trained = ()  # they know another engine
    return (*DEFAULT_POLICIES, *trained)


@dataclass(frozen=True)
class Comparison:
    """Policies that were compared."""

    scenario: Scenario
    policies: tuple[str, ...]
    rows: "pd.DataFrame"
    """A row per run: policy, rate, seed and all metrics of `Result.summary`."""
    table: "pd.DataFrame"
    """A row per (rate, policy): means over seeds, intervals, differences to the first policy."""
    level: float
    """Probability that an interval covers the mean."""
    knee: Knee | None
    """How the rates were found, if nobody gave them."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """What was changed in the scenario: dotted names to values."""

    def figure(self, path: str | Path) -> Path:
        """Draw smooth goodput, attainment and throughput over the rate into a PNG (or PDF, SVG)."""
        from sgym.viz.load_curve import draw_load_curve

        title = f"{self.title}; bands are {100 * self.level:g} % intervals of the mean over seeds"
        return draw_load_curve(self.table, self.policies, title, Path(path))

    @property
    def title(self) -> str:
        """What was compared, in one line."""
        seeds, duration = self.rows["seed"].nunique(), self.scenario.episode.duration
        warm_start = self.scenario.episode.warm_start
        before = f" after {warm_start:g} s of warm start" if warm_start else ", starting empty"
        name = ", ".join((self.scenario.name, *changes(self.overrides)))
        runs = "1 seed of" if seeds == 1 else f"{seeds} seeds of"
        each = "" if seeds == 1 else " each"
        return f"{name}: {runs} {duration:g} s{each}{before}"

    def save(self, folder: str | Path) -> list[Path]:
        """Write runs.csv (a row per run), table.csv and figure.png, each in one piece."""
        folder = make_folder(Path(folder))
        written = []
        for name, frame in (("runs.csv", self.rows), ("table.csv", self.table)):
            draft = folder / f".{name}.tmp"
            frame.to_csv(draft, index=False)
            os.replace(draft, folder / name)
            written.append(folder / name)
        return [*written, self.figure(folder / "figure.png")]


def compare(
    scenario: Source,
    policies: Sequence[AnyPolicy] | None = None,
    rates: Sequence[float] | None = None,
    seeds: int | Iterable[int] = 8,
    jobs: int = 1,
    overrides: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    level: float = 0.95,
    progress: Progress | None = None,
    on_knee: Callable[[Knee], None] | None = None,
) -> Comparison:
    """Simulate every policy at every rate on the same seeds.

    The result is the same whatever `jobs` is.

    Args:
        scenario: name, path, dict or Scenario.
        policies: built-in names, `zoo:NAME`, `bundle:FOLDER`, `module:Class`, classes or
            objects; the first is the reference. None = `default_policies`.
        rates: requests per second; None = around the knee, which is searched for.
        seeds: how many (0, 1, ...), or which.
        jobs: processes; above 1, a script needs the usual `if __name__ == "__main__":` guard.
        overrides: dotted names of the scenario to values.
        out: folder that keeps finished runs, so that a later call continues; None = none. Runs of
            policies that are not named by a string are not kept.
        level: probability that an interval covers the mean.
        progress: is called with what is going on, runs done and runs in all.
        on_knee: is called with the knee once it is found, if no rates are given.

    Raises:
        ScenarioError, PolicyError, TraceError, ProfileError: says what is wrong.
    """
    loaded = load_scenario(scenario, overrides)
    named = labelled(default_policies(loaded) if policies is None else policies)
    numbers = _seeds(seeds)
    store = Store(None if out is None else Path(out), loaded)
    knee = None
    with Runner(loaded, store, jobs, progress) as runner:
        if rates is None:
            knee = find_knee(runner)
            rates = knee.rates
            if on_knee is not None:
                on_knee(knee)
        tasks = [
            Task(label, policy, rate, seed)
            for rate in _checked_rates(rates)
            for seed in numbers
            for label, policy in named.items()
        ]
        results = runner.metrics(tasks, "Comparing")
    rows = _frame(tasks, results)
    labels = tuple(named)
    table = summary_table(rows, labels, level)
    return Comparison(loaded, labels, rows, table, level, knee, overrides or {})


def labelled(policies: Sequence[AnyPolicy]) -> dict[str, Any]:
    """Policies by the label they have in tables; each is loaded once to see that it can be.

    Raises:
        PolicyError: none, an unknown one, or two of the same label.
    """
    if isinstance(policies, str) or not policies:
        raise PolicyError(f"policies must be a list of at least one, got {policies!r}")
    named: dict[str, Any] = {}
    for policy in policies:
        found = resolve(policy)
        named_so = found.label if isinstance(found, Stored) else policy
        label = named_so if isinstance(named_so, str) else getattr(policy, "__name__", None)
        label = label or type(policy).__name__
        if label in named:
            raise PolicyError(f"policies must differ, but {label!r} is there twice")
        named[label] = named_so
    return named


def _frame(tasks: Sequence[Task], results: Sequence[Metrics]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        [
            {"policy": task.label, "rate": task.rate, "seed": task.seed, **metrics}
            for task, metrics in zip(tasks, results, strict=True)
        ]
    )


def _seeds(seeds: int | Iterable[int]) -> list[int]:
    if isinstance(seeds, int):
        if seeds < 1:
            raise ScenarioError(f"seeds must be at least 1, got {seeds}: 8 give a usable interval")
        return list(range(seeds))
    numbers = list(seeds)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise ScenarioError(f"seeds must be different whole numbers of at least 0, got {numbers}")
    return numbers


def _checked_rates(rates: Sequence[float]) -> list[float]:
    numbers = sorted({float(rate) for rate in rates})
    if not numbers or not all(0 < rate < float("inf") for rate in numbers):
        raise ScenarioError(f"rates must be requests per second above 0, got {list(rates)}")
    return numbers
