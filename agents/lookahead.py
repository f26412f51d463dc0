# pyright: reportPrivateUsage=false
"""Improve a heuristic by trying what to do next: rollouts from a snapshot, then the best is done.

Every `every` decisions, each candidate is put into force for that long, followed by the base
heuristic up to `horizon` seconds; the candidate with the highest smooth goodput there is carried
out. With `future="true"` rollouts see the arrivals and output lengths that will really come: an
oracle, which serves as expert or as reference, never as a policy; with a horizon beyond the end it
is never worse than its base. With `future="resampled"`
arrivals to come and the lengths of what is present are drawn anew from the scenario's workload, so
it is a policy. (Drawn arrivals do not depend on when the last one was, which matters for bursts;
lengths depend on the class and on what has been generated so far.)
"""

import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sgym import workload
from sgym.assembly import readers
from sgym.core import build, layout
from sgym.envs import ColocatedEnv
from sgym.envs.actions import KNOBS
from sgym.errors import ScenarioError
from sgym.simulator import Source

CANDIDATES = (
    "spf+0+open",
    "spf+0.5+open",
    "spf+0.2+closed",
    "spf+0.2+gentle",
    "fcfs+0.2+open",
    "edf+0.2+open",
    "llf+0+open",
    "slack-victim+0.2+open",
)
UNDER_WAY = (layout.WAITING, layout.RUNNING, layout.MOVING)


@dataclass(frozen=True, slots=True)
class Settings:
    """How far and how often to look ahead.

    Attributes:
        base: the knobs of the heuristic, as in `sgym.envs.actions.KNOBS`.
        candidates: knobs that are tried against it.
        interval: seconds between the decisions of the heuristic.
        every: decisions between two looks ahead.
        horizon: seconds of a rollout.
        future: what rollouts see.
        samples: futures over which a candidate is averaged, if they are resampled.
        caution: standard errors by which a candidate must be better than the base, over samples.
        passes: how often the episode is played; each pass improves on what the last one did, not
            on the base. Only with the true future.
    """

    base: str = "spf+0.2+open"
    candidates: tuple[str, ...] = CANDIDATES
    interval: float = 0.25
    every: int = 4
    horizon: float = 60.0
    future: Literal["true", "resampled"] = "resampled"
    samples: int = 4
    caution: float = 1.0
    passes: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """An episode that was played by looking ahead.

    Attributes:
        summary: of the episode, as of a simulation.
        looks: how often it looked ahead.
        changes: how often something else than the base was better.
        seconds: of computation.
    """

    summary: dict[str, float]
    looks: int
    changes: int
    seconds: float


def look_ahead(scenario: Source, seed: int = 0, settings: Settings | None = None) -> Outcome:
    """Play one episode of a scenario with colocated instances.

    Args:
        scenario: name, path, dict or Scenario.
        seed: of the workload; resampled futures are drawn from it too, but never equal it.
        settings: none = the defaults.

    Raises:
        ScenarioError: unknown knobs, or an unknown kind of future.
    """
    return _Player(scenario, seed, settings or Settings()).play()


class _Player:
    """An environment, and how candidates are tried in it."""

    def __init__(self, scenario: Source, seed: int, settings: Settings) -> None:
        if settings.future not in ("true", "resampled"):
            raise ScenarioError(f"future must be true or resampled, got {settings.future!r}")
        if settings.passes > 1 and settings.future != "true":
            raise ScenarioError(
                f"passes is {settings.passes}, which needs future true: set it to 1"
            )
        self.settings, self.seed = settings, seed
        self.base = _knob(settings.base)
        self.plan: dict[int, int] = {}  # slot of time -> knobs
        others = [_knob(name) for name in settings.candidates]
        self.candidates = [self.base, *(knob for knob in others if knob != self.base)]
        self.env = ColocatedEnv(
            scenario, action="knobs", decision="interval", interval=settings.interval, num_slots=2
        )
        self.random = np.random.default_rng([seed, 0xA4EAD])

    def play(self) -> Outcome:
        """Play the episode, and again if there are several passes."""
        begun, looks, changes = time.perf_counter(), 0, 0
        for _ in range(self.settings.passes):
            done, over = {}, False
            _, info = self.env.reset(seed=self.seed, options={"workload_seed": self.seed})
            over = self._is_over()
            while not over:
                action = self._planned(info)
                if (self.env._simulator.state.instances["num_waiting"] > 0).any():
                    usual, action = action, self._best_action(info, action)
                    looks, changes = looks + 1, changes + (action != usual)
                for _ in range(self.settings.every):
                    done[self._slot(info)] = action
                    _, _, ended, cut, info = self.env.step(action)
                    over = ended or cut
                    if over:
                        break
            self.plan = done
        summary = self.env._simulator.result().summary
        return Outcome(summary, looks, changes, time.perf_counter() - begun)

    def _slot(self, info: dict[str, Any]) -> int:
        return int(info["time"] / self.settings.interval)

    def _planned(self, info: dict[str, Any]) -> int:
        """What is done at this time if nothing better is found."""
        return self.plan.get(self._slot(info), self.base)

    def _is_over(self) -> bool:
        return bool(self.env._lanes.over[0])

    def _best_action(self, info: dict[str, Any], usual: int) -> int:
        start = self.env.snapshot()
        until = info["time"] + self.settings.horizon
        tried = [usual, *(knob for knob in self.candidates if knob != usual)]
        valid = [knob for knob in tried if info["action_mask"][knob]]
        futures: list[np.ndarray | None] = [None]
        if self.settings.future == "resampled":
            futures = [self._drawn_future() for _ in range(self.settings.samples)]
        scores = np.array(
            [[self._rollout(start, knob, until, future) for knob in valid] for future in futures]
        )
        self.env.restore(start)
        better = scores - scores[:, :1]
        mean = better.mean(axis=0)
        if len(futures) > 1:
            error = better.std(axis=0, ddof=1) / np.sqrt(len(futures))
            mean = mean - self.settings.caution * error
        best = int(mean.argmax())
        return valid[best] if mean[best] > 1e-9 else valid[0]

    def _rollout(
        self, start: tuple[Any, ...], knob: int, until: float, future: np.ndarray | None
    ) -> float:
        """What is earned up to a time if a candidate is followed by what is planned."""
        _, info = self.env.restore(start)
        if future is not None:
            self.env._simulator.state.requests[:] = future
        earned, steps = 0.0, 0
        while info["time"] < until:
            action = knob if steps < self.settings.every else self._planned(info)
            _, reward, ended, cut, info = self.env.step(action)
            earned, steps = earned + reward, steps + 1
            if ended or cut:
                break
        return earned

    def _drawn_future(self) -> np.ndarray:
        """REQUEST of the present moment with another future, that nobody can know to be wrong."""
        state, scenario = self.env._simulator.state, self.env.scenario
        now, next_arrival = self.env._simulator.now, int(state.cluster[0]["next_arrival"])
        drawn = workload.generate(scenario, int(self.random.integers(2**31))).arrivals
        length = scenario.engine.max_model_len
        fresh = build.fresh_requests(drawn, readers(scenario.slo), length)
        requests = state.requests.copy()
        self._draw_outputs(requests[:next_arrival], fresh)
        coming = fresh[fresh["arrival"] > now][: len(requests) - next_arrival]
        for name in ("first_hash", "num_hashes"):
            coming[name] = 0
        places = requests[next_arrival:]
        places[: len(coming)] = coming
        places[len(coming) :]["arrival"] = layout.NEVER
        return requests

    def _draw_outputs(self, present: np.ndarray, fresh: np.ndarray) -> None:
        """Draw output lengths of what is present, given its class and that it is not done."""
        for r in np.flatnonzero(np.isin(present["phase"], UNDER_WAY)):
            request = present[r]
            least = int(request["generated"]) + 1
            alike = fresh["user_class"] == request["user_class"]
            longer = fresh["output"][alike & (fresh["output"] >= least)]
            output = int(self.random.choice(longer)) if len(longer) else least
            room = max(self.env.scenario.engine.max_model_len - int(request["prompt"]), least)
            request["output"] = min(output, room)


def _knob(name: str) -> int:
    names = [knobs.name for knobs in KNOBS]
    if name not in names:
        raise ScenarioError(f"no knobs {name!r}; known: {', '.join(names)}")
    return names.index(name)
