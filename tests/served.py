"""A state of an engine as JSON, and a policy that answers to it."""

from typing import Any

import numpy as np

from sgym.export.view import HOLD, EngineSteering, EngineView

LIMITS: dict[str, Any] = {"max_num_seqs": 8, "max_num_batched_tokens": 512, "num_blocks": 100}
STATE: dict[str, Any] = {
    "now": 5.0,
    "limits": LIMITS,
    "running": [
        {"id": 7, "arrival": 1.0, "prompt": 40, "generated": 3, "computed": 42, "blocks": 3}
    ],
    "waiting": [
        {"id": "b", "arrival": 4.0, "prompt": 10, "token_time": 0.1, "due": 4.5, "weight": 2.0},
        {"id": "c", "arrival": 4.5, "prompt": 11, "lateness": None, "predicted": 30},
    ],
    "free_blocks": 97,
}


class Shortest:
    """Shortest prompt first; preempts the first running request and holds the last waiting one."""

    def decide(self, view: EngineView) -> EngineSteering:
        score = -view.rows["prompt"]
        score[-1] = HOLD
        preempt = np.zeros(len(view.rows), np.bool_)
        preempt[0] = True
        return EngineSteering(
            score, np.zeros(len(view.rows)), preempt, 64, view.limits.max_num_seqs
        )
