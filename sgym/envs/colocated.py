"""`sgym/Colocated-v0`: an agent steers serving engines that prefill and decode on the same GPUs."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sgym.config import Scenario
from sgym.core.layout import DONE, NONE, STEERED
from sgym.envs import actions, features, frame, loop, observe
from sgym.envs.desk import ACTIONS, IN_FORCE, SETTINGS, Desk, copy_of
from sgym.errors import PolicyError, ScenarioError, SgymError, SimulationError
from sgym.loading import load_scenario
from sgym.policies.memory import fresh_memory
from sgym.policies.registry import policy_record
from sgym.policies.trigger import TRIGGERS, fresh_triggers
from sgym.simulator import Simulator, Source

Observation = dict[str, Any]
"""Part -> float32 array; the parts are the keys of features.TABLES."""
Info = dict[str, Any]

HINTS = ("none", "noisy", "bucket", "oracle")
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
"""Metrics in the `info` of the last step."""


class ColocatedEnv(gym.Env[Observation, Any]):
    """An agent schedules the requests of LLM serving engines, one decision at a time.

    ## Description

    Requests arrive at one or more serving engines, each of which computes prompts (prefill) and
    output tokens (decode) on the same GPU. Before an engine forms its next batch, the agent may say
    who runs next: the order of admission and of preemption, how much memory stays free, how large
    batches are. What it says is a Steering, which has only knobs that vLLM has; the simulated
    engine acts on it. How long a batch takes comes from measured tables.

    ```python
    import gymnasium as gym
    import sgym

    env = gym.make("sgym/Colocated-v0", scenario="tiny", action="knobs")
    observation, info = env.reset(seed=0)
    over = False
    while not over:
        action = env.action_space.sample(mask=info["action_mask"])
        observation, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    print(info["smooth_goodput"])
    ```

    | | |
    |---|---|
    | Action Space | `slots`: MultiDiscrete, `knobs`: Discrete, `scores`, `index`: Box in [-1, 1] |
    | Observation Space | Dict of flat float32 Boxes `requests`, `instances`, `cluster` |
    | import | `gymnasium.make("sgym:sgym/Colocated-v0")` |

    ## Action Space

    It concerns the instance that asks, and stays in force there until its next decision. What
    arrives in between has score 0.

    When it is asked, `decision` says. `iteration`: before every batch. `event`: after an arrival, a
    finish or a preemption, when fewer KV blocks are free than requests run, or when a reader will
    run dry within 0.1 s. `admission`: where the engine's own limits would let a waiting request in.
    `interval`: after that time. It is never asked where it has no choice: with fewer than two
    requests on the instance, or with nothing waiting and no shortage of memory.

    `action="slots"`: MultiDiscrete, a verb for each of the K slots, then a level of the token
    budget.

    | num | verb | applies to | effect |
    |---|---|---|---|
    | 0 | neutral | any | - |
    | 1 | preempt | running | preempt now (recompute), and hold |
    | 2 | promote | any | ahead of all others: admitted first, or preempted last |
    | 3 | hold | waiting | not admitted before the next decision |
    | 4 | reject | waiting | refuse it for good; only with `allow_reject`: no engine can do it |

    Level n of the token budget is max_num_batched_tokens / 2**n, n = 0 to 3; engines that do not
    split prompts have level 0 alone.

    `action="scores"`: Box (K,), a score for each slot: order of admission for waiting requests,
    order of preemption (lowest first) for running ones. Requests without a slot have score 0.

    `action="knobs"`: Discrete over `sgym.envs.actions.KNOBS`, every combination of an ordering
    (fcfs, spf, edf, llf, slack-victim, as the built-in policies of these names), a reservation (0,
    0.2 or 0.5 of the output that the running requests are expected to generate still is kept free)
    and a limit (open; closed = admit nobody beyond the present number; gentle = a quarter of the
    token budget, small chunks). Action 0 is the stock engine.

    `action="index"`: Box (F + 3,). score = base + w . features for every waiting and running
    request, with a slot or not; the base is `base`, in units of 512 tokens (spf) or 1 s (others).
    The last three numbers are reserve, token budget and cap on running requests: 0 leaves them as
    the base has them.

    An action that does not apply is a no-op (for `knobs`: what is in force stays) and is counted in
    `info["invalid_actions"]`. `info["action_mask"]` has the form that
    `action_space.sample(mask=...)` takes, `env.action_masks()` the one of sb3-contrib, and
    `sgym.envs.MaskInObs` puts it into the observation for RLlib and TorchRL. Box spaces have no
    masks.

    ## Observation Space

    `requests`: K slots of F features, zeros in an empty one. The first K/2 slots hold running
    requests, the tail of the running order (the next victim) first; the others the head of the
    queue. Unused slots of one half are lent to the other from the far end. The true output length
    is never visible, unless `length_hint` says so.

    {requests}

    `instances`: G features of each instance.

    {instances}

    `cluster`: H features.

    {cluster}

    ## Rewards

    (B(now) - B(at the last decision)) / T, with B the summed benefit of all requests: tokens
    delivered (times weight) - alpha * f(idle latency), arXiv 2410.14257. T is the episode's
    duration, so the undiscounted return is the episode's smooth goodput in tokens/s. `slo.reward`
    of the scenario may say `goodput`, `throughput` or `qoe` instead.

    ## Starting State

    The first decision of a window of `episode.duration` seconds. With `episode.warm_start` the
    scenario's own policy ran before, and left a backlog. The reward up to the first decision is
    part of the first step's.

    ## Episode End

    - Termination: nothing more will come and everything is served.
    - Truncation: the window ends. Bootstrap the value here.

    An episode in which no decision is due ends on its first step.

    ## Information

    `time`: seconds since the start of the simulation. `dt`: seconds since the previous decision.
    `action_mask`: see above. `invalid_actions`: parts of the last action that did not apply. On the
    last step also, as floats: `smooth_goodput`, `slo_attainment`, `goodput_tok_s`,
    `throughput_tok_s`, `ttft_p50`, `ttft_p99`, `tpot_p50`, `tpot_p99`, `num_preemptions`,
    `num_migrations`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | `scenario` | "tiny" | name, path or dict of a scenario |
    | `overrides` | none | dotted names to values, such as {{"workload.rate": 6.0}} |
    | `action` | "slots" | slots, scores, knobs or index |
    | `decision` | "event" | when the agent is asked: event, iteration, admission, interval |
    | `interval` | 0.1 | seconds, for decision="interval" |
    | `num_slots` | 64 | K |
    | `length_hint` | "none" | none, noisy, bucket, oracle: shows a predicted output length |
    | `base` | "spf" | ordering that `index` starts from |
    | `allow_reject` | False | lets `slots` reject; no engine can take over such a policy |
    | `expected_output` | 256.0 | tokens, for reservations |
    | `extra_features` | () | optional features to switch on |
    | `render_mode` | none | ansi or rgb_array |

    `reset(options={{"workload_seed": n}})` serves the workload that `sgym.simulate(scenario,
    seed=n)` has. `snapshot()` and `restore()` copy the state exactly.

    ## Version History

    * v0: first version.

    ## References

    * Wang, Li, Zhou et al., "Revisiting Service Level Objectives and System Level Metrics in LLM
      Serving", arXiv 2410.14257.
    * Kwon et al., "Efficient Memory Management for Large Language Model Serving with
      PagedAttention", SOSP 2023.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        scenario: Source = "tiny",
        action: str = "slots",
        decision: str = "event",
        interval: float = 0.1,
        num_slots: int = 64,
        length_hint: str = "none",
        overrides: Mapping[str, Any] | None = None,
        base: str = "spf",
        allow_reject: bool = False,
        expected_output: float = 256.0,
        extra_features: Sequence[str] = (),
        render_mode: str | None = None,
    ) -> None:
        _one_of("action", action, ACTIONS)
        _one_of("decision", decision, TRIGGERS)
        _one_of("length_hint", length_hint, HINTS)
        _one_of("base", base, actions.ORDERINGS)
        _one_of("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        _at_least("num_slots", num_slots, 2)
        if num_slots != int(num_slots):
            raise ScenarioError(f"num_slots must be a whole number, got {num_slots!r}")
        _at_least("interval", interval, 0)
        _at_least("expected_output", expected_output, 0)
        self.render_mode = render_mode
        self._action, self._trigger, self._interval = action, decision, float(interval)
        self._num_slots, self._base = int(num_slots), base
        self._allow_reject, self._expected_output = bool(allow_reject), float(expected_output)
        changes = {**(overrides or {}), "workload.prediction.kind": length_hint}
        self._simulator = Simulator(load_scenario(scenario, changes))
        hinted = length_hint != "none"
        self._features = {
            table: features.selected(table, hinted, extra_features) for table in features.TABLES
        }
        self._boxes = self._observation_boxes()
        self.observation_space = spaces.Dict(list(self._boxes.items()))
        width = len(self._features["requests"])
        self.action_space = actions.action_space(action, self._num_slots, width)
        self._taken = np.zeros(int(np.prod(self.action_space.shape or (1,))))
        self._mask = np.zeros(actions.mask_length(action, self._num_slots), np.int8)
        self._columns = {
            table: features.columns(table, chosen) for table, chosen in self._features.items()
        }
        self._desk: Desk | None = None
        self._over = True

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
        repeats = {"requests": self._num_slots, "instances": instances, "cluster": 1}
        boxes: dict[str, spaces.Box] = {}
        for table, chosen in self._features.items():
            low, high = features.bounds(chosen, repeats[table])
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
        self._simulator.reset(drawn if chosen is None else chosen)
        self._desk = self._fresh_desk()
        self._over = False
        observation = self._empty()
        loop.begin(self._simulator.state, self._desk, *_parts(observation), self._mask)
        now = self._simulator.now
        return observation, self._info(now - self._simulator.window[0])

    def _fresh_desk(self) -> Desk:
        simulator = self._simulator
        start, end = simulator.window
        count, cluster = len(simulator.state.instances), self.scenario.cluster
        settings = np.zeros(1, SETTINGS)
        settings["action"] = ACTIONS.index(self._action)
        settings["allow_reject"] = self._allow_reject
        settings["base"] = actions.ORDERINGS.index(self._base)
        settings["reservation"] = actions.reservation_of(self._base)
        settings["expected_output"] = self._expected_output
        settings["start"] = settings["last_time"] = start
        settings["duration"] = end - start
        settings["before"] = simulator.start_potential
        in_force = np.zeros(count, IN_FORCE)
        in_force["ordering"] = NONE
        return Desk(
            settings,
            policy_record(simulator.policy_name, cluster.router, {}, staleness=cluster.staleness),
            fresh_memory(simulator.state),
            fresh_triggers(self._trigger, self._interval, count, start),
            in_force,
            np.full(self._num_slots, NONE, np.int32),
            self._columns["requests"],
            self._columns["instances"],
            self._columns["cluster"],
            np.zeros(observe.NUM_RAW),
            np.zeros(len(simulator.state.requests), STEERED),
        )

    def _empty(self) -> Observation:
        return {name: np.empty(box.shape, np.float32) for name, box in self._boxes.items()}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        """Put an action into force, and run to the next decision or the end.

        Raises:
            SimulationError: the episode is over, or has not begun.
            PolicyError: the action does not lie in the action space.
        """
        if self._desk is None or self._over:
            raise SimulationError("no episode is under way: call reset()")
        self._take(action)
        state, desk = self._simulator.state, self._desk
        observation = self._empty()
        decision = loop.step(state, desk, self._taken, *_parts(observation), self._mask)
        settings = desk.settings[0]
        info = self._info(self._simulator.now - float(settings["last_time"]))
        info["invalid_actions"] = int(settings["invalid"])
        self._over = decision == DONE
        drained = self._over and int(state.cluster[0]["num_unfinished"]) == 0
        if self._over:
            summary = self._simulator.result().summary
            info.update({name: float(summary[name]) for name in FINAL})
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
            info["action_mask"] = actions.shaped_mask(self._action, self._mask.copy())
        return info

    def action_masks(self) -> np.ndarray:
        """Valid choices as sb3-contrib wants them: bool, factors one after the other.

        Raises:
            SgymError: Box actions have no masks.
        """
        if not self._mask.size:
            raise SgymError(f"action={self._action!r} is a Box, which has no masks")
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
        observation = self._empty()
        loop.show(self._simulator.state, self._desk, *_parts(observation), self._mask)
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


def _parts(observation: Observation) -> tuple[np.ndarray, ...]:
    """The parts in the order in which the kernels take them."""
    return tuple(observation[table] for table in features.TABLES)


def _one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    if value not in allowed:
        raise ScenarioError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


def _at_least(name: str, value: Any, least: float) -> None:
    wrong_kind = isinstance(value, bool) or not isinstance(value, int | float | np.number)
    if wrong_kind or not least <= value < np.inf:
        raise ScenarioError(f"{name} must be at least {least}, got {value!r}")


ColocatedEnv.__doc__ = (ColocatedEnv.__doc__ or "").format(
    **{table: features.markdown(table).replace("\n", "\n    ") for table in features.TABLES}
)
