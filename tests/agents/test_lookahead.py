from dataclasses import replace

import numpy as np
import pytest

import sgym
from agents.bound import upper_bound
from agents.lookahead import Settings, look_ahead
from sgym.errors import ScenarioError

TIGHT = {"workload.rate": 14.0, "engine.num_gpu_blocks": 81, "episode.duration": 10.0}
ORACLE = Settings(future="true", horizon=1e9, every=8, candidates=("fcfs+0+open", "spf+0+open"))


def tight(**changes: float) -> sgym.config.Scenario:
    return sgym.load_scenario("tiny", TIGHT | changes)


@pytest.mark.slow
def test_without_candidates_it_is_its_base():
    base = Settings(candidates=())
    outcome = look_ahead(tight(), 0, base)
    again = look_ahead(tight(), 0, Settings(candidates=(), future="true"))
    assert outcome.changes == 0
    assert outcome.summary["smooth_goodput"] == again.summary["smooth_goodput"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_an_oracle_that_sees_the_end_is_never_worse_than_its_base_nor_above_the_bound(seed):
    base = look_ahead(tight(), seed, Settings(candidates=()))
    oracle = look_ahead(tight(), seed, ORACLE)
    bound = upper_bound(tight(), seed, num_buckets=30, num_steps=10)
    assert oracle.looks > 0
    low, high = base.summary["smooth_goodput"], oracle.summary["smooth_goodput"]
    assert low - 1e-9 <= high <= bound.bound + 1e-9


@pytest.mark.slow
def test_an_oracle_gains_where_there_is_something_to_gain():
    gains = [
        look_ahead(tight(), seed, ORACLE).summary["smooth_goodput"]
        - look_ahead(tight(), seed, Settings(candidates=())).summary["smooth_goodput"]
        for seed in (0, 1)
    ]
    assert np.mean(gains) > 0


@pytest.mark.slow
def test_another_pass_is_never_worse():
    one = look_ahead(tight(), 0, ORACLE)
    two = look_ahead(tight(), 0, replace(ORACLE, passes=2))
    assert two.looks > one.looks
    assert two.summary["smooth_goodput"] >= one.summary["smooth_goodput"] - 1e-9


@pytest.mark.slow
def test_a_policy_that_draws_its_futures_is_repeatable_and_serves_the_same_requests():
    settings = Settings(samples=2, horizon=3.0, every=8, candidates=("spf+0+open",))
    first, second = (look_ahead(tight(), 0, settings) for _ in range(2))
    stock = sgym.simulate(tight(), seed=0)
    assert first.summary["smooth_goodput"] == second.summary["smooth_goodput"]
    assert first.summary["num_requests"] == stock.summary["num_requests"]


@pytest.mark.parametrize(
    "settings",
    [Settings(base="best"), Settings(future="known"), Settings(passes=2)],
    ids=("knobs", "future", "passes"),
)
def test_what_is_unknown_is_refused(settings):
    with pytest.raises(ScenarioError, match=r"no knobs 'best'|future must be|passes is 2"):
        look_ahead(tight(), 0, settings)
