"""The same cases in sgym, answered in the same form as serve.py answers."""

from typing import Any

import ours
import steering as drawn

from sgym.export import load_bundle
from sgym.policies.steering import Steering
from sgym.simulator import Simulator

LOG = ("tokens", "iterations", "batches")


def run(case: dict[str, Any]) -> dict[str, Any]:
    """What sgym decides in a case: iterations, token times and preemptions."""
    chosen = case["policy"]
    scenario = case.get("scenario") or scenario_of(case)
    if chosen.startswith("bundle:") and not case.get("heuristic"):
        result = load_bundle(chosen).simulate(scenario, 0, LOG, case["arrivals"])
        return ours.answer_of(result, case)
    policy = case.get("heuristic") or ours.POLICIES[case["config"]["scheduling_policy"]]
    simulator = Simulator(scenario, policy=policy, arrivals=case["arrivals"], log=LOG, track=False)
    simulator.run(Drawn(case) if chosen == "drawn" else None)
    return ours.answer_of(simulator, case)


def scenario_of(case: dict[str, Any]) -> dict[str, Any]:
    """The scenario of a random case."""
    scenario = ours.scenario_of(case)
    if "classes" in case:
        scenario["slo"] = {"classes": case["classes"]}
    seconds = case.get("horizon", ours.FOREVER)
    scenario["episode"] = {"duration": seconds}
    scenario["workload"]["rate"] = 10.0 / seconds  # an environment draws one before it gets ours
    return scenario


class Drawn:
    """The policy that answers as steering.draw says."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.calls = 0

    def schedule(self, view: Any) -> Steering | None:
        """The next steering, in sgym's own record; victims from the tail, as the adapter does."""
        waiting, running = [r.id for r in view.waiting], [r.id for r in view.running]
        new = drawn.draw(self.case, self.calls, waiting, running)
        self.calls += 1
        if new is None:
            return None
        return Steering(
            waiting_score=new.waiting_score,
            running_score=new.running_score,
            preempt=[r for r in reversed(running) if r in new.preempt],
            token_budget=new.token_budget,
            active_cap=new.active_cap,
            chunk_cap=new.chunk_cap,
            reserve=new.reserve,
            hold_prefill=new.hold_prefill,
        )
