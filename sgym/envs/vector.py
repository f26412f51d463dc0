"""Many environments at once: one kernel call steps all of them."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from sgym.config import Scenario
from sgym.envs.base import ServingEnv
from sgym.envs.colocated import ColocatedEnv
from sgym.envs.disaggregated import DisaggregatedEnv
from sgym.envs.features import TABLES
from sgym.envs.fleet import ACT
from sgym.envs.lanes import Lanes
from sgym.envs.options import at_least
from sgym.envs.router import RouterEnv
from sgym.errors import ScenarioError, SimulationError

Observations = dict[str, np.ndarray]
Infos = dict[str, Any]
NOBODY = np.zeros(0, np.int64)  # numbers of no environments

Step = tuple[Observations, np.ndarray, np.ndarray, np.ndarray, Infos]


class ServingVectorEnv(VectorEnv[Observations, Any, np.ndarray]):
    """Environments side by side, each in an episode of its own.

    Environment i does what a single one with seed + i does, byte for byte, in each autoreset mode.

    Infos are arrays of one entry per environment, with a mask of the same name after "_" as
    Gymnasium has it: `time`, `dt`, `invalid_actions`, and, where an episode ends, its metrics.
    `action_mask` is (num_envs, entries of the flat mask), int8, for MultiDiscrete too. Under
    SAME_STEP, `final_obs` and `final_info` hold what was seen at the end.

    Args:
        num_envs: how many.
        max_episode_steps: truncate episodes after so many steps; none = they end by themselves.
        autoreset_mode: an AutoresetMode or its name: NextStep, SameStep, Disabled.
        threads: how many threads share the work of a step. Results do not depend on it.
        copy: False returns the arrays that the next step overwrites.
        render_mode: none; single environments draw.
        arguments: of the single environment.

    Raises:
        ScenarioError: an argument breaks a rule.
    """

    single: ClassVar[type[ServingEnv]]

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int = 1,
        copy: bool = True,
        render_mode: str | None = None,
        **arguments: Any,
    ) -> None:
        at_least("num_envs", num_envs, 1)
        at_least("threads", threads, 1)
        at_least("max_episode_steps", max_episode_steps or 1, 1)
        if render_mode is not None:
            raise ScenarioError(
                f"render_mode must be None for many environments, got {render_mode!r}: "
                "make a single one to draw it"
            )
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            names = ", ".join(mode.value for mode in AutoresetMode)
            raise ScenarioError(
                f"autoreset_mode must be one of {names}, got {autoreset_mode!r}"
            ) from None
        self.plan = self.single(**arguments).plan
        self.num_envs, self.copy, self.render_mode = num_envs, copy, None
        self.metadata = {**self.single.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.plan.observation_space
        self.single_action_space = self.plan.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._lanes = Lanes(self.plan, num_envs, threads, overwrite=True)
        self._shape = (num_envs, *(self.single_action_space.shape or ()))
        self._most_steps = max_episode_steps
        self._steps = np.zeros(num_envs, np.int64)
        self._ended = np.arange(num_envs)  # those whose next episode has to be begun
        self._randoms: list[np.random.Generator | None] = [None] * num_envs

    @property
    def scenario(self) -> Scenario:
        """The scenario that is simulated."""
        return self.plan.scenario

    @property
    def workload_seeds(self) -> np.ndarray:
        """`sgym.simulate(scenario, seed=...)` serves the same requests; int64 (num_envs,)."""
        return np.array([simulator.seed for simulator in self._lanes.simulators])

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, Infos]:
        """Start episodes, up to their first decisions.

        Args:
            seed: environment i gets seed + i; or a seed for each; none = it goes on with its own.
            options: {"workload_seed": int or one for each} to serve certain workloads, and
                {"reset_mask": bool (num_envs,)} to start only some.

        Raises:
            ScenarioError: an option is unknown or of the wrong shape.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        given = dict(options or {})
        chosen = _chosen_lanes(given.pop("reset_mask", None), self.num_envs)
        workloads = _one_each("workload_seed", given.pop("workload_seed", None), self.num_envs)
        if given:
            raise ScenarioError(
                f"reset has no option {next(iter(given))!r}; it has: workload_seed, reset_mask"
            )
        if isinstance(seed, int):
            seed = range(seed, seed + self.num_envs)
        seeds = _one_each("seed", seed, self.num_envs)
        for k in np.flatnonzero(chosen).tolist():
            if seeds[k] is not None or self._randoms[k] is None:
                self._randoms[k], _ = seeding.np_random(seeds[k])
            self._begin(k, workloads[k])
        self._ended = np.setdiff1d(self._ended, np.flatnonzero(chosen))
        self._lanes.run()
        return self._seen(), self._infos(chosen.copy(), None, np.arange(self.num_envs))

    def _begin(self, k: int, workload: int | None = None) -> None:
        random = self._randoms[k]
        if random is None:
            raise SimulationError("no episode is under way: call reset()")
        drawn = int(random.integers(2**31))
        self._lanes.begin(k, drawn if workload is None else workload)
        self._steps[k] = 0

    def step(self, actions: Any) -> Step:
        """Carry out an action in each environment, and run each to its next decision or end.

        Raises:
            SimulationError: an episode is over and the mode is DISABLED, or none has begun.
            PolicyError: an action does not lie in the action space.
        """
        lanes, rows = self._lanes, self._lanes.fleet.lanes
        begun = self._ended
        if begun.size and self.autoreset_mode != AutoresetMode.NEXT_STEP:
            raise SimulationError(
                f"environment {begun[0]} is in no episode: call reset(), or "
                'reset(options={"reset_mask": ended}) where autoreset is disabled'
            )
        lanes.take(actions, self._shape)
        rows["task"] = ACT
        self._steps += 1
        for k in begun.tolist():
            self._begin(k)
        some_over = lanes.run()
        over = lanes.over if some_over else np.zeros(self.num_envs, np.bool_)
        rewards = rows["reward"].copy()
        if begun.size:
            over[begun], rewards[begun] = False, 0.0
        terminated = over & (rows["drained"] == 1)
        truncated = over & ~terminated
        if self._most_steps is not None:
            truncated |= (self._steps >= self._most_steps) & ~terminated
        everyone, ended = np.ones(self.num_envs, np.bool_), terminated | truncated
        self._ended = np.flatnonzero(ended) if some_over or self._most_steps else NOBODY
        infos = self._infos(everyone, over if some_over else None, begun)
        if self._ended.size and self.autoreset_mode == AutoresetMode.SAME_STEP:
            infos = self._begin_anew(infos, ended)
        return self._seen(), rewards, terminated, truncated, infos

    def _begin_anew(self, infos: Infos, ended: np.ndarray) -> Infos:
        """Start the next episode where one has ended; what was seen there goes to `final_*`."""
        final_obs = np.full(self.num_envs, None, object)
        fleet = self._lanes.fleet
        begun, self._ended = self._ended, NOBODY
        for k in begun.tolist():
            final_obs[k] = {table: getattr(fleet, table)[k].copy() for table in TABLES}
            self._begin(k)
        self._lanes.run()
        final_info: Infos = {}
        for name, values in infos.items():
            if not name.startswith("_"):
                final_info[name] = values
                final_info[f"_{name}"] = infos[f"_{name}"] & ended
        everyone = np.ones(self.num_envs, np.bool_)
        infos = self._infos(everyone, None, begun)
        return infos | {
            "final_obs": final_obs,
            "_final_obs": ended,
            "final_info": final_info,
            "_final_info": ended.copy(),
        }

    def _seen(self) -> Observations:
        fleet = self._lanes.fleet
        seen: Observations = {table: getattr(fleet, table) for table in TABLES}
        return {table: part.copy() for table, part in seen.items()} if self.copy else seen

    def _infos(
        self,
        present: np.ndarray,
        over: np.ndarray | None,
        begun: np.ndarray,
    ) -> Infos:
        """What is said beside observations.

        Args:
            present: of which environments, bool (num_envs,).
            over: those whose episodes have come to their end.
            begun: numbers of those that have begun one and carried out no action.
        """
        fleet = self._lanes.fleet
        invalid = fleet.lanes["invalid"].astype(np.int64)
        invalid[begun] = 0
        infos: Infos = {
            "time": fleet.lanes["time"].copy(),
            "dt": fleet.lanes["dt"].copy(),
            "invalid_actions": invalid,
        }
        if fleet.masks.size:
            infos["action_mask"] = fleet.masks.copy() if self.copy else fleet.masks
        infos |= dict.fromkeys([f"_{name}" for name in infos], present)
        if over is not None and over.any():
            found = {k: self._lanes.metrics(k) for k in np.flatnonzero(over).tolist()}
            for name in self.plan.final:
                infos[name] = np.zeros(self.num_envs)
                infos[f"_{name}"] = over.copy()
                for k, metrics in found.items():
                    infos[name][k] = metrics[name]
        return infos

    def action_masks(self) -> np.ndarray:
        """Valid choices; bool (num_envs, entries of the flat mask), factors one after the other.

        Raises:
            SgymError: Box actions have no masks.
        """
        return self._lanes.action_masks()

    def close_extras(self, **_: Any) -> None:
        """Let the threads go."""
        self._lanes.close()


def _chosen_lanes(mask: Any, count: int) -> np.ndarray:
    if mask is None:
        return np.ones(count, np.bool_)
    fine = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (count,)
    if not fine or not mask.any():
        raise ScenarioError(
            f"options['reset_mask'] must be a bool array of shape ({count},) with at least one "
            f"True, got {mask!r}"
        )
    return mask


def _one_each(name: str, values: int | Iterable[Any] | None, count: int) -> list[Any]:
    if values is None or isinstance(values, int | np.integer):
        return [values] * count
    listed = [None if value is None else int(value) for value in values]
    if len(listed) != count:
        raise ScenarioError(f"{name} must have one entry for each of {count}, got {len(listed)}")
    return listed


class ColocatedVectorEnv(ServingVectorEnv):
    """Many of sgym/Colocated-v0."""

    single = ColocatedEnv


class DisaggregatedVectorEnv(ServingVectorEnv):
    """Many of sgym/Disaggregated-v0."""

    single = DisaggregatedEnv


class RouterVectorEnv(ServingVectorEnv):
    """Many of sgym/Router-v0."""

    single = RouterEnv
