"""What all environments of sgym have in common: one simulation, asked and answered in kernels."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sgym.config import Scenario
from sgym.core.layout import DONE, FULL
from sgym.envs import actions, features, frame, loop
from sgym.envs.desk import ACT, BEGIN, SHOW, Desk, copy_of
from sgym.envs.options import Options, one_of
from sgym.envs.start import fresh_desk, prefill_times
from sgym.errors import PolicyError, ScenarioError, SgymError, SimulationError
from sgym.loading import load_scenario
from sgym.simulator import Simulator, Source

Observation = dict[str, Any]
"""Part -> float32 array; the parts are the keys of features.TABLES."""
Info = dict[str, Any]

FINAL = (
    "smooth_goodput",
    "slo_attainment",
    "goodput_tok_s",
    "throughput_tok_s",
    "ttft_p50",
    "ttft_p99",
    "tpot_p50",
    "tpot_p99",
    "num_preemptions",
    "num_migrations",
)
"""Metrics in the `info` of the last step; `num_handoffs` too if actions name instances."""


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
        chosen.check()
        one_of("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.render_mode = render_mode
        self._options = chosen
        changes = dict(overrides or {})
        if chosen.schedules or chosen.length_hint != "none":  # else for the scenario's policy alone
            changes["workload.prediction.kind"] = chosen.length_hint
        self._simulator = Simulator(self._checked(load_scenario(scenario, changes)))
        state = self._simulator.state
        self._features = _features(chosen, between)
        self._boxes = self._observation_boxes()
        self.observation_space = spaces.Dict(list(self._boxes.items()))
        self._layout = actions.Layout(
            chosen.action,
            int(chosen.num_slots),
            len(self._features["requests"]),
            len(state.instances) if between else 0,
        )
        self.action_space = self._layout.space
        self._taken = np.zeros(int(np.prod(self.action_space.shape or (1,))))
        self._mask = np.zeros(self._layout.mask_length, np.int8)
        self._columns = {
            table: features.columns(table, rows) for table, rows in self._features.items()
        }
        self._prefill_times = prefill_times(state)
        self._final = (*FINAL, "num_handoffs") if between else FINAL
        self._desk: Desk | None = None
        self._over = True

    def _checked(self, scenario: Scenario) -> Scenario:
        """The scenario, if it is one for this environment."""
        return scenario

    @property
    def scenario(self) -> Scenario:
        """The scenario that is simulated."""
        return self._simulator.scenario

    @property
    def seen(self) -> dict[str, tuple[features.Feature, ...]]:
        """What the agent sees: part of the observation -> its features, in order."""
        return self._features

    @property
    def workload_seed(self) -> int:
        """`sgym.simulate(env.scenario, seed=workload_seed)` serves the same requests."""
        return self._simulator.seed

    def _observation_boxes(self) -> dict[str, spaces.Box]:
        instances = len(self._simulator.state.instances)
        slots = int(self._options.num_slots)
        repeats = {"requests": slots, "instances": instances, "cluster": 1}
        boxes: dict[str, spaces.Box] = {}
        for table, rows in self._features.items():
            low, high = features.bounds(rows, repeats[table])
            boxes[table] = spaces.Box(low, high, dtype=np.float32)
        return boxes

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
        controls, simulator = self._options.controls, self._simulator
        seed = drawn if chosen is None else chosen
        simulator.reset(seed, "route" in controls, "handoff" in controls)
        self._desk = fresh_desk(
            simulator, self._options, self._layout, self._columns, self._prefill_times
        )
        self._over = False
        observation, _ = self._run(self._desk, BEGIN)
        return observation, self._info(simulator.now - simulator.window[0])

    def _run(self, desk: Desk, task: int) -> tuple[Observation, int]:
        """Do a task of the kernels; returns what is seen then, and the decision."""
        observation = {name: np.empty(box.shape, np.float32) for name, box in self._boxes.items()}
        parts = [observation[table] for table in features.TABLES]
        desk.settings["task"] = task
        while True:
            state = self._simulator.state
            decision = int(loop.step(state, desk, self._taken, *parts, self._mask))
            if decision != FULL:
                return observation, decision
            self._simulator.enlarge()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        """Put an action into force, and run to the next decision or the end.

        Raises:
            SimulationError: the episode is over, or has not begun.
            PolicyError: the action does not lie in the action space.
        """
        if self._desk is None or self._over:
            raise SimulationError("no episode is under way: call reset()")
        self._take(action)
        simulator, desk = self._simulator, self._desk
        observation, decision = self._run(desk, ACT)
        settings = desk.settings[0]
        info = self._info(simulator.now - float(settings["last_time"]))
        info["invalid_actions"] = int(settings["invalid"])
        self._over = decision == DONE
        drained = self._over and int(simulator.state.cluster[0]["num_unfinished"]) == 0
        if self._over:
            summary = simulator.result().summary
            info.update({name: float(summary[name]) for name in self._final})
        reward = float(settings["reward"])
        return observation, reward, drained, self._over and not drained, info

    def _take(self, action: Any) -> None:
        space, taken = self.action_space, self._taken
        try:
            given = np.asarray(action, np.float64)
        except (TypeError, ValueError):
            raise self._no_action(action) from None
        one = isinstance(space, spaces.Discrete) and given.size == 1  # SB3 hands over arrays (1,)
        if given.shape != space.shape and not one:
            raise self._no_action(action)
        taken[:] = given
        if isinstance(space, spaces.Box):
            np.clip(taken, -1.0, 1.0, out=taken)
            fine = not np.isnan(taken).any()
        elif isinstance(space, spaces.Discrete):
            fine = 0 <= taken[0] < space.n and taken[0] % 1 == 0
        else:
            inside = (taken >= 0) & (taken < space.nvec)  # type: ignore[attr-defined]
            fine = bool((inside & (taken % 1 == 0)).all())
        if not fine:
            raise self._no_action(action)

    def _no_action(self, action: Any) -> PolicyError:
        return PolicyError(f"the action must lie in {self.action_space}, got {action!r}")

    def _info(self, passed: float) -> Info:
        info: Info = {"time": self._simulator.now, "dt": passed, "invalid_actions": 0}
        if self._mask.size:
            info["action_mask"] = self._layout.shaped(self._mask.copy())
        return info

    def action_masks(self) -> np.ndarray:
        """Valid choices as sb3-contrib wants them: bool, factors one after the other.

        Raises:
            SgymError: Box actions have no masks.
        """
        if not self._mask.size:
            raise SgymError(f"action={self._layout.action!r} is a Box, which has no masks")
        return self._mask.astype(np.bool_)

    def snapshot(self) -> tuple[Any, ...]:
        """A copy of everything that changes, random numbers included."""
        if self._desk is None:
            raise SimulationError("no episode is under way: call reset()")
        desk = copy_of(self._desk)
        random = self.np_random.bit_generator.state
        return self._simulator.snapshot(), desk, random, self._over

    def restore(self, snapshot: tuple[Any, ...]) -> tuple[Observation, Info]:
        """Return to a snapshot, which stays usable; returns what is seen there."""
        simulation, desk, random, self._over = snapshot
        self._simulator.restore(simulation)
        self._desk = copy_of(desk)
        self.np_random.bit_generator.state = random
        observation, _ = self._run(self._desk, SHOW)
        passed = self._simulator.now - float(self._desk.settings[0]["last_time"])
        return observation, self._info(passed)

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """The moment as text or as a picture, uint8 (height, width, 3)."""
        if self.render_mode is None:
            gym.logger.warn('no render mode: pass render_mode="ansi" or "rgb_array"')
            return None
        slots = None if self._desk is None else self._desk.slots
        draw = frame.text if self.render_mode == "ansi" else frame.picture
        return draw(self._simulator.state, self.scenario.name, slots)


def _features(chosen: Options, between: bool) -> dict[str, tuple[features.Feature, ...]]:
    """Part of the observation -> what is seen of it."""
    holds = {
        "always": True,
        "schedule": chosen.schedules,
        "cluster": between,
        "hint": chosen.length_hint != "none",
    }
    when = [name for name, true in holds.items() if true]
    extra = chosen.extra_features
    return {table: features.selected(table, when, extra) for table in features.TABLES}
