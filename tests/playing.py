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


def make(action: str = "knobs", **arguments: Any) -> gym.Env:
    """The environment of the toy, with 8 slots, without the wrappers of `gym.make`."""
    arguments = {"scenario": TOY, "num_slots": 8, **arguments}
    return gym.make("sgym/Colocated-v0", action=action, **arguments).unwrapped


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
