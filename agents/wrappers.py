"""Around the vector environment: several scenarios at once, and a reward that is a difference."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

import sgym
from sgym.config import Scenario
from sgym.envs.sb3 import SgymVecEnv


class MixedVecEnv(VecEnv):
    """Vector environments of different scenarios, one after the other, as a single one.

    So that one policy covers a range of rates, lengths, burstiness and machines.

    Args:
        parts: environments of equal spaces.

    Raises:
        ValueError: there is none, or their spaces differ.
    """

    def __init__(self, parts: Sequence[VecEnv]) -> None:
        if not parts:
            raise ValueError("parts must hold at least one vector environment, got none")
        first = parts[0]
        for place, part in enumerate(parts):
            for name in ("observation_space", "action_space"):
                if getattr(part, name) != getattr(first, name):
                    raise ValueError(
                        f"all scenarios must have the same {name}, but that of number {place} is "
                        f"{getattr(part, name)}, and that of number 0 is {getattr(first, name)}"
                    )
        self.parts = list(parts)
        bounds = np.cumsum([0, *(part.num_envs for part in parts)]).tolist()
        self._shares = [slice(*pair) for pair in pairwise(bounds)]
        super().__init__(bounds[-1], first.observation_space, first.action_space)

    def reset(self) -> Any:
        """Start an episode in each environment."""
        seen = []
        for part, share in zip(self.parts, self._shares, strict=True):
            part._seeds, part._options = self._seeds[share], self._options[share]
            seen.append(part.reset())
        self.reset_infos = [info for part in self.parts for info in part.reset_infos]
        self._reset_seeds()
        self._reset_options()
        return _joined(seen)

    def step_async(self, actions: np.ndarray) -> None:
        """Say what to do in the next `step_wait`."""
        for part, share in zip(self.parts, self._shares, strict=True):
            part.step_async(actions[share])

    def step_wait(self) -> Any:
        """Observations, rewards, dones, infos."""
        seen, rewards, dones, infos = zip(*(part.step_wait() for part in self.parts), strict=True)
        listed = [info for part in infos for info in part]
        return _joined(seen), np.concatenate(rewards), np.concatenate(dones), listed

    def close(self) -> None:
        """Close them all."""
        for part in self.parts:
            part.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute, once for each environment."""
        found = [value for part in self.parts for value in part.get_attr(attr_name)]
        return [found[k] for k in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:  # noqa: ARG002
        """Set an attribute of all parts."""
        for part in self.parts:
            part.set_attr(attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> Any:
        """Call a method of all parts; returns the rows of their answers."""
        answers = np.concatenate(
            [part.env_method(method_name, *method_args, **method_kwargs) for part in self.parts]
        )
        return answers if indices is None else answers[list(self._get_indices(indices))]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:  # noqa: ARG002
        """Nothing is wrapped."""
        return [False] * len(list(self._get_indices(indices)))


def _joined(seen: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    listed = list(seen)
    return {part: np.concatenate([one[part] for one in listed]) for part in listed[0]}


class PairedReward(VecEnvWrapper):
    """The reward, minus in the last step what a reference policy earns on the same workload.

    The undiscounted return is then the gain over the reference, in tokens/s; how good a workload
    can be at all is no longer noise.

    Args:
        venv: of one scenario.
        reference: name of a built-in policy.
    """

    def __init__(self, venv: SgymVecEnv, reference: str) -> None:
        super().__init__(venv)
        self.scenario: Scenario = venv.get_attr("scenario")[0]
        self.reference = reference
        self._seeds_under_way = np.zeros(venv.num_envs, np.int64)

    def reset(self) -> Any:
        """Start an episode in each environment."""
        seen = self.venv.reset()
        self.reset_infos = self.venv.reset_infos
        self._seeds_under_way = self.venv.get_attr("workload_seeds")[0]
        return seen

    def step_wait(self) -> Any:
        """Observations, rewards, dones, infos; the last info has `reference`, in tokens/s."""
        seen, rewards, dones, infos = self.venv.step_wait()
        if dones.any():
            for k in np.flatnonzero(dones).tolist():
                seed = int(self._seeds_under_way[k])
                infos[k]["reference"] = reference_return(self.scenario, self.reference, seed)
                rewards[k] -= infos[k]["reference"]
            self._seeds_under_way = self.venv.get_attr("workload_seeds")[0]
        return seen, rewards, dones, infos


def reference_return(scenario: Scenario, policy: str, seed: int) -> float:
    """Smooth goodput of a built-in policy on a workload, tokens/s; remembered."""
    return _reference_return(scenario.model_dump_json(exclude_unset=True), policy, seed)


@lru_cache(maxsize=100_000)
def _reference_return(scenario: str, policy: str, seed: int) -> float:
    loaded = Scenario.model_validate_json(scenario)
    return float(sgym.simulate(loaded, policy, seed).summary["smooth_goodput"])
