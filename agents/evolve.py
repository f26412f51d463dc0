"""Train a scorer for an entry of the zoo by CMA-ES over the native vector environment.

    python -m agents.evolve mixed_classes [--out DIR] [--jobs 2]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.entry import Entry, paired_by_rate
from agents.play import play
from agents.scorers import Scorer
from agents.tuning import Tuned
from sgym.envs.actions import INDEX_KNOBS, reservation_of
from sgym.envs.lanes import Lanes


class Learner:
    """Scores candidates of a scorer on an entry's workloads.

    Args:
        entry: scenario, rates, environment.
        jobs: threads.
    """

    def __init__(self, entry: Entry, jobs: int = 1) -> None:
        self.entry, self.jobs = entry, jobs
        self.plans = [entry.environment(entry.loaded(rate)).plan for rate in entry.rates]
        self.scorer = Scorer.of(self.plans[0])
        self._lanes: dict[tuple[int, int], Lanes] = {}

    def score(self, candidates: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Smooth goodput, mean over rates, (P, S)."""
        return paired_by_rate(self.at_rates(candidates, seeds))

    def at_rates(self, candidates: np.ndarray, seeds: Sequence[int]) -> list[np.ndarray]:
        """Smooth goodput at each rate, (P, S) each."""
        each = np.repeat(candidates, len(seeds), axis=0)
        found: list[np.ndarray] = []
        for place, plan in enumerate(self.plans):
            lanes = self._lanes.setdefault((place, len(each)), Lanes(plan, len(each), self.jobs))

            def choose(seen: Any, masks: np.ndarray) -> np.ndarray:
                return self.scorer.act(each, seen, masks if masks.size else None)

            values = play(lanes, list(seeds) * len(candidates), choose)
            found.append(values.reshape(len(candidates), len(seeds)))
        return found

    def start(self, tuned: Tuned | None) -> np.ndarray:
        """Parameters that repeat a tuned heuristic's limits, as far as the base order does."""
        parameters = np.zeros(self.scorer.size)
        if tuned is None or not self.scorer.schedules:
            return parameters
        most = self.plans[0].scenario.engine
        limits = self.scorer.parts(parameters)["limits"]
        base = self.entry.arguments.get("base", "spf")
        share = tuned.parameters.get("reservation", 0.0)
        budget = tuned.engine["max_num_batched_tokens"] / most.max_num_batched_tokens
        seats = tuned.engine["max_num_seqs"] / most.max_num_seqs
        chunk = tuned.engine["long_prefill_token_threshold"] / most.max_num_batched_tokens
        values = {
            "reserve": (share - reservation_of(base)) / 0.5,
            "token_budget": np.log2(budget) / 4.0,
            "active_cap": np.log2(seats) / 6.0,
            "chunk_cap": np.log2(chunk) / 4.0,
        }
        limits[:, 0] = [values[name] for name in INDEX_KNOBS]
        return parameters
