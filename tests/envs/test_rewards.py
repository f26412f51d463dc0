"""The return of an episode is its metric."""

import pytest
from playing import CLUSTERS, make, play, toy

TWO_CLASSES = [
    {"name": "reader", "share": 0.7, "token_time": 0.05, "alpha": 2.5},
    {"name": "agent", "share": 0.3, "token_time": 0.02, "alpha": 1.0, "weight": 3.0},
]


def total(steps):
    return sum(reward for _, reward, *_ in steps)


@pytest.mark.parametrize("action", ["slots", "scores", "knobs", "index"])
@pytest.mark.parametrize("penalty", ["identity", "capped", "quadratic"])
@pytest.mark.parametrize("seed", [0, 1])
def test_rewards_add_up_to_smooth_goodput(action, penalty, seed):
    scenario = toy(slo__penalty=penalty, slo__penalty_cap=0.3, slo__classes=TWO_CLASSES)
    steps = play(make(action, scenario=scenario, allow_reject=True), seed=seed)
    assert total(steps) == pytest.approx(steps[-1][4]["smooth_goodput"], abs=1e-9, rel=1e-12)


@pytest.mark.parametrize(
    "metric",
    [
        {"slo__scale_by_tokens": True},
        {"slo__origin": "first_token"},
        {"slo__clamp": False},
        {"slo__origin": "first_token", "slo__clamp": False},
        {"episode__warm_start": 2.0},
        {"cluster__instances": 2, "workload__rate": 20.0},
        {"workload__num_requests": 6, "episode__duration": 20.0},
    ],
)
@pytest.mark.parametrize("decision", ["event", "iteration"])
def test_rewards_add_up_under_every_form_of_the_metric(metric, decision):
    steps = play(make("slots", scenario=toy(**metric), decision=decision, allow_reject=True))
    assert total(steps) == pytest.approx(steps[-1][4]["smooth_goodput"], abs=1e-9, rel=1e-12)


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_rewards_add_up_wherever_an_agent_places_requests(name, seed):
    steps = play(CLUSTERS[name](), seed=seed)
    assert total(steps) == pytest.approx(steps[-1][4]["smooth_goodput"], abs=1e-9, rel=1e-12)


@pytest.mark.parametrize("warm_start", [0.0, 2.0])
def test_other_kinds_of_reward_add_up_to_their_metrics(warm_start):
    for kind, column in (("throughput", "throughput_tok_s"), ("goodput", "goodput_tok_s")):
        env = make(scenario=toy(slo__reward=kind, episode__warm_start=warm_start))
        steps = play(env)
        assert total(steps) == pytest.approx(steps[-1][4][column], abs=1e-9), kind


def test_the_qoe_reward_adds_up_to_the_quality_of_the_finished_requests():
    env = make(scenario=toy(slo__reward="qoe"))
    steps = play(env)
    summary = env.unwrapped._simulator.result().summary
    assert 0 < total(steps) <= summary["num_finished"] / 3.0 + 1e-9


def test_penalties_hurt_while_readers_wait():
    steps = play(
        make(scenario=toy(workload__rate=30.0)), choose=lambda env, info: 1
    )  # admit nobody
    assert steps[-1][1] < 0
