"""One request made by hand: memory runs short where it decodes, and it is moved, or preempted."""

import numpy as np
import pandas as pd

from sgym import simulate
from sgym.policies.steering import Steering
from sgym.policies.view import ClusterView, InstanceView

MOVED = 1  # the request that has to give way: it came second
ARRIVALS = pd.DataFrame(
    {"arrival": [0.0, 0.5], "prompt": [1800, 2000], "output": [1300, 500]}
)  # seconds, tokens
BLOCKS = 264  # of 16 tokens, with vLLM's null block: full when both have about 200 tokens
SHORT = 8  # free blocks at which the request moves
SLOW = {"bandwidth": 1.25e9, "latency": 1e-4}  # Ethernet of 10 Gb/s
STORIES = {
    "stays, is preempted": None,
    "migrates live": {"mode": "live"},
    "is stopped and copied": {"mode": "stop_and_copy"},
    "is computed again there": {"mode": "recompute"},
}


class MoveWhenShort:
    """Everything arrives at instance 0; the second request goes to instance 1 in time."""

    def __init__(self, moves: bool) -> None:
        self.moves = moves

    def route(self, view: ClusterView) -> int:  # noqa: ARG002  (wherever it could go)
        """Instance 0."""
        return 0

    def schedule(self, view: InstanceView) -> Steering | None:
        """Move the second request while there still is memory."""
        here = view.index == 0 and any(request.id == MOVED for request in view.running)
        if self.moves and here and view.free_blocks <= SHORT:
            return Steering(migrate_to={MOVED: 1})
        return None


def tell() -> dict[str, np.ndarray]:
    """Times of the tokens of the request that gives way, seconds since its arrival, by story."""
    told = {}
    for name, migration in STORIES.items():
        scenario = {
            "cluster": {
                "instances": 2,
                "model": "Llama-3.1-8B",
                "gpu": "A100-80GB",
                "link": SLOW,
                "migration": migration or {},
            },
            "engine": {"num_gpu_blocks": BLOCKS, "max_model_len": 4096},
            "workload": {"rate": 1.0},
            "slo": {"classes": [{"token_time": 0.05, "first_delay": 0.5}]},
            "episode": {"duration": 60.0},
        }
        policy = MoveWhenShort(migration is not None)
        tokens = simulate(scenario, policy, log=("tokens",), arrivals=ARRIVALS).tokens
        times = tokens["time"][tokens["request"] == MOVED].to_numpy()
        told[name] = times - ARRIVALS["arrival"][MOVED]
    return told
