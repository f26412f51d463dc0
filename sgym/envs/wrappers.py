"""Wrappers for libraries that look for action masks in other places."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim, flatten_space
from gymnasium.utils import RecordConstructorArgs

from sgym.errors import SgymError


class MaskInObs(gym.ObservationWrapper, RecordConstructorArgs):
    """The action mask inside the observation, as RLlib, TorchRL and PettingZoo read it.

    The observation becomes {"observations": float32, "action_mask": int8}, both flat: the parts of
    the original one after the other, and the mask as `action_masks()` gives it.
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        parts = env.observation_space
        if isinstance(env.action_space, spaces.Box) or not isinstance(parts, spaces.Dict):
            raise SgymError(
                "MaskInObs needs a sgym environment with action='slots', 'knobs' or 'route'"
            )
        self._names = list(parts.spaces)
        self._masks = env.get_wrapper_attr("action_masks")
        flat = flatten_space(parts)
        length = flatdim(env.action_space)
        self.observation_space = spaces.Dict(
            {
                "observations": flat,
                "action_mask": spaces.Box(0, 1, (length,), np.int8),
            }
        )

    def observation(self, observation: dict[str, Any]) -> dict[str, np.ndarray]:
        """Put the mask beside the flattened observation."""
        return {
            "observations": np.concatenate([observation[name] for name in self._names]),
            "action_mask": self._masks().astype(np.int8),
        }
