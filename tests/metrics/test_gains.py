"""What is summed up compiled is what the definitions in numpy say, to the last bit."""

import numpy as np
import pytest

import sgym
from sgym.core import layout
from sgym.metrics import benefit, experience, idle_latency
from sgym.metrics.gains import gains


@pytest.mark.parametrize(
    "slo",
    [
        {},
        {"penalty": "capped", "penalty_cap": 0.5},
        {"penalty": "quadratic"},
        {"scale_by_tokens": True},
        {"clamp": False},
        {"origin": "first_token"},
    ],
)
@pytest.mark.parametrize("start", [0.0, 4.0])
def test_gains_are_sums_of_what_the_definitions_say(slo, start):
    window = start, 30.0
    changed = {f"slo.{name}": value for name, value in slo.items()}
    scenario = sgym.load_scenario("tiny", changed | {"episode.duration": 30.0, "workload.rate": 10})
    requests = sgym.simulate(scenario, seed=4).state.requests
    found = gains(requests, window, scenario.slo)
    exact = np.bincount(requests["user_class"], benefit(requests, 30.0, scenario.slo))
    assert found.benefit.tolist() == exact.tolist()
    assert found.tokens == requests["generated"].sum()
    counts = (requests["phase"] != layout.PENDING) & ~(requests["finish"] < start)
    counted = requests[counts]
    waits = np.isin(counted["phase"], [layout.WAITING, layout.RUNNING, layout.MOVING])
    overdue = idle_latency(requests, 30.0)[counts] > 0
    on_time = experience.is_on_time(counted)
    assert (found.counted, found.decided) == (len(counted), (~waits | overdue).sum())
    assert (found.on_time, found.on_time_tokens) == (
        on_time.sum(),
        counted["generated"][on_time].sum(),
    )
    for seconds, ours in (
        (experience.time_to_first_token(counted), found.ttft),
        (experience.time_per_output_token(counted), found.tpot),
    ):
        assert ours.tolist() == seconds[np.isfinite(seconds)].tolist()
    assert 0 < found.on_time < found.decided < found.counted
