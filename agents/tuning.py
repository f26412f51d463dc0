"""Heuristics at their best: each one's own parameters and the engine's limits, by the same search.

A learned policy must be compared with these, not with defaults. Every heuristic has several
searches as long as the learner's one, each from its defaults with a seed of its own, and the best
counts. Where an optimum lies at the edge of a range, the search goes on with a wider one.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agents.entry import Entry, paired_by_rate
from agents.search import VALIDATION, Budget, Found, search
from sgym.config import Scenario
from sgym.policies.registry import builtin
from sgym.simulator import Simulator

EDGE = 0.02  # of a range: an optimum this near to its end lies at the edge
WIDER = 4.0  # by which a range is widened where it does
WIDENINGS = 3  # of a search, at most


@dataclass(frozen=True)
class Range:
    """Values that a parameter may have: 0 to 1 stands for low to high."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    fixed: tuple[bool, bool] = (False, False)
    """Whether the ends are natural limits, beyond which nothing is."""

    def value(self, place: float) -> float:
        """The value at a place between 0 and 1."""
        place = min(max(place, 0.0), 1.0)
        if self.log:
            found = self.low * (self.high / self.low) ** place
        else:
            found = self.low + (self.high - self.low) * place
        return round(found) if self.whole else found

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        if self.log:
            ratio = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            ratio = (value - self.low) / (self.high - self.low)
        return min(max(ratio, 0.0), 1.0)

    def widened(self, place: float) -> "Range":
        """With an end moved away, if the place lies at one that is no natural limit."""
        if place > 1.0 - EDGE and not self.fixed[1]:
            return replace(self, high=self.high * WIDER)
        if place < EDGE and not self.fixed[0]:
            return replace(self, low=self.low / WIDER)
        return self


RANGES = {
    "aging": Range(0.0, 400.0, fixed=(True, False)),
    "reservation": Range(0.0, 1.0, fixed=(True, False)),
    "expected_output": Range(16.0, 2048.0, log=True),
    "prefill_time": Range(1e-6, 1e-2, log=True),
    "prompt_weight": Range(0.0, 4.0, fixed=(True, False)),
    "output_weight": Range(0.0, 8.0, fixed=(True, False)),
    "period": Range(1.0, 1000.0, log=True, fixed=(True, False)),
    "pressure": Range(0.3, 1.0, fixed=(False, True)),
    "horizon": Range(1.0, 1000.0, log=True),
    "floor": Range(1.0, 4096.0, log=True, fixed=(True, False)),
    "threshold": Range(0.1, 200.0, log=True),
    "poll": Range(0.01, 20.0, log=True),
    "ttft_target": Range(0.02, 60.0, log=True),
    "tpot_target": Range(0.002, 2.0, log=True),
    "max_pending": Range(64.0, 262144.0, log=True),
    "max_local_prefill": Range(1.0, 65536.0, log=True),
    "prefill_batch": Range(64.0, 65536.0, log=True),
    "waiting_share": Range(0.001, 1.0, log=True, fixed=(False, True)),
}
"""Of parameters of built-in policies; others keep their defaults."""


def engine_ranges(scenario: Scenario) -> dict[str, Range]:
    """Limits of the engine that may be lowered: batch, token budget, chunk."""
    limits = scenario.engine
    most = float(limits.max_num_batched_tokens)
    return {
        "max_num_seqs": Range(4.0, limits.max_num_seqs, True, True, (True, True)),
        "max_num_batched_tokens": Range(64.0, most, True, True, (False, True)),
        "long_prefill_token_threshold": Range(32.0, most, True, True, (False, True)),
    }


@dataclass(frozen=True)
class Tuned:
    """A heuristic, and the best that its searches found for it."""

    policy: str
    router: str | None
    parameters: Mapping[str, float]
    engine: Mapping[str, float]
    validation: float
    default: float
    evaluations: int
    """Episodes per rate of all its searches, validation aside."""
    searches: int = 1
    first: Mapping[str, Mapping[str, float]] | None = None
    """Parameters and engine that the first search found, if a later one found better."""

    @property
    def as_first_found(self) -> "Tuned":
        """As the first search left it, which is what a learner starts from."""
        return self if self.first is None else replace(self, **self.first)

    @property
    def label(self) -> str:
        """Policy or policy@router."""
        return self.policy if self.router is None else f"{self.policy}@{self.router}"

    @property
    def overrides(self) -> dict[str, Any]:
        """What makes a scenario use it."""
        return overrides_of(self.policy, self.router, self.parameters, self.engine)


def overrides_of(
    policy: str,
    router: str | None,
    parameters: Mapping[str, float],
    engine: Mapping[str, float],
) -> dict[str, Any]:
    """Overrides of a scenario, so that its own policy is this one."""
    changes: dict[str, Any] = {"policy": {"name": policy, **parameters}}
    changes |= {f"engine.{name}": int(value) for name, value in engine.items()}
    if router is not None:
        changes["cluster.router"] = router
    return changes


class Tuner:
    """Scores candidates of one heuristic.

    Args:
        entry: scenario and rates.
        policy: its name, or name@router.
        jobs: threads.
    """

    def __init__(self, entry: Entry, policy: str, jobs: int) -> None:
        self.entry, self.jobs = entry, jobs
        self.policy, _, router = policy.partition("@")
        self.router = router or None
        scenario = entry.loaded(entry.rates[0])
        own = builtin(self.policy).parameters
        self.ranges = {name: RANGES[name] for name in own if name in RANGES}
        self.num_own = len(self.ranges)
        if entry.env != "sgym/Router-v0":  # a router sets no limits, so its rivals do not either
            self.ranges |= engine_ranges(scenario)
        places = [self.ranges[name].place(own[name]) for name in list(self.ranges)[: self.num_own]]
        self.start = np.array(places + [1.0] * (len(self.ranges) - self.num_own))

    def named(self, places: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
        """Own parameters and engine limits at these places."""
        pairs = zip(self.ranges.items(), places, strict=True)
        values = {name: ranges.value(float(place)) for (name, ranges), place in pairs}
        names = list(values)
        own = {name: values[name] for name in names[: self.num_own]}
        return own, {name: values[name] for name in names[self.num_own :]}

    def score(self, candidates: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Smooth goodput, mean over rates, (P, S)."""

        def one(places: np.ndarray) -> np.ndarray:
            changes = overrides_of(self.policy, self.router, *self.named(places))
            return run_heuristic(self.entry, changes, seeds)

        with ThreadPoolExecutor(self.jobs) as pool:
            return np.stack(list(pool.map(one, candidates)))

    def widen(self, found: Found) -> bool:
        """Widen the ranges at whose ends the optimum lies; returns whether there were some."""
        pairs = zip(self.ranges.items(), found.best, strict=True)
        wider = {name: ranges.widened(float(place)) for (name, ranges), place in pairs}
        changed = wider != self.ranges
        values = self.named(found.best)
        self.ranges = wider
        every = {**values[0], **values[1]}
        self.start = np.array([wider[name].place(every[name]) for name in wider])
        return changed


def run_heuristic(entry: Entry, changes: Mapping[str, Any], seeds: Sequence[int]) -> np.ndarray:
    """Smooth goodput of a heuristic, mean over the rates, (S,)."""
    values: list[np.ndarray] = []
    for rate in entry.rates:
        simulator = Simulator(entry.loaded(rate, changes), track=False)
        values.append(np.array([_episode(simulator, seed) for seed in seeds]))
    return paired_by_rate(values)


def _episode(simulator: Simulator, seed: int) -> float:
    simulator.reset(seed)
    return float(simulator.run().summary["smooth_goodput"])


def tune(entry: Entry, policy: str, jobs: int = 1, kept: Tuned | None = None) -> Tuned:
    """The best that the searches of a heuristic find.

    Args:
        entry: scenario, rates, how many searches, and how long each is.
        policy: its name, or name@router.
        jobs: threads.
        kept: what fewer searches found; the others are added.
    """
    tuned = kept or _searched(entry, policy, jobs, entry.search)
    for number in range(tuned.searches, entry.searches):
        budget = entry.search.model_copy(update={"seed": entry.search.seed + number})
        tuned = _better(tuned, _searched(entry, policy, jobs, budget))
    return tuned


def _better(tuned: Tuned, found: Tuned) -> Tuned:
    """Which of two is better on validation, with the evaluations of both."""
    counts = {
        "evaluations": tuned.evaluations + found.evaluations,
        "searches": tuned.searches + found.searches,
    }
    if found.validation <= tuned.validation:
        return replace(tuned, **counts)
    first = tuned.first or {"parameters": tuned.parameters, "engine": tuned.engine}
    return replace(found, first=first, **counts)


def _searched(entry: Entry, policy: str, jobs: int, budget: Budget) -> Tuned:
    """One search from the defaults, with wider ranges as long as that helps."""
    tuner = Tuner(entry, policy, jobs)
    if not tuner.ranges:  # it has nothing to tune
        checks = range(VALIDATION, VALIDATION + budget.validation)
        value = float(tuner.score(tuner.start[None], checks).mean())
        return Tuned(tuner.policy, tuner.router, {}, {}, value, value, budget.evaluations)
    found = search(tuner.score, tuner.start, budget, bounds=(0.0, 1.0), name=policy)
    default, spent, values = found.curve[0][2], budget.evaluations, tuner.named(found.best)
    score = found.score
    for _ in range(WIDENINGS):
        if not tuner.widen(found):
            break
        found = search(tuner.score, tuner.start, budget, bounds=(0.0, 1.0), name=f"{policy}, wider")
        spent += budget.evaluations
        if found.score <= score:
            break
        score, values = found.score, tuner.named(found.best)
    return Tuned(tuner.policy, tuner.router, *values, score, default, spent)
