"""Who is compared: tuned heuristics, policies by name, bundles, models of agents.train."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

import sgym
from agents.bound import upper_bound
from agents.lookahead import Settings, look_ahead
from sgym.config import Scenario
from sgym.export import Bundle, load_bundle
from sgym.simulator import Simulator

BOUND = "bound"
"""Name of the contender that is no scheduler: what none can exceed."""
LOOK_AHEAD = "look-ahead"
"""Name of the contender that tries knobs on the true future: a reference, as nobody knows it."""
AHEAD = Settings(future="true", every=8, horizon=30.0)


@dataclass(frozen=True)
class Contender:
    """A policy that plays workloads.

    Attributes:
        name: for tables.
        policy: built-in's name, zoo:NAME, bundle:FOLDER, or a folder of `agents.train`.
        overrides: of the scenario, that belong to it: parameters, limits of the engine.
        kind: heuristic, learned, bound or look-ahead.
    """

    name: str
    policy: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "heuristic"


@dataclass(frozen=True)
class Cell:
    """A contender on a workload at a rate: one row for each seed.

    Attributes:
        labels: columns that say which.
        contender: who plays.
        scenario: name or path.
        overrides: of the scenario, rate included.
        seeds: of the workloads.
    """

    labels: Mapping[str, Any]
    contender: Contender
    scenario: str
    overrides: Mapping[str, Any]
    seeds: Sequence[int]

    def loaded(self) -> Scenario:
        """The scenario that it plays."""
        return sgym.load_scenario(self.scenario, {**self.overrides, **self.contender.overrides})


def play_cell(cell: Cell) -> list[dict[str, Any]]:
    """All metrics of a cell, a dict for each seed."""
    scenario, contender = cell.loaded(), cell.contender
    labels = {**cell.labels, "policy": contender.name, "kind": contender.kind}
    return [{**labels, "seed": seed, **_metrics(contender, scenario, seed)} for seed in cell.seeds]


def _metrics(contender: Contender, scenario: Scenario, seed: int) -> dict[str, float]:
    if contender.kind == BOUND:
        return {"smooth_goodput": upper_bound(scenario, seed).bound}
    if contender.kind == LOOK_AHEAD:
        return look_ahead(scenario, seed, AHEAD).summary
    if contender.policy.startswith(("zoo:", "bundle:")):
        bundle = load_bundle(contender.policy)
        return {**bundle.simulate(scenario, seed).summary, **decision_time(bundle, scenario)}
    if contender.kind == "learned":
        from agents.trained import load_trained  # torch only where it is needed

        return load_trained(contender.policy).simulate(scenario, seed).summary
    simulator = _simulator(scenario.model_dump_json(), contender.policy)
    simulator.reset(seed)
    return simulator.run().summary


@lru_cache(maxsize=4)
def _simulator(scenario: str, policy: str) -> Simulator:
    loaded = Scenario.model_validate_json(scenario)
    return Simulator(loaded, policy=policy, track=False)


def decision_time(bundle: Bundle, scenario: Scenario, times: int = 200) -> dict[str, float]:
    """CPU time of one decision by onnxruntime, features already made; microseconds."""
    env = bundle.environment(scenario)
    seen, info = env.reset(seed=0)
    spent: list[int] = []
    for _ in range(times):
        started = time.thread_time_ns()
        bundle.policy.act(seen, info.get("action_mask"))
        spent.append(time.thread_time_ns() - started)
    low, high = np.percentile(np.array(spent) / 1e3, [50, 99])
    return {"decision_us_p50": float(low), "decision_us_p99": float(high)}
