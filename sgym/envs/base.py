"""What all environments of sgym have in common: one simulation, asked and answered in kernels."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from sgym.config import Scenario
from sgym.envs import features, frame
from sgym.envs.desk import Desk
from sgym.envs.features import TABLES
from sgym.envs.fleet import ACT
from sgym.envs.lanes import Lanes
from sgym.envs.options import Options, one_of
from sgym.envs.plan import Plan
from sgym.errors import ScenarioError, SimulationError
from sgym.simulator import Result, Simulator, Source

Observation = dict[str, Any]
"""Part -> float32 array; the parts are the keys of features.TABLES."""
Info = dict[str, Any]


class ServingEnv(gym.Env[Observation, Any]):
    """A simulated cluster of LLM serving engines, some of whose decisions an agent makes.

    Args:
        scenario: name, path or dict of a scenario.
        overrides: dotted names to values.
        chosen: the other arguments.
        between: whether the agent decides between instances, so that actions name one.
        render_mode: none, ansi or rgb_array.

    Raises:
        ScenarioError: an argument or the scenario breaks a rule.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        scenario: Source,
        overrides: Mapping[str, Any] | None,
        chosen: Options,
        between: bool,
        render_mode: str | None,
    ) -> None:
        one_of("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.render_mode = render_mode
        self.plan = Plan(scenario, overrides, chosen, between, self._checked)
        self.observation_space = self.plan.observation_space
        self.action_space = self.plan.action_space
        self._lanes = Lanes(self.plan, 1)
        self._over, self._begun = True, False

    def _checked(self, scenario: Scenario) -> Scenario:
        """The scenario, if it is one for this environment."""
        return scenario

    @property
    def _simulator(self) -> Simulator:
        return self._lanes.simulators[0]

    @property
    def _desk(self) -> Desk:
        return self._lanes.desks[0]

    @property
    def scenario(self) -> Scenario:
        """The scenario that is simulated."""
        return self.plan.scenario

    @property
    def seen(self) -> dict[str, tuple[features.Feature, ...]]:
        """What the agent sees: part of the observation -> its features, in order."""
        return self.plan.features

    @property
    def workload_seed(self) -> int:
        """`sgym.simulate(env.scenario, seed=workload_seed)` serves the same requests."""
        return self._simulator.seed

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Start an episode, up to its first decision.

        Args:
            seed: of the environment's random numbers, from which each workload's seed is drawn.
            options: {"workload_seed": int} to serve a certain workload.
        """
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31))
        unknown = set(options or {}) - {"workload_seed"}
        if unknown:
            raise ScenarioError(f"reset has no option {unknown.pop()!r}; it has: workload_seed")
        chosen = (options or {}).get("workload_seed")
        self._lanes.begin(0, drawn if chosen is None else chosen)
        self._lanes.run()
        self._over, self._begun = False, True
        return self._seen(), self._info()

    def prepare(self, arrivals: Any = None, log: Sequence[str] = ()) -> None:
        """Say what is served and recorded from the next `reset` on.

        Args:
            arrivals: a workload of your own, as `sgym.simulate` takes it; none = the scenario's.
            log: of "tokens", "iterations", "batches", "moves".
        """
        self._simulator.prepare(arrivals, log)

    def result(self) -> Result:
        """What has happened so far in this episode, as `sgym.simulate` returns it."""
        return self._simulator.result()

    def _seen(self) -> Observation:
        fleet = self._lanes.fleet
        return {table: getattr(fleet, table)[0].copy() for table in TABLES}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        """Put an action into force, and run to the next decision or the end.

        Raises:
            SimulationError: the episode is over, or has not begun.
            PolicyError: the action does not lie in the action space.
        """
        if self._over:
            raise SimulationError("no episode is under way: call reset()")
        lanes, lane = self._lanes, self._lanes.fleet.lanes
        lanes.take(action, self.action_space.shape or ())
        lane["task"] = ACT
        self._over = lanes.run()
        info = self._info()
        info["invalid_actions"] = int(lane["invalid"][0])
        drained = self._over and bool(lane["drained"][0])
        if self._over:
            info.update(lanes.metrics(0))
        return self._seen(), float(lane["reward"][0]), drained, self._over and not drained, info

    def _info(self) -> Info:
        fleet = self._lanes.fleet
        now, passed = fleet.lanes["time"][0], fleet.lanes["dt"][0]
        info: Info = {"time": float(now), "dt": float(passed), "invalid_actions": 0}
        if fleet.masks.size:
            info["action_mask"] = self.plan.layout.shaped(fleet.masks[0].copy())
        return info

    def action_masks(self) -> np.ndarray:
        """Valid choices as sb3-contrib wants them: bool, factors one after the other.

        Raises:
            SgymError: Box actions have no masks.
        """
        return self._lanes.action_masks()[0]

    def snapshot(self) -> tuple[Any, ...]:
        """A copy of everything that changes, random numbers included."""
        if not self._begun:
            raise SimulationError("no episode is under way: call reset()")
        return self._lanes.snapshot(0), self.np_random.bit_generator.state, self._over

    def restore(self, snapshot: tuple[Any, ...]) -> tuple[Observation, Info]:
        """Return to a snapshot, which stays usable; returns what is seen there."""
        lane, random, self._over = snapshot
        self._begun = True
        self._lanes.restore(0, lane)
        self.np_random.bit_generator.state = random
        self._lanes.run()
        return self._seen(), self._info()

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """The moment as text or as a picture, uint8 (height, width, 3)."""
        if self.render_mode is None:
            gym.logger.warn('no render mode: pass render_mode="ansi" or "rgb_array"')
            return None
        slots = self._desk.slots if self._begun else None
        draw = frame.text if self.render_mode == "ansi" else frame.picture
        return draw(self._simulator.state, self.scenario.name, slots)
