"""Simulator: the stateful face of the core. `simulate` runs a whole episode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgym import metrics, workload
from sgym.assembly import (
    cluster_record,
    machines,
    parameters_of,
    readers,
    set_seed,
    with_engine_of,
)
from sgym.config import Engine, Scenario
from sgym.core import build, engine, metric
from sgym.core import steer as core_steer
from sgym.core.layout import DONE, FULL, HANDOFF, PENDING, ROUTE, SCHEDULE, Move, State
from sgym.errors import PolicyError, ScenarioError, SimulationError
from sgym.loading import load_scenario
from sgym.policies import kernels
from sgym.policies.memory import Memory, fresh_memory
from sgym.policies.registry import Policy, load_policy, policy_record
from sgym.policies.steering import Steering, role_number, set_knobs, steered_entries
from sgym.policies.view import ClusterView, InstanceView

if TYPE_CHECKING:
    import pandas as pd

Source = str | Path | Mapping[str, Any] | Scenario


@dataclass(frozen=True, slots=True)
class Decision:
    """What the simulation stopped for.

    Attributes:
        kind: "schedule", "route", "handoff" or "done".
        time: seconds since the start.
        view: the instance that asks, or the cluster and the request to be placed; None when done.
    """

    kind: str
    time: float
    view: InstanceView | ClusterView | None


class Simulator:
    """One simulated cluster that is stepped by hand, by a policy, or by an environment.

    Args:
        scenario: name, path, dict or Scenario.
        seed: of everything random in it.
        policy: a built-in's name, which may also choose the engine; None = `scenario.policy`.
        arrivals: a workload of your own (DataFrame, list of dicts, ARRIVAL array, Requests).
        log: what to record, of "tokens", "iterations", "batches", "moves".
        track: keep the reward current, as `potential` needs it.

    Attributes:
        overwrites: True lets `reset` write over the arrays of the last episode, which is faster:
            its states and results are lost then.

    Raises:
        ScenarioError, ProfileError, TraceError, PolicyError: with field, value and rule.
    """

    def __init__(
        self,
        scenario: Source,
        seed: int = 0,
        policy: str | None = None,
        arrivals: Any = None,
        log: Sequence[str] = (),
        track: bool = True,
    ) -> None:
        loaded = load_scenario(scenario)
        name = policy or loaded.policy.name
        self.policy_name = name
        self.scenario = with_engine_of(loaded, name)
        own = parameters_of(loaded, name)
        parameters = {key: own[key] for key in own if key not in Engine.model_fields}
        cluster, slo = loaded.cluster, loaded.slo
        targets = {"ttft_target": slo.ttft, "tpot_target": slo.tpot}
        self._policy = policy_record(
            name, cluster.router, parameters, cluster.handoff, cluster.staleness, targets
        )
        self._engines, self._latency = machines(self.scenario)
        if self._policy[0]["migration"] and self._engines["async_scheduling"].any():
            raise ScenarioError(
                f"engine.async_scheduling is true, but policy {name!r} migrates running requests, "
                "which needs it to be false"
            )
        self._cluster = cluster_record(self.scenario, track)
        self._readers = readers(slo)
        self.overwrites = False
        self._last: tuple[np.ndarray, State, Memory] | None = None
        self.prepare(arrivals, log)
        self.seed = seed
        self.state: State
        self.reset(seed)

    @property
    def policy(self) -> np.ndarray:
        """POLICY (1,), a copy: what decides if the caller does not."""
        return self._policy.copy()

    @property
    def memory(self) -> Memory:
        """What it remembers; not a copy."""
        return self._memory

    def prepare(self, arrivals: Any = None, log: Sequence[str] = ()) -> None:
        """Say what is served and recorded from the next `reset` on.

        Args:
            arrivals: a workload of your own; none = the scenario's.
            log: of "tokens", "iterations", "batches", "moves".
        """
        unknown = set(log) - set(build.LOGS)
        if unknown:
            raise ScenarioError(f"log has {sorted(unknown)}, but only {build.LOGS} can be logged")
        self._arrivals = None if arrivals is None else self._own_arrivals(arrivals)
        self._blank = build.blank_state(self._engines, self._latency, self._cluster, log)
        self._last = None

    def enlarge(self) -> None:
        """Double the logs and pools of `state`, where `core` says that one is full."""
        self.state = build.enlarged(self.state)

    def _own_arrivals(self, arrivals: Any) -> workload.Requests:
        requests = workload.from_table(arrivals, self.scenario.workload.hash_block)
        classes = self.scenario.slo.classes
        used = requests.arrivals["user_class"]
        wrong = used[(used < 0) | (used >= len(classes))]
        if wrong.size:
            raise ScenarioError(
                f"the table of requests has user_class {wrong[0]}, but slo.classes has "
                f"{len(classes)} classes: use indexes from 0 to {len(classes) - 1}, or add one"
            )
        return requests

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return float(self.state.cluster[0]["clock"])

    @property
    def window(self) -> tuple[float, float]:
        """Start and end of what counts, in seconds: the warm start comes before."""
        episode = self.scenario.episode
        return episode.warm_start, episode.warm_start + episode.duration

    @property
    def potential(self) -> float:
        """B: what has been earned so far; the reward of a step is its change over the duration."""
        state = self.state
        cluster = state.cluster[0]
        at = cluster["horizon"] if cluster["decision"] == DONE else cluster["clock"]
        return float(metric.value(state.requests, state.instances, cluster, state.dry, at))

    def reset(
        self, seed: int | None = None, route: bool = False, handoff: bool = False
    ) -> Decision:
        """Start over, up to the first decision; another seed draws another workload.

        Args:
            seed: of everything random; None = as before.
            route: stop for arrivals, as in `advance`.
            handoff: stop for finished prefills, as in `advance`.
        """
        if seed is not None:
            self.seed = seed
        drawn = self._arrivals
        if drawn is None:
            drawn = workload.generate(self.scenario, self.seed)
        self._begin(drawn)
        self._warm_up()
        return self.advance(route, handoff)

    def _begin(self, drawn: workload.Requests) -> None:
        """Make the state of an episode, and the memory of the policies."""
        rows, state, memory = self._last or (None, None, None)
        count = len(drawn)
        if self.overwrites and (rows is None or len(rows) < count):
            rows = build.room_for(build.with_slack(count))
        length = self.scenario.engine.max_model_len
        requests = build.fresh_requests(drawn.arrivals, self._readers, length, rows)
        self.state = build.begun(self._blank, requests, drawn.hashes, state)
        self.state.cluster["hash_block"] = drawn.hash_block
        set_seed(self.state.cluster, self.seed, self.scenario.cluster.router)
        self._memory = fresh_memory(self.state, memory)
        if self.overwrites and rows is not None:
            self._last = rows, self.state, self._memory

    def _warm_up(self) -> None:
        start, end = self.window
        self.start_potential, self._baseline = 0.0, None
        if start > 0:
            self.state.cluster["horizon"] = start
            self._drive()
            state = self.state
            self.start_potential = float(
                metric.value(state.requests, state.instances, state.cluster[0], state.dry, start)
            )
            self._baseline = metrics.baseline(state, self.scenario.slo, start)
            self.state.cluster["horizon"] = end

    def _drive(self, asks: int = 0, pending: bool = False) -> None:
        while kernels.drive(self.state, self._policy, self._memory, asks, pending) == FULL:
            self.enlarge()
            pending = False

    def advance(self, route: bool = False, handoff: bool = False) -> Decision:
        """Run to the next decision; one of an instance has to be answered before, by `answer`.

        Args:
            route: stop for arrivals, which else the scenario's router places.
            handoff: stop for finished prefills that go elsewhere; else the scenario's rule decides.
        """
        self._drive(1 << SCHEDULE | route << ROUTE | handoff << HANDOFF)
        return self.decision

    @property
    def decision(self) -> Decision:
        """What the simulation waits for."""
        cluster = self.state.cluster[0]
        kind = int(cluster["decision"])
        if kind == SCHEDULE:
            return Decision(
                "schedule", self.now, InstanceView(self.state, int(cluster["instance"]))
            )
        if kind == ROUTE:
            return Decision("route", self.now, ClusterView(self.state))
        if kind == HANDOFF:
            return Decision("handoff", self.now, ClusterView(self.state))
        return Decision("done", self.now, None)

    def step(
        self, answer: Steering | int | None = None, route: bool = False, handoff: bool = False
    ) -> Decision:
        """Answer the decision and run to the next one.

        Args:
            answer: a Steering (None = leave the one in force), or the index of an instance for a
                request that is routed or handed off (its own one: it stays there and decodes).
            route: also stop for arrivals that have to be routed.
            handoff: also stop for finished prefills that have to be handed off.

        Raises:
            PolicyError: the answer is of the wrong kind or names what is not there.
        """
        self.answer(answer)
        return self.advance(route, handoff)

    def answer(self, answer: Steering | int | None) -> None:
        """Carry out the answer to the decision that `state.cluster` waits for."""
        cluster = self.state.cluster[0]
        kind = int(cluster["decision"])
        if kind == DONE:
            raise SimulationError("the episode is over: call reset()")
        if kind == ROUTE:
            placed = int(cluster["request"])
            if self.state.requests["phase"][placed] != PENDING:
                raise SimulationError(
                    f"request {placed} is routed already, a decision is answered once: call "
                    "advance() to go on to the next one"
                )
            engine.route(self.state, self._checked_instance(answer))
            return
        if kind == HANDOFF:
            target = self._checked_instance(answer)
            self.state.requests[int(cluster["request"])]["waiting_score"] = 0.0
            engine.hand_off(self.state, target)
            return
        if answer is not None:
            if not isinstance(answer, Steering):
                raise PolicyError(f"a schedule decision takes a Steering or None, got {answer!r}")
            self._steer(answer, int(cluster["instance"]))
        engine.iterate(self.state)

    def _checked_instance(self, answer: Any) -> int:
        count = len(self.state.instances)
        if isinstance(answer, bool) or not isinstance(answer, int | np.integer):
            raise PolicyError(
                f"a route or handoff decision takes the index of an instance, got {answer!r}"
            )
        if not 0 <= answer < count:
            raise PolicyError(
                f"route and handoff take an instance from 0 to {count - 1}, got {answer}"
            )
        return int(answer)

    def _steer(self, steering: Steering, i: int) -> None:
        state = self.state
        entries = steered_entries(steering, state.requests, i, len(state.instances))
        self._check_role(i, steering.role)
        if steering.drain and steering.role is None:
            raise PolicyError(
                "Steering.drain is true, which needs a role to drain for: give `role`"
            )
        set_knobs(steering, state.instances[i], state.engines[i])
        core_steer.steer(state, i, entries)
        if steering.role is not None:
            self.set_role(i, steering.role, steering.drain)

    def set_role(self, instance: int, role: str, drain: bool = False) -> None:
        """Give an instance another role.

        Args:
            instance: its index.
            role: mixed, prefill or decode.
            drain: it first finishes what it has, and takes nothing new meanwhile; else at once.

        Raises:
            PolicyError: no such instance or role, or one with async scheduling.
        """
        i = self._checked_instance(instance)
        self._check_role(i, role)
        engine.set_role(self.state, i, role_number(role), drain)

    def _check_role(self, i: int, role: str | None) -> None:
        if role is None:
            return
        role_number(role)
        if self.state.engines[i]["async_scheduling"]:
            raise PolicyError(
                f"role {role!r} for instance {i}, which has engine.async_scheduling true: its role "
                "stays mixed, or set async_scheduling to false"
            )

    def run(self, policy: Policy | None = None) -> "Result":
        """Run to the end under a policy of your own, or the built-in one."""
        if policy is None:
            pending = int(self.state.cluster[0]["decision"]) in (ROUTE, SCHEDULE, HANDOFF)
            self._drive(pending=pending)
            return self.result()
        routes, hands = getattr(policy, "route", None), getattr(policy, "handoff", None)
        decision, answer = self.decision, None
        while decision.kind != "done":
            if isinstance(decision.view, ClusterView):
                choose = routes if decision.kind == "route" else hands
                answer = choose(decision.view) if choose else None
            elif decision.view is not None:
                answer = policy.schedule(decision.view)
            decision = self.step(answer, routes is not None, hands is not None)
        return self.result()

    def result(self) -> "Result":
        """What has happened so far."""
        return Result(
            self.scenario, self.policy_name, self.seed, self.state, self.window, self._baseline
        )

    def snapshot(self) -> tuple[Any, ...]:
        """A copy of everything that changes; `restore` brings it back exactly."""
        return self.state.copied(), self._memory.copied(), self._baseline, self.seed

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Return to a snapshot of this simulator; the snapshot stays usable."""
        state, memory, self._baseline, self.seed = snapshot
        self.state = state.copied()
        self._memory = memory.copied()


@dataclass(frozen=True, repr=False)
class Result:
    """An episode that was simulated."""

    scenario: Scenario
    policy: str
    seed: int
    state: State
    window: tuple[float, float]
    baseline: metrics.Baseline | None
    """What was there when the window started; None = nothing, without a warm start."""

    def __repr__(self) -> str:
        """One line: what ran, and what came of it."""
        served, arrived = self.summary["num_finished"], self.summary["num_requests"]
        return (
            f"<Result {self.scenario.name} under {self.policy}, seed {self.seed}: "
            f"{served:.0f} of {arrived:.0f} requests served, "
            f"smooth goodput {self.summary['smooth_goodput']:.1f} tokens/s>"
        )

    @cached_property
    def summary(self) -> dict[str, float]:
        """All metrics, flat, with units in the names."""
        return metrics.summarize(self.state, self.scenario.slo, self.window, self.baseline)

    @property
    def headline(self) -> dict[str, float]:
        """Some columns of `summary`, in a third of its time."""
        return metrics.headline(self.state, self.scenario.slo, self.window, self.baseline)

    @cached_property
    def requests(self) -> "pd.DataFrame":
        """A row per request."""
        return metrics.requests_frame(self.state, self.scenario.slo, self.window[1])

    @cached_property
    def iterations(self) -> "pd.DataFrame":
        """A row per iteration, if logged."""
        return self._frame("iterations")

    @cached_property
    def tokens(self) -> "pd.DataFrame":
        """A row per delivered token, if logged."""
        return self._frame("tokens")

    @cached_property
    def batches(self) -> "pd.DataFrame":
        """A row per request in an iteration, if logged; tokens = 0 marks a victim."""
        return self._frame("batches")

    @cached_property
    def moves(self) -> "pd.DataFrame":
        """A row per hand-off, migration, preemption, swap, rejection and new role, if logged."""
        frame = self._frame("moves")
        return frame.assign(kind=[Move(kind).name.lower() for kind in frame["kind"]])

    def _frame(self, name: str) -> "pd.DataFrame":
        import pandas as pd

        log = getattr(self.state, name)
        if not log.size:
            raise ScenarioError(f"{name} were not logged: ask with log=({name!r},)")
        return pd.DataFrame(log[: int(self.state.cluster[0][f"num_{name}_logged"])])


def simulate(
    scenario: Source,
    policy: str | Policy | type | None = None,
    seed: int = 0,
    log: Sequence[str] = (),
    arrivals: Any = None,
) -> Result:
    """Simulate one episode.

    Args:
        scenario: name, path, dict or Scenario.
        policy: a built-in's name, `module:Class`, an object with `schedule(view)`, or its class.
        seed: of everything random.
        log: what to record, of "tokens", "iterations", "batches", "moves".
        arrivals: a workload of your own instead of the scenario's.
    """
    loaded = None if policy is None else load_policy(policy)
    name = loaded if isinstance(loaded, str) else None
    own = None if isinstance(loaded, str) else loaded
    simulator = Simulator(scenario, seed, name, arrivals, log, track=False)
    reset = getattr(own, "reset", None)
    if reset is not None:
        reset(seed)
    result = simulator.run(own)
    if own is None:
        return result
    label = policy if isinstance(policy, str) else type(own).__name__
    return Result(result.scenario, label, seed, result.state, result.window, result.baseline)
