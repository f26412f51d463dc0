"""Discounting by simulated time: what comes t seconds later counts gamma ** t.

`Clock` notes how long each step took, and the rollout buffers of PPO and MaskablePPO read it. The
learner's own `gamma` must be 1: SB3 uses it for the value after a truncation, which is one decision
later at most.
"""

from typing import Any

import numpy as np
import torch
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper


class Clock(VecEnvWrapper):
    """Notes the seconds of the last step of each environment."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.seconds = np.zeros(venv.num_envs)

    def reset(self) -> Any:
        """Start an episode in each environment."""
        return self.venv.reset()

    def step_wait(self) -> Any:
        """Observations, rewards, dones, infos."""
        seen, rewards, dones, infos = self.venv.step_wait()
        self.seconds = np.array([info["dt"] for info in infos])
        return seen, rewards, dones, infos


def advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    goes_on: np.ndarray,
    discounts: np.ndarray,
    gae_lambda: float,
) -> np.ndarray:
    """Generalised advantage estimates with a discount for each step; float32 (T, N).

    Args:
        rewards: (T, N).
        values: (T + 1, N), the last row of what follows.
        goes_on: (T, N), 0 where the episode ended with the step.
        discounts: (T, N), of what follows the step.
        gae_lambda: of GAE.
    """
    found = np.zeros(rewards.shape, np.float32)
    following = np.zeros(rewards.shape[1], np.float32)
    for step in reversed(range(len(rewards))):
        factor = discounts[step] * goes_on[step]
        delta = rewards[step] + factor * values[step + 1] - values[step]
        following = delta + factor * gae_lambda * following
        found[step] = following
    return found


class _Discounted:
    """A rollout buffer whose steps have discounts of their own."""

    clock: Clock | None = None
    gamma_per_second = 1.0

    def watch(self, clock: Clock, gamma_per_second: float) -> None:
        """Take the seconds of each step from a clock."""
        self.clock, self.gamma_per_second = clock, gamma_per_second

    def reset(self: Any) -> None:
        """Forget the rollout."""
        super().reset()  # type: ignore[misc]
        self.discounts = np.ones((self.buffer_size, self.n_envs), np.float32)

    def add(self: Any, *step: Any, **masks: Any) -> None:
        """Note a step, and its discount."""
        if self.clock is None:
            raise RuntimeError("this buffer has no clock: call watch() before learning")
        self.discounts[self.pos] = self.gamma_per_second**self.clock.seconds
        super().add(*step, **masks)  # type: ignore[misc]

    def compute_returns_and_advantage(
        self: Any, last_values: torch.Tensor, dones: np.ndarray
    ) -> None:
        """Fill in `advantages` and `returns`."""
        last = last_values.clone().cpu().numpy().reshape(1, -1)
        ended = np.concatenate([self.episode_starts[1:], dones.reshape(1, -1)])
        values = np.concatenate([self.values, last])
        goes_on = 1.0 - ended.astype(np.float32)
        self.advantages = advantages(self.rewards, values, goes_on, self.discounts, self.gae_lambda)
        self.returns = self.advantages + self.values


class SemiMarkovBuffer(_Discounted, DictRolloutBuffer):
    """For PPO."""


class MaskableSemiMarkovBuffer(_Discounted, MaskableDictRolloutBuffer):
    """For MaskablePPO."""
