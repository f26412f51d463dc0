"""How good a model is: its greedy actions on chosen workloads."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

Chooser = Callable[[Any, np.ndarray | None, np.ndarray], np.ndarray]
"""(what is seen, masks or None, where episodes begin) -> actions."""


def greedy(model: Any) -> Chooser:
    """The most likely actions of a model of SB3 or sb3-contrib, with its memory if it has one."""
    memory: list[Any] = [None]
    masked = "action_masks" in model.predict.__code__.co_varnames

    def choose(seen: Any, masks: np.ndarray | None, starts: np.ndarray) -> np.ndarray:
        more = {"action_masks": masks} if masked else {}
        actions, memory[0] = model.predict(
            seen, state=memory[0], episode_start=starts, deterministic=True, **more
        )
        return actions

    return choose


def at_random(env: VecEnv, seed: int = 0) -> Chooser:
    """Valid actions, each as likely as the others."""
    space = env.action_space
    space.seed(seed)
    width = env.num_envs

    def choose(_: Any, masks: np.ndarray | None, __: np.ndarray) -> np.ndarray:
        return np.array([space.sample(_shaped(space, masks, k)) for k in range(width)])

    return choose


def _shaped(space: Any, masks: np.ndarray | None, k: int) -> Any:
    if masks is None:
        return None
    row = masks[k].astype(np.int8)
    if not hasattr(space, "nvec"):
        return row
    return tuple(np.split(row, np.cumsum(space.nvec)[:-1]))


def play(env: VecEnv, choose: Chooser, seeds: Sequence[int]) -> np.ndarray:
    """Smooth goodput of an episode on each workload, tokens/s; float64 (number of seeds,).

    Args:
        env: as many environments as there are seeds.
        choose: the actions.
        seeds: of the workloads.

    Raises:
        ValueError: there are more or fewer environments.
    """
    if env.num_envs != len(seeds):
        raise ValueError(f"env must have one environment per seed: {env.num_envs}, {len(seeds)}")
    env.set_options([{"workload_seed": int(seed)} for seed in seeds])
    seen, found = env.reset(), np.full(len(seeds), np.nan)
    starts = np.ones(len(seeds), np.bool_)
    has_masks = not hasattr(env.action_space, "low")
    while np.isnan(found).any():
        masks: Any = env.env_method("action_masks") if has_masks else None
        seen, _, starts, infos = env.step(choose(seen, masks, starts))
        for k in np.flatnonzero(starts & np.isnan(found)).tolist():
            found[k] = infos[k]["smooth_goodput"]
    return found
