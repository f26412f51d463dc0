"""The knee of the load curve: the request rate at which a comparison of schedulers means something.

Far below it every scheduler keeps up, far above it queues grow whatever anyone does. Smooth goodput
peaks in between, so the search looks for the peak under one probe policy, on seeds of its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sgym.comparison.runner import Runner
from sgym.comparison.runs import Task
from sgym.config import Scenario
from sgym.errors import ScenarioError

FIRST_SEED = 990_001
"""The search uses seeds from here on: others than a comparison, so that it is not tuned on them."""
SEARCHED = 1800.0
"""Simulated seconds per rate that is tried: short windows need more seeds."""
FEWEST_SEEDS, MOST_SEEDS = 3, 24
AROUND = (0.7, 0.85, 1.0, 1.15, 1.3)
"""Rates of a comparison, relative to the knee."""
FIRST_GUESS = 4.0  # requests per second
STEP = 2.0  # factor between rates of the coarse search
REFINEMENTS = 3  # each halves the logarithm of that factor: the last is 9 %
MAX_STEPS = 14


@dataclass(frozen=True, slots=True)
class Knee:
    """Where smooth goodput peaks, and how that was found."""

    rate: float  # requests per second
    probe: str
    num_seeds: int
    tried: dict[float, float]  # rate -> mean smooth goodput, tokens/s

    @property
    def rates(self) -> tuple[float, ...]:
        """Rates for a comparison: below, at and above the knee."""
        return tuple(rounded(self.rate * factor) for factor in AROUND)

    def __str__(self) -> str:
        """One sentence for people."""
        rates = ", ".join(f"{rate:g}" for rate in self.rates)
        return (
            f"Smooth goodput under {self.probe} peaks near {self.rate:g} requests/s "
            f"({self.tried[self.rate]:.0f} tokens/s; {len(self.tried)} rates from "
            f"{min(self.tried):g} to {max(self.tried):g}, {self.num_seeds} seeds each): "
            f"comparing at {rates} requests/s, {AROUND[0]:g} to {AROUND[-1]:g} of it."
        )


def find_knee(runner: Runner, probe: str = "vllm") -> Knee:
    """Search for the rate at which smooth goodput under `probe` is highest.

    Args:
        runner: its scenario's own rate, if it has one, is where the search starts.
        probe: a policy's name.

    Raises:
        ScenarioError: there is none: smooth goodput only rises, or only falls.
    """
    scenario = runner.scenario
    tried: dict[float, float] = {}
    num_seeds = seeds_needed(scenario)

    def worth(rate: float) -> float:
        if rate not in tried:
            tasks = [Task(probe, probe, rate, FIRST_SEED + index) for index in range(num_seeds)]
            runs = runner.metrics(tasks, f"Looking for the knee, at {rate:g} requests/s")
            tried[rate] = sum(metrics["smooth_goodput"] for metrics in runs) / num_seeds
        return tried[rate]

    best = _climb(worth, rounded(scenario.workload.rate or FIRST_GUESS))
    factor = STEP
    for _ in range(REFINEMENTS):
        factor = math.sqrt(factor)
        best = max((rounded(best / factor), best, rounded(best * factor)), key=worth)
    return Knee(best, probe, num_seeds, dict(sorted(tried.items())))


def seeds_needed(scenario: Scenario) -> int:
    """Seeds for each rate of the search."""
    wanted = math.ceil(SEARCHED / scenario.episode.duration)
    return min(max(wanted, FEWEST_SEEDS), MOST_SEEDS)


def _climb(worth: Callable[[float], float], rate: float) -> float:
    """The best of rates that are STEP apart, starting at `rate` and going uphill."""
    up = worth(rounded(rate * STEP)) >= worth(rate)
    factor = STEP if up else 1 / STEP
    for _ in range(MAX_STEPS):
        following = rounded(rate * factor)
        if worth(following) < worth(rate):
            return rate
        rate = following
    way = "rises" if up else "falls"
    raise ScenarioError(
        f"smooth goodput has no peak over the request rate: it still {way} at {rate:g} per second; "
        "give the rates to compare at"
    )


def rounded(rate: float) -> float:
    """Two significant digits, three if the first is a 1: a rate that a person can type."""
    exponent = math.floor(math.log10(rate))
    digits = 2 if rate / 10**exponent < 2 else 1
    return round(rate, digits - exponent)
