import numpy as np
import pytest

import sgym
from agents.bound import bound_from, upper_bound
from sgym.config import Scenario
from sgym.errors import ScenarioError

SLOW = {"linear": {"iteration": 0.1, "prefill_token": 0.01, "decode_seq": 0.0}}
"""A prompt of 10 tokens takes 0.2 s, a decode 0.1 s."""


def scenario(**slo: float) -> Scenario:
    return sgym.load_scenario(
        {
            "engine": {"num_gpu_blocks": 101, "max_num_seqs": 4, "max_model_len": 512},
            "latency": SLOW,
            "workload": {"rate": 1.0, "lengths": [{"prompt": 10, "output": 5}]},
            "slo": {"classes": [{"token_time": 0.2, "alpha": 2.0, **slo}]},
            "episode": {"duration": 10.0},
        }
    )


def arrivals(*rows: tuple[float, int, int]) -> list[dict[str, float]]:
    return [{"arrival": at, "prompt": prompt, "output": output} for at, prompt, output in rows]


def reached(simulator: sgym.Simulator) -> float:
    return simulator.run().summary["smooth_goodput"]


def test_one_request_alone_gets_exactly_its_bound():
    simulator = sgym.Simulator(scenario(), arrivals=arrivals((1.0, 30, 5)))
    bound = bound_from(simulator)
    # prefill 0.1 + 0.3 s, first token due after 0.2 s: (5 - 2 * 0.2) / 10 s
    assert bound.bound == pytest.approx(0.46)
    assert bound.trivial == pytest.approx(0.46)
    assert reached(simulator) == pytest.approx(0.46)


def test_a_request_that_the_end_cuts_short_gets_exactly_its_bound():
    simulator = sgym.Simulator(scenario(), arrivals=arrivals((9.6, 10, 50)))
    bound = bound_from(simulator)
    # tokens at 9.8, 9.9 and 10.0, none late: 3 / 10 s
    assert bound.bound == pytest.approx(0.3)
    assert reached(simulator) == pytest.approx(0.3)


def test_a_request_that_comes_too_late_to_be_served_accrues_lateness():
    simulator = sgym.Simulator(scenario(token_time=0.1), arrivals=arrivals((9.5, 60, 5)))
    bound = bound_from(simulator)
    # needs 0.7 s and has 0.5; the first token was due 0.4 s before the end: -2 * 0.4 / 10 s
    assert bound.bound == pytest.approx(-0.08)
    assert reached(simulator) == pytest.approx(-0.08)


def test_two_that_collide_cost_less_than_one_after_the_other_and_more_than_alone():
    simulator = sgym.Simulator(scenario(), arrivals=arrivals((1.0, 200, 2), (1.0, 200, 2)))
    bound = bound_from(simulator, num_buckets=100, num_steps=60)
    # alone each waits 2.1 - 0.2 s; the second prefill ends no sooner than 4.0 s after both came
    alone = (4 - 2 * 2 * 1.9) / 10
    in_turn = (4 - 2 * (1.9 + 4.0 - 0.2)) / 10
    assert bound.trivial == pytest.approx(alone)
    assert in_turn - 0.02 <= bound.bound < alone - 0.03
    assert reached(simulator) <= bound.bound + 1e-9


def test_the_bound_of_an_overload_falls_below_zero_as_what_is_reached_does():
    simulator = sgym.Simulator(scenario(), arrivals=arrivals(*[(0.5, 200, 2)] * 20))
    bound = bound_from(simulator)
    assert reached(simulator) <= bound.bound < 0.5 * bound.trivial < 0


def test_nothing_to_do_is_worth_nothing():
    simulator = sgym.Simulator(scenario(), arrivals=arrivals((11.0, 10, 5)))
    assert bound_from(simulator).bound == pytest.approx(0.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rate", [8.7, 20.0])
def test_no_built_in_policy_exceeds_the_bound(rate, seed):
    tight = sgym.load_scenario(
        "tiny", {"workload.rate": rate, "engine.num_gpu_blocks": 81, "episode.duration": 20.0}
    )
    for policy in ("vllm", "spf", "edf", "llf", "vtc", "fastserve", "andes", "sglang", "vllm-v0"):
        bound = upper_bound(tight, seed, policy=policy, num_buckets=40, num_steps=20)
        result = sgym.simulate(tight, policy=policy, seed=seed)
        assert result.summary["smooth_goodput"] <= bound.bound + 1e-9
        assert bound.bound <= bound.trivial


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"slo.penalty": "quadratic"},
        {"slo.penalty": "capped", "slo.penalty_cap": 2.0},
        {"slo.scale_by_tokens": True, "slo.classes": [{"token_time": 0.05, "alpha": 0.1}]},
        {"slo.clamp": False},
        {"slo.origin": "first_token"},
        {"slo.classes": [{"first_delay": 0.2, "token_time": 0.02, "weight": 2.0}]},
        {"episode.warm_start": 15.0},
        {"engine.preemption_mode": "swap"},
        {"engine.async_scheduling": True},
        {
            "engine.enable_prefix_caching": True,
            "workload.prefixes": {"system": {"count": 2, "tokens": 64}},
        },
        {"latency": {"profile": "llama-3.1-8b_a100-80gb_tp1"}, "workload.rate": 60.0},
    ],
    ids=str,
)
def test_the_bound_holds_for_every_form_of_the_metric_and_engine(changes):
    own = sgym.load_scenario("tiny", {"workload.rate": 14.0, "episode.duration": 15.0, **changes})
    for policy in ("stock", "spf", "llf"):
        bound = upper_bound(own, 3, policy=policy, num_buckets=40, num_steps=15)
        result = sgym.simulate(own, policy=policy, seed=3)
        assert result.summary["smooth_goodput"] <= bound.bound + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-router", "tiny-disaggregated"])
def test_the_bound_holds_for_clusters(name):
    own = sgym.load_scenario(name, {"episode.duration": 15.0})
    loose = upper_bound(own, 0, num_buckets=40, num_steps=15)
    fixed = upper_bound(own, 0, num_buckets=40, num_steps=15, fixed_roles=True)
    result = sgym.simulate(own, seed=0)
    assert result.summary["smooth_goodput"] <= fixed.bound + 1e-9
    assert fixed.trivial <= loose.trivial + 1e-9
    assert fixed.prices.shape == (40, 2)


@pytest.mark.slow
def test_the_bound_may_be_asked_in_mid_episode():
    own = sgym.load_scenario("tiny", {"workload.rate": 12.0, "episode.duration": 15.0})
    simulator = sgym.Simulator(own, seed=1)
    first = bound_from(simulator, num_buckets=40, num_steps=15).bound
    for _ in range(300):
        simulator.step()
    later = bound_from(simulator, num_buckets=40, num_steps=15).bound
    result = simulator.run().summary["smooth_goodput"]
    assert result <= later + 1e-9
    assert later <= first + 2.0  # what was decided so far can only have lost something


@pytest.mark.slow
def test_prices_are_those_of_machine_time_and_never_negative():
    busy = sgym.load_scenario("tiny", {"workload.rate": 30.0, "episode.duration": 20.0})
    bound = upper_bound(busy, 0, num_buckets=20, num_steps=20)
    assert bound.bucket == pytest.approx(1.0, rel=0.1)
    assert bound.prices.shape == (20, 1)
    assert np.all(bound.prices >= 0)
    assert bound.prices.max() > 0
    assert bound.history.min() == pytest.approx(bound.bound)


def test_random_iteration_times_have_no_bound():
    with pytest.raises(ScenarioError, match=r"latency\.noise"):
        upper_bound(sgym.load_scenario("tiny", {"latency.noise": 0.1}))


def test_requests_that_decode_together_cannot_all_have_the_machine_to_themselves():
    together = arrivals((0.0, 10, 500), (0.0, 500, 500))
    simulator = sgym.Simulator(scenario(token_time=0.1), arrivals=together)
    bound = bound_from(simulator)
    # at best the first has all iterations, 98 tokens, and the second loses 2 * 9.9 by waiting
    assert reached(simulator) <= bound.bound
    assert bound.bound * 10 < 82 < bound.trivial * 10
