"""Andes: weights and values as in its source, and whom its knapsack serves."""

import pytest
from tiny import request, scenario, served

import sgym
from sgym.policies import andes
from sgym.policies.registry import policy_record


@pytest.mark.parametrize(
    ("tokens", "blocks"), [(1, 1), (15, 1), (16, 2), (17, 2), (32, 2), (33, 3), (48, 4), (64, 4)]
)
def test_a_weight_is_rounded_as_in_python(tokens, blocks):
    state = sgym.Simulator(scenario(), arrivals=[request(0, tokens)]).state
    assert andes.weight(state.engines[0], state.requests[0]) == blocks
    assert blocks == max(1, round(tokens / 16 + 0.5))


def waiting_request(generated=0, **engine):
    """A request that came a second ago, and its state."""
    settings = scenario(**engine)
    settings["latency"] = {"linear": {"iteration": 0.1, "prefill_token": 0.001}}
    settings["slo"] = {"classes": [{"token_time": 0.2, "alpha": 2.5}]}
    arrivals = [request(0, 95, 300, predicted=float("nan"))]
    state = sgym.Simulator(settings, arrivals=arrivals).state
    state.requests["generated"] = generated
    state.requests["due"] = 0.2 * (generated + 1)
    return state


def test_the_value_of_andes_is_its_gain_in_qoe():
    policy = policy_record("andes", "round_robin", {})[0]
    one = waiting_request(20).requests[0]
    # At 10 s, 300 tokens will be expected after 50 s more; there are 20, and 500 more if served.
    assert andes.qoe_gain(policy, one, 10.0) == pytest.approx(
        (1 - (220 / 300) ** 2) - (1 - (280 / 300) ** 2)
    )
    # At 1 s it is ahead of its reader and stays there, as 0.1 s per token is faster than 0.2 s.
    assert andes.qoe_gain(policy, one, 1.0) == pytest.approx(1 - (1 - (235 / 255) ** 2))
    first = waiting_request(0).requests[0]
    assert andes.qoe_gain(policy, first, 10.0) == pytest.approx(1 - (200 / 300) ** 2)


def test_what_andes_has_evicted_once_it_keeps():
    policy = policy_record("andes", "round_robin", {})[0]
    one = waiting_request(20).requests[0]
    one["preemptions"] = 1
    assert andes.qoe_gain(policy, one, 10.0) < 1
    one["phase"] = 2  # running
    assert andes.qoe_gain(policy, one, 10.0) == 10.0


def test_the_value_in_smooth_goodput_is_tokens_and_idle_latency():
    policy = policy_record("andes-smooth", "round_robin", {})[0]
    state = waiting_request()
    state.cluster[0]["clock"] = 1.0
    # Served, its first token comes at 1.295 s, 1.095 s late, and 48 come until 6 s; waiting, it is
    # 5.8 s late by then.
    value = andes.benefit_gain(state, policy, 0, 0, 0.1)
    assert value == pytest.approx(48 + 2.5 * (5.8 - 1.095))


def test_evicting_costs_the_time_of_all_who_run():
    policy = policy_record("andes-smooth", "round_robin", {})[0]
    state = waiting_request(3)
    state.requests["computed"], state.requests["phase"] = 97, 2
    state.instances["num_running"] = 4
    value = andes.benefit_gain(state, policy, 0, 0, 0.1)
    state.requests["phase"] = 1
    # 98 known tokens take 0.198 s to compute again: 1.98 tokens for each of the four
    assert value - andes.benefit_gain(state, policy, 0, 0, 0.1) == pytest.approx(4 * 1.98)


def knapsack(policy, **parameters):
    """Tokens where memory holds either of two requests; the first has slow readers."""
    settings = scenario({"name": policy} | parameters, num_gpu_blocks=21, max_num_seqs=4)
    settings["slo"] = {"classes": [{"token_time": 10.0}]}
    return served(policy, settings, [request(0, 200, 4), request(1.5, 160, 2)])


def test_who_gains_more_per_block_takes_the_memory():
    assert served("vllm-v0", scenario(num_gpu_blocks=21, max_num_seqs=4), [
        request(0, 200, 4), request(1.5, 160, 2)
    ]) == [0, 0, 0, 0, 1, 1]  # fmt: skip
    # The first has two tokens and its reader waits for none of them; the second gains all.
    assert knapsack("andes", period=1, pressure=0.5) == [0, 0, 1, 1, 0, 0]


def test_nothing_is_chosen_without_pressure_or_out_of_turn():
    assert knapsack("andes", period=1, pressure=0.99) == [0, 0, 0, 0, 1, 1]
    assert knapsack("andes", period=10, pressure=0.5) == [0, 0, 0, 0, 1, 1]
