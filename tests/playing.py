"""A toy scenario for tests of environments, and ways to play episodes of it."""

import hashlib
from typing import Any

import gymnasium as gym
import numpy as np

from sgym.loading import load_scenario

TOY: dict[str, Any] = {
    "name": "toy",
    "engine": {
        "max_num_seqs": 6,
        "max_num_batched_tokens": 64,
        "max_model_len": 256,
        "num_gpu_blocks": 21,
    },
    "latency": {
        "linear": {
            "iteration": 0.01,
            "prefill_token": 1e-4,
            "decode_seq": 1e-4,
            "context_token": 1e-6,
        }
    },
    "workload": {
        "rate": 9.0,
        "lengths": [{"prompt": 50, "output": 30, "prompt_sigma": 0.5, "output_sigma": 0.5}],
    },
    "slo": {"classes": [{"token_time": 0.05, "alpha": 2.5}]},
    "episode": {"duration": 3.0},
}
"""Four requests fill the memory, and more than it can take arrive: everything happens in 3 s."""


def toy(**overrides: Any) -> dict[str, Any]:
    """TOY with dotted names replaced; a dot is written as two underscores."""
    changes = {name.replace("__", "."): value for name, value in overrides.items()}
    return load_scenario(TOY, changes).model_dump(mode="json")


SPLIT = toy(
    cluster__pools=[{"role": "prefill"}, {"role": "decode", "instances": 2}],
    cluster__link={"bandwidth": 1e9, "latency": 1e-3},
    cluster__migration={"concurrent": 2, "last_blocks": 2},
    workload__rate=15.0,
)
"""One instance prefills for two that decode; the KV of a prompt takes milliseconds to send."""

UNEQUAL = toy(
    cluster__pools=[{}, {"instances": 2, "engine": {"num_gpu_blocks": 11}}],
    workload__rate=15.0,
)
"""Three instances that do both, of which two can not hold every request."""


def make(action: str = "knobs", **arguments: Any) -> gym.Env:
    """The environment of the toy, with 8 slots, without the wrappers of `gym.make`."""
    arguments = {"scenario": TOY, "num_slots": 8, **arguments}
    return gym.make("sgym/Colocated-v0", action=action, **arguments).unwrapped


def make_split(action: str = "slots", **arguments: Any) -> gym.Env:
    """The same for one instance that prefills and two that decode."""
    arguments = {"scenario": SPLIT, "num_slots": 8, **arguments}
    return gym.make("sgym/Disaggregated-v0", action=action, **arguments).unwrapped


def make_router(**arguments: Any) -> gym.Env:
    """The same for a router of three instances that do both."""
    return gym.make("sgym/Router-v0", **{"scenario": UNEQUAL, **arguments}).unwrapped


ALL = ("schedule", "route", "handoff", "migrate")
CLUSTERS: dict[str, Any] = {
    "router": make_router,
    "router, both": lambda: make_router(scenario=SPLIT, controls=["route", "handoff"]),
    "handoff": lambda: make_split("route", controls=["handoff"]),
    "slots": lambda: make_split("slots"),
    "scores": lambda: make_split("scores"),
    "knobs": lambda: make_split("knobs"),
    "index": lambda: make_split("index"),
    "slots, all": lambda: make_split("slots", controls=ALL, decision="iteration"),
    "knobs, route": lambda: make_split("knobs", controls=["schedule", "route", "handoff"]),
    "colocated, all": lambda: make("slots", scenario=UNEQUAL, controls=ALL),
}
"""Environments with more than one instance to decide about: what an agent does -> its maker."""


def sampled(env: gym.Env, info: dict[str, Any]) -> Any:
    """A random valid action."""
    if "action_mask" in info:
        return env.action_space.sample(mask=info["action_mask"])
    return env.action_space.sample()


def play(
    env: gym.Env, choose: Any = sampled, seed: int = 0, options: dict[str, Any] | None = None
) -> list[tuple]:
    """Every (observation, reward, terminated, truncated, info) of an episode.

    Args:
        env: the environment.
        choose: (env, info) -> action.
        seed: of the environment and of its action space.
        options: of `reset`.
    """
    env.action_space.seed(seed)
    _, info = env.reset(seed=seed, options=options)
    steps = []
    while not steps or not (steps[-1][2] or steps[-1][3]):
        steps.append(env.step(choose(env, info)))
        info = steps[-1][4]
    return steps


def digest(steps: list[tuple]) -> str:
    """A fingerprint of everything an agent saw and got."""
    found = hashlib.sha256()
    for observation, reward, terminated, truncated, info in steps:
        for name in ("requests", "instances", "cluster"):
            found.update(np.asarray(observation[name]).tobytes())
        found.update(repr((reward, terminated, truncated, info["time"])).encode())
    return found.hexdigest()
