"""Workloads of a few requests on an engine whose every iteration takes a second."""

from typing import Any

import sgym


def scenario(policy: dict[str, Any] | None = None, **engine: Any) -> dict[str, Any]:
    return {
        "engine": {"num_gpu_blocks": 1001, "max_num_seqs": 1, "max_model_len": 4096} | engine,
        "latency": {"linear": {"iteration": 1.0}},
        "workload": {"rate": 1.0},
        "episode": {"duration": 1000.0},
        "policy": policy or {},
    }


def request(arrival: float, prompt: int = 10, output: int = 3, **more: Any) -> dict[str, Any]:
    rest = {"predicted": 10, "priority": 0, "tenant": 0, "user_class": 0}
    return {"arrival": arrival, "prompt": prompt, "output": output} | rest | more


def served(policy: str, settings: dict[str, Any], requests: list[dict[str, Any]]) -> list[int]:
    """Whose tokens are delivered, one after the other."""
    result = sgym.simulate(settings, policy, arrivals=requests, log=("tokens",))
    return result.tokens["request"].tolist()
