"""Where each metric sends an optimiser: the same scheduler, tuned for each, measured by all."""

import hashlib
import inspect
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents.entry import Entry
from agents.search import HELD_OUT, Budget, search
from agents.tuning import Tuner, overrides_of
from sgym import Simulator
from sgym.metrics import mean_interval

METRICS = {
    "SLO attainment": "slo_attainment",
    "goodput": "goodput_tok_s",
    "throughput": "throughput_tok_s",
    "QoE": "qoe_mean",
    "smooth goodput": "smooth_goodput",
}
"""What is optimised, and its column in a summary."""
SCENARIO, RATES = "llama8b-a100-mixed", (7.1, 8.5)
"""Three kinds of users under tight memory; the peak of stock vLLM, and 1.2 times that."""
POLICY = "spf"
"""Shortest prompt first: aging, reservation, batch, token budget and chunk are tuned."""


def entry(budget: Budget, duration: float) -> Entry:
    """What is tuned, and for how long."""
    return Entry(
        about="one scheduler for each metric",
        scenario=SCENARIO,
        overrides={"episode.duration": duration, "workload.prediction.kind": "none"},
        rates=RATES,
        heuristics=(POLICY,),
        search=budget,
    )


class Objective(Tuner):
    """Scores candidates by a metric.

    Args:
        what: from `entry`.
        column: of a summary.
        jobs: threads.
    """

    def __init__(self, what: Entry, column: str, jobs: int) -> None:
        super().__init__(what, POLICY, jobs)
        self.column = column

    def summaries(self, places: np.ndarray, seeds: Sequence[int]) -> list[list[dict[str, Any]]]:
        """Of each rate and seed."""
        changes = overrides_of(self.policy, self.router, *self.named(places))
        found: list[list[dict[str, Any]]] = []
        for rate in self.entry.rates:
            simulator = Simulator(self.entry.loaded(rate, changes), track=False)
            found.append([])
            for seed in seeds:
                simulator.reset(seed)
                found[-1].append(simulator.run().summary)
        return found

    def score(self, candidates: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """The metric, mean over rates, (P, S)."""

        def one(places: np.ndarray) -> np.ndarray:
            rows = self.summaries(places, seeds)
            return np.mean([[row[self.column] for row in rate] for rate in rows], axis=0)

        with ThreadPoolExecutor(self.jobs) as pool:
            return np.stack(list(pool.map(one, candidates)))


def tune_for(
    metric: str, budget: Budget, duration: float, seeds: int, kept: Path, jobs: int
) -> pd.DataFrame:
    """A row per held-out seed of the scheduler that is best by a metric; kept in a file."""
    source = inspect.getsource(__import__(__name__))
    basis = repr((metric, budget, duration, seeds, source))
    digest = hashlib.sha256(basis.encode()).hexdigest()[:12]
    file = kept / f"{metric.replace(' ', '-')}_{digest}.csv"
    if file.is_file():
        return pd.read_csv(file)
    kept.mkdir(parents=True, exist_ok=True)
    objective = Objective(entry(budget, duration), METRICS[metric], jobs)
    found = search(
        objective.score, objective.start, budget, file.with_suffix(".state"), (0.0, 1.0), metric
    )
    own, limits = objective.named(found.best)
    rates = objective.summaries(found.best, range(HELD_OUT, HELD_OUT + seeds))
    rows = [
        {"optimised_for": metric, "seed": place, **own, **limits}
        | {
            name: float(np.mean([rate[place][column] for rate in rates]))
            for name, column in METRICS.items()
        }
        for place in range(seeds)
    ]
    frame = pd.DataFrame(rows)
    part = file.with_suffix(".part")
    frame.to_csv(part, index=False)
    part.replace(file)
    file.with_suffix(".state").unlink(missing_ok=True)
    return frame


def cross(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per objective and measure: its mean, interval, and difference to who optimises it."""
    table = []
    for metric, group in rows.groupby("optimised_for", sort=False):
        for name in METRICS:
            own = rows[rows["optimised_for"] == name][name].to_numpy()
            values = group[name].to_numpy()
            mean, low, high = mean_interval(values)
            change = mean_interval(100.0 * (values - own) / abs(own.mean()))
            row = {"optimised_for": metric, "measured_by": name, "seeds": len(values)}
            row |= {"mean": mean, "low": low, "high": high}
            row |= {"percent": change[0], "percent_low": change[1], "percent_high": change[2]}
            table.append(row)
    return pd.DataFrame(table)
