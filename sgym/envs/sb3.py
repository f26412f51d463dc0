"""Many environments as Stable-Baselines3 wants them: the one module that imports it."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from sgym.envs.vector import ServingVectorEnv
from sgym.errors import SgymError


class SgymVecEnv(VecEnv):
    """The native vector environment as a VecEnv, for all learners of SB3 and sb3-contrib.

    ```python
    from sb3_contrib import MaskablePPO
    from sgym.envs.sb3 import SgymVecEnv

    env = SgymVecEnv("sgym/Colocated-v0", num_envs=64, scenario="tiny", action="knobs")
    MaskablePPO("MultiInputPolicy", env, n_steps=64).learn(8192)
    ```

    Episodes begin anew at once. The info of a last step has "terminal_observation",
    "TimeLimit.truncated" (then the value of what follows counts) and the metrics of the episode;
    every info has "time" and "dt", in seconds. `env_method("action_masks")` is one bool array.

    Args:
        env_id: of a registered environment of sgym.
        num_envs: how many.
        arguments: of the vector environment and the single one.
    """

    def __init__(
        self, env_id: str = "sgym/Colocated-v0", num_envs: int = 1, **arguments: Any
    ) -> None:
        if not str(gym.spec(env_id).vector_entry_point).startswith("sgym."):
            raise SgymError(f"{env_id!r} is no environment of sgym, so it has no native vector")
        mode = AutoresetMode.SAME_STEP
        made: Any = gym.make_vec(env_id, num_envs, autoreset_mode=mode, **arguments).unwrapped
        self.env: ServingVectorEnv = made
        self._actions: Any = None
        super().__init__(num_envs, made.single_observation_space, made.single_action_space)

    def reset(self) -> Any:
        """Start an episode in each environment; `reset_infos` then has their infos."""
        options = {}
        if any(self._options):
            options["workload_seed"] = [given.get("workload_seed") for given in self._options]
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        seen, infos = self.env.reset(seed=seeds, options=options)
        self.reset_infos = _timed(infos)
        self._reset_seeds()
        self._reset_options()
        return seen

    def step_async(self, actions: np.ndarray) -> None:
        """Say what to do in the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Observations, rewards float32, dones, infos."""
        seen, rewards, terminated, truncated, infos = self.env.step(self._actions)
        dones = terminated | truncated
        listed = _timed(infos)
        if "final_info" in infos:
            final = infos["final_info"]
            for k in np.flatnonzero(dones).tolist():
                listed[k] = {
                    name: float(values[k])
                    for name, values in final.items()
                    if name[0] != "_" and values.ndim == 1 and final[f"_{name}"][k]
                }
                listed[k]["terminal_observation"] = infos["final_obs"][k]
                listed[k]["TimeLimit.truncated"] = bool(truncated[k])
        return seen, rewards.astype(np.float32), dones, listed

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the vector environment, once for each environment."""
        return [getattr(self.env, attr_name)] * len(self._places(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:  # noqa: ARG002
        """Set an attribute of the vector environment, which all share."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> Any:
        """Call a method of the vector environment, which answers for all; returns some rows."""
        answers = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return answers if indices is None else answers[self._places(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:  # noqa: ARG002
        """Nothing is wrapped."""
        return [False] * len(self._places(indices))

    def _places(self, indices: Any) -> Sequence[int]:
        return list(self._get_indices(indices))


def _timed(infos: dict[str, Any]) -> list[dict[str, Any]]:
    times, passed = infos["time"].tolist(), infos["dt"].tolist()
    return [{"time": time, "dt": dt} for time, dt in zip(times, passed, strict=True)]
