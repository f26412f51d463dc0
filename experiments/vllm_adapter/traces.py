"""The cases: scenarios of sgym as traces, and random configurations."""

import base64
import random
from typing import Any

from cases import modern_case, random_case, random_use

from sgym.loading import load_scenario
from sgym.simulator import Simulator

CLASSES = (
    {"name": "reader", "token_time": 0.2, "alpha": 2.5},
    {"name": "urgent", "token_time": 0.03, "alpha": 2.5, "weight": 4.0, "first_delay": 0.2},
    {"name": "patient", "token_time": 0.1, "alpha": 0.5, "first_delay": 3.0},
)
"""Readers of the random cases."""

TRACES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("llama8b-a100-chat", {}),
    "assistants": ("qwen14b-a100-assistants", {}),
    "pressure": ("qwen14b-l40s-assistants", {"engine.num_gpu_blocks": 600, "workload.rate": 4.0}),
}
"""Name -> scenario and what is changed in it; the third is short of memory all the time."""


def trace_case(name: str, policy: str, seconds: float, seed: int, **more: Any) -> dict[str, Any]:
    """A scenario's workload, on its engine and with its latencies.

    Args:
        name: one of TRACES.
        policy: "neutral", "drawn" or `bundle:FOLDER`.
        seconds: that are simulated.
        seed: of the workload.
        more: entries of the case, and overrides of the scenario with a dot in their names.
    """
    source, changes = TRACES[name]
    changes = {
        **changes,
        "episode.duration": seconds,
        "episode.warm_start": 0.0,
        **{key: value for key, value in more.items() if "." in key},
    }
    scenario = load_scenario(source, changes)
    simulator = Simulator(scenario, seed)
    state, engine = simulator.state, simulator.state.engines[0]
    users = scenario.slo.classes
    arrivals = [
        {
            "arrival": float(row["arrival"]),
            "prompt": int(row["prompt"]),
            "output": int(row["output"]),
            "priority": int(row["priority"]),
            "user_class": int(row["user_class"]),
        }
        for row in state.requests
    ]
    limits = {
        name: int(engine[name])
        for name in ("block_size", "max_num_seqs", "max_num_batched_tokens", "max_model_len")
    }
    case: dict[str, Any] = {
        "seed": f"{name}-{seed}",
        "policy": policy,
        "scenario": scenario.model_dump(mode="json"),
        "horizon": seconds,
        "arrivals": arrivals,
        "config": {
            **limits,
            "num_blocks": int(engine["num_blocks"]) + 1,
            "scheduling_policy": "fcfs",
            "enable_chunked_prefill": bool(engine["chunked_prefill"]),
            "long_prefill_token_threshold": int(engine["long_prefill_token_threshold"]),
            "scheduler_reserve_full_isl": bool(engine["reserve_full_isl"]),
            "watermark": 0.0,
            "enable_prefix_caching": False,
            "async_scheduling": bool(engine["async_scheduling"]),
        },
        "latency_record": base64.b64encode(state.latency.tobytes()).decode(),
        "cluster_record": base64.b64encode(state.cluster.tobytes()).decode(),
        **{key: value for key, value in more.items() if "." not in key},
    }
    case["requests"] = [
        row
        | {
            "token_time": users[row["user_class"]].token_time,
            "first_delay": float(state.requests["first_delay"][number]),
            "alpha": users[row["user_class"]].alpha,
            "weight": users[row["user_class"]].weight,
        }
        for number, row in enumerate(arrivals)
    ]
    if policy == "drawn":
        case["steer"] = random_use(random.Random(f"trace-{name}-{seed}"))
    return case


def fuzzed_case(seed: int, policy: str, kind: str = "sync", **more: Any) -> dict[str, Any]:
    """A random configuration with random requests and readers.

    Args:
        seed: of everything.
        policy: "neutral", "drawn" or `bundle:FOLDER`.
        kind: sync, async, prefix or both, as `vllm_fuzz` names them.
        more: entries of the case.
    """
    if kind == "sync":
        case = random_case(seed, policy == "drawn")
    else:
        case = modern_case(seed, kind != "async", kind != "prefix")
        case.pop("steer", None)
        if policy == "drawn":
            case["steer"] = random_use(random.Random(f"use-{seed}"))
    rng = random.Random(f"readers-{seed}")
    if policy not in ("neutral", "drawn"):
        case["config"]["scheduling_policy"] = "fcfs"
    case |= {"policy": policy, "classes": list(CLASSES), **more}
    case["arrivals"] = case["requests"]
    case["requests"] = []
    for row in case["arrivals"]:
        row["user_class"] = rng.randrange(len(CLASSES))
        user = {key: value for key, value in CLASSES[row["user_class"]].items() if key != "name"}
        case["requests"].append(row | user)
    return case
