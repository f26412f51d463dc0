"""Policies and a trigger that stand in for a bundle; they run inside of vLLM's scheduler."""

from typing import Any

import numpy as np
import steering as drawn

from sgym.export.view import EngineSteering, EngineView


def neutral(view: EngineView) -> EngineSteering:
    """A Steering that changes nothing."""
    count, limits = len(view.rows), view.limits
    return EngineSteering(
        np.zeros(count),
        np.zeros(count),
        np.zeros(count, np.bool_),
        limits.max_num_batched_tokens,
        limits.max_num_seqs,
    )


class Neutral:
    """Says in every iteration that all is to be as in the stock engine."""

    def decide(self, view: EngineView) -> EngineSteering:
        """A neutral Steering."""
        return neutral(view)


class Drawn:
    """Random Steerings; those of `vllm_fuzz/steering.py`."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.calls = 0

    def decide(self, view: EngineView) -> EngineSteering | None:
        """The next Steering, by row."""
        numbers = [int(request_id) for request_id in view.ids]
        running, waiting = numbers[: view.num_running], numbers[view.num_running :]
        new = drawn.draw(self.case, self.calls, waiting, running)
        self.calls += 1
        if new is None:
            return None
        said = neutral(view)
        said.waiting_score[:] = [new.waiting_score.get(r, 0.0) for r in numbers]
        said.running_score[:] = [new.running_score.get(r, 0.0) for r in numbers]
        said.preempt[:] = [r in new.preempt for r in numbers]
        said.token_budget, said.active_cap = new.token_budget, new.active_cap
        said.chunk_cap, said.reserve = new.chunk_cap, new.reserve
        said.hold_prefill = new.hold_prefill
        return said
