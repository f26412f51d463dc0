"""Saving so that nothing is lost: whole files only, and all that an exact continuation needs."""

import inspect
import io
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnvWrapper

KEPT = ("_last_obs", "_last_episode_starts", "_last_original_obs", "_last_lstm_states")
"""Attributes of models that hold where they are in their environments."""


def write(path: Path, fill: Callable[[Any], Any]) -> None:
    """Write a file under a temporary name, then move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        fill(file)
    os.replace(partial, path)


def save_model(model: BaseAlgorithm, path: Path) -> None:
    """A model as SB3 saves it, with its name in full."""
    write(path, model.save)


def save(model: Any, path: Path, extra: dict[str, Any]) -> None:
    """Everything: the model, its environments in mid-episode, random numbers.

    Args:
        model: between two rollouts.
        path: of the file.
        extra: what callers keep beside it.
    """
    weights = io.BytesIO()
    model.save(weights)
    state = {
        "model": weights.getvalue(),
        "env": model.env,
        "kept": {name: getattr(model, name) for name in KEPT if hasattr(model, name)},
        "replay_buffer": getattr(model, "replay_buffer", None),
        "random": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002  (SB3 draws from it)
        "torch": torch.get_rng_state(),
        "actions": model.action_space.np_random.bit_generator.state,
        "extra": extra,
    }
    write(path, lambda file: _Pickler(file).dump(state))


class _Pickler(pickle.Pickler):
    """Pickles SB3's wrappers of environments whole, which they do not let plain pickle do."""

    def reducer_override(self, value: Any) -> Any:
        """How a wrapper is made again; all else as usual."""
        if not isinstance(value, VecEnvWrapper):
            return NotImplemented
        state = {name: held for name, held in vars(value).items() if name != "class_attributes"}
        return _wrapper, (type(value), state)


def _wrapper(kind: type[VecEnvWrapper], state: dict[str, Any]) -> VecEnvWrapper:
    made = kind.__new__(kind)
    vars(made).update(state, class_attributes=dict(inspect.getmembers(kind)))
    return made


def load(path: Path, algorithm: type[BaseAlgorithm]) -> tuple[Any, dict[str, Any]]:
    """The model as it was, and what callers kept beside it. Only for files of your own.

    Args:
        path: what `save` has written.
        algorithm: class of the model.
    """
    with path.open("rb") as file:
        state = pickle.load(file)  # noqa: S301
    weights = io.BytesIO(state["model"])
    model: Any = algorithm.load(weights, env=state["env"], device="cpu", force_reset=False)
    for name, value in state["kept"].items():
        setattr(model, name, value)
    if state["replay_buffer"] is not None:
        model.replay_buffer = state["replay_buffer"]
    random.setstate(state["random"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    model.action_space.np_random.bit_generator.state = state["actions"]
    return model, state["extra"]
