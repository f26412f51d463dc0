"""Clusters with their requests placed by hand, at the moment when a policy has to choose."""

from typing import Any

import sgym
from sgym.core.layout import HANDOFF, ROUTE
from sgym.policies import kernels

START = 10.0  # seconds; when the first request of a test comes


def settings(cluster: dict[str, Any], policy: dict[str, Any] | None = None, **engine: Any):
    """A scenario whose iterations take a second, with 100 KV blocks of 16 tokens."""
    limits = {"num_gpu_blocks": 101, "max_num_seqs": 64, "max_model_len": 8192}
    return {
        "engine": limits | engine,
        "cluster": cluster,
        "latency": {"linear": {"iteration": 1.0}},
        "workload": {"rate": 1.0},
        "episode": {"duration": 10_000.0},
        "policy": policy or {},
    }


def request(prompt: int, output: int = 1000, at: float = START) -> dict[str, float]:
    """A row of a table of requests."""
    return {"arrival": at, "prompt": prompt, "output": output}


def asked(
    scenario: dict[str, Any], requests: list[dict[str, float]], placed: list[int]
) -> sgym.Simulator:
    """A simulator that asks where the last request goes; the others go where `placed` says.

    Index 0 is a request that came and went before, so that the first of `requests` is number 1.
    """
    first = {"arrival": 0.0, "prompt": 1, "output": 1}
    simulator = sgym.Simulator(scenario, arrivals=[first, *requests], log=("moves",))
    decision = simulator.step(None, route=True)
    for instance in placed:
        while decision.kind != "route":
            decision = simulator.step(None, route=True)
        decision = simulator.step(instance, route=True)
    while decision.kind != "route":
        decision = simulator.step(None, route=True)
    assert int(simulator.state.cluster[0]["request"]) == len(requests)
    return simulator


def answered(simulator: sgym.Simulator) -> int:
    """Where the built-in rule sends the request that is to be routed or handed off."""
    cluster = simulator.state.cluster[0]
    assert cluster["decision"] in (ROUTE, HANDOFF)
    kernels.answer(simulator.state, simulator._policy, simulator._memory)
    return int(simulator.state.requests[int(cluster["request"])]["instance"])


def choice(scenario: dict[str, Any], requests: list[dict[str, float]], placed: list[int]) -> int:
    """Which instance the built-in router chooses for the last request."""
    return answered(asked(scenario, requests, placed))
