import math

import pytest

import sgym
from sgym.errors import PolicyError, ScenarioError
from sgym.metrics import benefit
from sgym.policies.steering import Steering
from sgym.simulator import Simulator


def scenario(**changes):
    """Iterations of one second, blocks of 4 tokens, 10 of them, and async scheduling."""
    engine = {
        "block_size": 4,
        "num_gpu_blocks": 11,
        "max_model_len": 40,
        "async_scheduling": True,
    }
    return {
        "engine": engine | changes,
        "latency": {"linear": {"iteration": 1.0}},
        "workload": {"rate": 1.0},
        "episode": {"duration": 1000.0},
    }


LOG = ("tokens", "iterations", "batches")


def ask(arrival, prompt, output):
    return {"arrival": arrival, "prompt": prompt, "output": output}


def token_times(result, request):
    own = result.tokens[result.tokens["request"] == request]
    return own["time"].tolist()


def chunks(result, request):
    """Of a request: iteration, tokens computed in it, and tokens whose KV was there before."""
    own = result.batches[result.batches["request"] == request]
    return list(zip(own["iteration"], own["tokens"], own["computed"], strict=True))


def test_a_batch_is_formed_when_the_one_before_it_starts():
    simulator = Simulator(scenario(), policy="vllm", arrivals=[ask(0, 4, 3)], log=LOG)
    times = []
    while simulator.decision.kind != "done":
        times.append(simulator.now)
        simulator.step()
    assert times == [0.0, 0.0, 1.0, 2.0]  # the fourth is empty: the last token is under way
    result = simulator.result()
    assert result.iterations["start"].tolist() == [0.0, 1.0, 2.0]
    assert token_times(result, 0) == [1.0, 2.0, 3.0]
    assert chunks(result, 0) == [(0, 4, 0), (1, 1, 4), (2, 1, 5)]


@pytest.mark.parametrize(("ahead", "first_token"), [(False, 2.0), (True, 3.0)])
def test_an_arrival_is_served_one_iteration_later(ahead, first_token):
    requests = [ask(0, 4, 6), ask(0.5, 4, 1)]
    result = sgym.simulate(scenario(async_scheduling=ahead), "vllm", log=LOG, arrivals=requests)
    assert token_times(result, 1) == [first_token]


def test_a_place_is_free_one_iteration_later():
    requests = [ask(0, 4, 2), ask(0, 4, 1)]
    result = sgym.simulate(scenario(max_num_seqs=1), "vllm", log=LOG, arrivals=requests)
    assert token_times(result, 0) == [1.0, 2.0]
    assert result.iterations["start"].tolist() == [0.0, 1.0, 2.0]
    result = sgym.simulate(scenario(max_num_seqs=1), "vllm", log=LOG, arrivals=requests[::-1])
    assert token_times(result, 1) == [2.0, 3.0]


def test_a_long_prompt_goes_on_before_its_first_part_is_done():
    result = sgym.simulate(
        scenario(max_num_batched_tokens=256, long_prefill_token_threshold=6),
        "vllm",
        log=LOG,
        arrivals=[ask(0, 10, 2), ask(0, 3, 9)],
    )
    assert chunks(result, 0) == [(0, 6, 0), (1, 4, 6), (2, 1, 10)]
    assert token_times(result, 0) == [2.0, 3.0]


def stepped(requests, steerings, **changes):
    """A run in which the first decisions are answered by `steerings`."""
    simulator = Simulator(scenario(**changes), policy="vllm", arrivals=requests, log=LOG)
    for steering in steerings:
        simulator.step(steering)
    while simulator.decision.kind != "done":
        simulator.step()
    return simulator.result()


def test_a_preempted_request_gets_the_token_under_way_and_waits_for_it():
    result = stepped([ask(0, 4, 4)], [None, Steering(preempt=[0])])
    assert token_times(result, 0) == [1.0, 2.0, 3.0, 4.0]
    # no batch could hold it before its token was out at 1 s; then 4 + 1 tokens are known
    assert chunks(result, 0) == [(0, 4, 0), (1, 0, 0), (1, 5, 0), (2, 1, 5), (3, 1, 6)]
    assert result.iterations["start"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_others_pass_a_request_whose_token_is_under_way():
    first = Steering(active_cap=1)
    result = stepped(
        [ask(0, 4, 4), ask(0, 4, 1)], [first, Steering(preempt=[0], active_cap=1), Steering()]
    )
    assert token_times(result, 0)[0] == 1.0
    assert token_times(result, 1) == [2.0]  # in the batch behind, though it came second


def test_a_request_preempted_before_its_last_token_finishes_where_it_waits():
    result = stepped([ask(0, 4, 1), ask(0, 4, 3)], [None, Steering(preempt=[0])])
    assert token_times(result, 0) == [1.0]
    assert result.state.requests[0]["finish"] == 1.0
    instance = result.state.instances[0]
    assert instance["num_waiting"] == instance["num_running"] == instance["waiting_tokens"] == 0
    assert instance["free_blocks"] == 10


def test_waiting_tokens_count_the_token_that_came_while_it_waited():
    simulator = Simulator(scenario(), policy="vllm", arrivals=[ask(0, 4, 9), ask(0, 4, 9)])
    simulator.step()
    simulator.step(Steering(preempt=[0]))
    assert simulator.now == 1.0
    assert simulator.state.instances[0]["waiting_tokens"] == 5
    assert simulator.state.requests[0]["stale"] == 0


def test_holding_a_request_keeps_it_out_of_both_batches():
    hold = Steering(waiting_score={1: -math.inf})
    result = stepped([ask(0, 4, 3), ask(0, 4, 1)], [hold])
    assert token_times(result, 1) == [4.0]


def test_swap_migration_and_other_roles_are_refused():
    with pytest.raises(ScenarioError, match="needs `preemption_mode: recompute`, got swap"):
        sgym.load_scenario(scenario(preemption_mode="swap"))
    pools = {"cluster": {"pools": [{"role": "prefill"}, {"role": "decode"}]}}
    with pytest.raises(ScenarioError, match=r"prefill instance has engine\.async_scheduling true"):
        sgym.simulate(scenario() | pools, "vllm")
    simulator = Simulator(scenario() | {"cluster": {"instances": 2}}, policy="vllm")
    with pytest.raises(PolicyError, match="its role stays mixed"):
        simulator.set_role(0, "prefill")


def test_other_engines_form_no_batch_ahead():
    with pytest.raises(ScenarioError, match="async_scheduling: true` needs `former: vllm_v1"):
        sgym.load_scenario(scenario(former="sarathi"))
    result = sgym.simulate(scenario(), "sarathi", arrivals=[ask(0, 4, 1)])
    assert not result.scenario.engine.async_scheduling


def test_after_a_batch_was_formed_its_members_are_known():
    """Policies that charge for service read who was scheduled."""
    simulator = Simulator(scenario(), policy="vllm", arrivals=[ask(0, 4, 3), ask(0, 6, 1)])
    simulator.answer(None)
    assert simulator.state.requests["scheduled"].tolist() == [4, 6]
    simulator.advance()
    simulator.answer(None)  # the second request's only token is under way already
    assert simulator.state.requests["scheduled"].tolist() == [1, 0]


def test_the_value_so_far_is_that_of_its_definition_at_every_decision():
    requests = [ask(0.7 * n, 5 + 3 * (n % 5), 1 + n % 7) for n in range(12)]
    reader = {"classes": [{"token_time": 0.9, "alpha": 2.0}]}
    simulator = Simulator(scenario() | {"slo": reader}, policy="vllm", arrivals=requests)
    while simulator.decision.kind != "done":
        there = simulator.state.requests[: simulator.state.cluster[0]["next_arrival"]]
        value = benefit(there, simulator.now, simulator.scenario.slo).sum()
        assert simulator.potential == pytest.approx(value)
        simulator.step()
    assert simulator.state.requests["preemptions"].sum() > 0
    assert simulator.potential < 0
