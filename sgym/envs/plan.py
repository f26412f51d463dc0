"""What an environment is made of, once its arguments are understood; for one lane or for many."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from sgym.config import Scenario
from sgym.envs import actions, features
from sgym.envs.options import Options
from sgym.envs.start import prefill_times
from sgym.loading import load_scenario
from sgym.simulator import Simulator, Source

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


class Plan:
    """Scenario, spaces and tables of an environment.

    Args:
        scenario: name, path or dict of a scenario.
        overrides: dotted names to values.
        chosen: the other arguments.
        between: whether the agent decides between instances, so that actions name one.
        checked: the scenario, if it is one for this environment; else it raises.

    Raises:
        ScenarioError: an argument or the scenario breaks a rule.
    """

    def __init__(
        self,
        scenario: Source,
        overrides: Mapping[str, Any] | None,
        chosen: Options,
        between: bool,
        checked: Callable[[Scenario], Scenario],
    ) -> None:
        chosen.check()
        self.options = chosen
        changes = dict(overrides or {})
        if chosen.schedules or chosen.length_hint != "none":  # else for the scenario's policy alone
            changes["workload.prediction.kind"] = chosen.length_hint
        self.simulator = Simulator(checked(load_scenario(scenario, changes)))
        state = self.simulator.state
        self.features = _features(chosen, between)
        self.layout = actions.Layout(
            chosen.action,
            int(chosen.num_slots),
            len(self.features["requests"]),
            len(state.instances) if between else 0,
        )
        self.action_space: spaces.Space[Any] = self.layout.space
        self.boxes = _boxes(self.features, int(chosen.num_slots), len(state.instances))
        self.columns = {
            table: features.columns(table, rows) for table, rows in self.features.items()
        }
        self.prefill_times = prefill_times(state)
        self.final = (*FINAL, "num_handoffs") if between else FINAL

    @property
    def scenario(self) -> Scenario:
        """The scenario that is simulated."""
        return self.simulator.scenario

    @property
    def observation_space(self) -> spaces.Dict:
        """Of one lane."""
        return spaces.Dict(list(self.boxes.items()))


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


def _boxes(
    seen: Mapping[str, tuple[features.Feature, ...]], slots: int, instances: int
) -> dict[str, spaces.Box]:
    repeats = {"requests": slots, "instances": instances, "cluster": 1}
    boxes: dict[str, spaces.Box] = {}
    for table, rows in seen.items():
        low, high = features.bounds(rows, repeats[table])
        boxes[table] = spaces.Box(low, high, dtype=np.float32)
    return boxes
