"""The same cases on sgym's core, answered in the same form as drive.py answers."""

from typing import Any

import numpy as np
import steering as drawn

from sgym.policies.steering import Steering
from sgym.simulator import Simulator

FOREVER = 1e9  # seconds
POLICIES = {"fcfs": "vllm", "priority": "vllm-priority"}


def scenario_of(case: dict[str, Any]) -> dict[str, Any]:
    """The scenario that states a case's limits."""
    config = dict(case["config"])
    line = config.pop("latency")
    return {
        "name": f"case {case['seed']}",
        "engine": {"former": "vllm_v1", "num_gpu_blocks": config.pop("num_blocks"), **config},
        "latency": {
            "linear": {
                "iteration": line["a"],
                "prefill_token": line["b"],
                "decode_seq": line["c"],
                "context_token": line["d"],
            }
        },
        "workload": {"rate": 1.0, "hash_block": case.get("hash_block")},
        "episode": {"duration": FOREVER},
    }


class Drawn:
    """The policy that answers as steering.draw says."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.calls = 0

    def schedule(self, view: Any) -> Steering | None:
        """The next steering, in sgym's own record."""
        waiting, running = [r.id for r in view.waiting], [r.id for r in view.running]
        new = drawn.draw(self.case, self.calls, waiting, running)
        self.calls += 1
        if new is None:
            return None
        return Steering(
            waiting_score=new.waiting_score,
            running_score=new.running_score,
            preempt=list(new.preempt),
            token_budget=new.token_budget,
            active_cap=new.active_cap,
            chunk_cap=new.chunk_cap,
            reserve=new.reserve,
            hold_prefill=new.hold_prefill,
        )


def run(case: dict[str, Any]) -> dict[str, Any]:
    """What sgym decides in a case: iterations, token times and preemptions."""
    simulator = Simulator(
        scenario_of(case),
        policy=POLICIES[case["config"]["scheduling_policy"]],
        arrivals=case["requests"],
        log=("tokens", "iterations", "batches"),
        track=False,
    )
    simulator.run(Drawn(case) if "steer" in case else None)
    return answer_of(simulator, case)


def answer_of(simulator: Simulator, case: dict[str, Any]) -> dict[str, Any]:
    """The logs of a simulation, as lists."""
    state = simulator.state
    cluster = state.cluster[0]
    iterations = [
        {
            "t": float(row["start"]),
            "dt": float(row["duration"]),
            "batch": [],
            "victims": [],
            "n_running": int(row["num_running"]),
            "n_waiting": int(row["num_waiting"]),
            "free_blocks": int(row["free_blocks"]),
        }
        for row in state.iterations[: cluster["num_iterations_logged"]]
    ]
    for entry in state.batches[: cluster["num_batches_logged"]]:
        if entry["iteration"] == len(iterations):
            continue  # a victim, after which nothing ran any more
        row = iterations[entry["iteration"]]
        if entry["tokens"] > 0:
            row["batch"].append([int(entry[name]) for name in ("request", "tokens", "computed")])
        else:
            row["victims"].append(int(entry["request"]))
    tokens: list[list[float]] = [[] for _ in state.requests]
    for entry in state.tokens[: cluster["num_tokens_logged"]]:
        tokens[entry["request"]].append(float(entry["time"]))
    return {
        "seed": case["seed"],
        "iterations": iterations,
        "tokens": tokens,
        "preemptions": np.asarray(state.requests["preemptions"]).tolist(),
    }
