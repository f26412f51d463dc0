"""The same cases in sgym, answered in the same form as serve.py answers."""

from typing import Any

import ours

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


class Drawn(ours.Drawn):
    """The policy that answers as steering.draw says; victims from the tail, as the adapter does."""

    def schedule(self, view: Any) -> Steering | None:
        """The next steering, in sgym's own record."""
        said = super().schedule(view)
        if said is not None:
            said.preempt = [one.id for one in reversed(view.running) if one.id in said.preempt]
        return said
