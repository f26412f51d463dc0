"""The rules that make a prefill/decode system what it is, on clusters of two to four instances."""

import pytest
from placing import answered, asked, choice, request, settings

import sgym
from sgym.core.layout import DECODE, MIXED, PREFILL, Phase
from sgym.errors import PolicyError
from sgym.policies.systems import SYSTEMS

SYSTEM_NAMES = ("distserve", "splitwise", "conditional", "mooncake", "arrow")


def pools(prefill=1, decode=1, policy=None, **engine):
    """A scenario with prefill instances first, then decode instances."""
    both = [{"role": "prefill", "instances": prefill}, {"role": "decode", "instances": decode}]
    return settings({"pools": both}, policy, **engine)


def roles(simulator):
    return simulator.state.instances["role"].tolist()


def moves(result, kind):
    """Of the log of moves: (request, start, end)."""
    rows = result.moves[result.moves["kind"] == kind]
    return [
        (int(r), float(a), float(b)) for r, a, b in rows[["request", "start", "end"]].to_numpy()
    ]


@pytest.mark.parametrize("name", SYSTEM_NAMES)
def test_without_prefill_instances_the_system_is_refused_up_front(name):
    with pytest.raises(PolicyError, match=f"'{name}' needs instances that only prefill: give"):
        sgym.Simulator(settings({"instances": 4}), policy=name)


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_a_system_brings_its_own_router(name):
    entry = SYSTEMS[name]
    patient = {key: 1e6 for key in entry.parameters if key.endswith("_target")}
    scenario = pools(2, 2, {"name": name} | patient, num_gpu_blocks=1001)
    requests = [request(100 + 10 * k, 20, at=20.0 + 1.7 * k) for k in range(12)]
    first = sgym.simulate(scenario, arrivals=requests).state
    scenario["cluster"] |= {"router": "random", "handoff": "random"}
    second = sgym.simulate(scenario, arrivals=requests).state
    assert (first.requests["finish"] > 0).all()
    assert first.requests["instance"].tolist() == second.requests["instance"].tolist()


@pytest.mark.parametrize("name", ["mooncake", "arrow"])
def test_targets_are_those_of_the_scenario_unless_the_policy_has_its_own(name):
    scenario = pools(policy={"name": name, "tpot_target": 0.5})
    scenario["slo"] = {"ttft": 7.0, "tpot": 0.3}
    record = sgym.Simulator(scenario)._policy[0]
    assert (record["ttft_target"], record["tpot_target"]) == (7.0, 0.5)


# --- DistServe ------------------------------------------------------------------------------------


def test_a_decode_instance_pulls_while_little_is_on_its_way():
    # 100 blocks: the gate is open while fewer than 5 are on their way. Each prompt of 64 tokens has
    # 4 blocks and one for its next token, and is sent in 2 s.
    kv_bytes = 131072 * 64
    scenario = pools(policy={"name": "distserve"})
    scenario["cluster"]["link"] = {"bandwidth": kv_bytes / 2, "latency": 0.0}
    requests = [request(64, 3) for _ in range(3)]
    result = sgym.simulate(scenario, arrivals=requests, log=("moves",))
    # All three are prefilled at 11 s. One holds 5 blocks, so the next comes when it is in.
    assert moves(result, "handoff") == [(0, 11.0, 13.0), (1, 13.0, 15.0), (2, 15.0, 17.0)]
    open_gate = {"name": "distserve", "waiting_share": 0.06}
    result = sgym.simulate(scenario | {"policy": open_gate}, arrivals=requests, log=("moves",))
    # Two share the link and take 4 s.
    assert moves(result, "handoff") == [(0, 11.0, 15.0), (1, 11.0, 15.0), (2, 15.0, 17.0)]


def test_whole_prompts_fill_a_prefill_batch_and_a_longer_one_goes_alone():
    scenario = pools(policy={"name": "distserve", "prefill_batch": 300}, num_gpu_blocks=1001)
    prompts = [200, 100, 150, 160, 900]
    result = sgym.simulate(scenario, arrivals=[request(n, 1) for n in prompts])
    first = result.state.requests["first_token"].tolist()
    assert first == [11.0, 11.0, 12.0, 13.0, 14.0]


def test_memory_that_runs_short_swaps_out_the_last_of_the_batch():
    # Two requests of 400 + 600 tokens need 63 blocks each, and there are 100.
    scenario = pools(policy={"name": "distserve"})
    result = sgym.simulate(
        scenario, arrivals=[request(400, 600), request(400, 600)], log=("moves",)
    )
    assert [r for r, _, _ in moves(result, "swap_out")][:1] == [1]
    assert moves(result, "preemption") == []
    assert (result.state.requests["phase"] == Phase.FINISHED).all()


def test_distserve_fills_the_prefill_and_decode_instances_evenly():
    scenario = pools(2, 2, {"name": "distserve"})
    requests = [request(50), request(10), request(10), request(10)]
    assert choice(scenario, requests, [0, 1, 1]) == 0


# --- Splitwise ------------------------------------------------------------------------------------


def splitwise(**more):
    return pools(2, 2, {"name": "splitwise", "max_pending": 1000.0}, num_gpu_blocks=1001, **more)


def test_a_prompt_goes_where_the_fewest_tokens_are_pending():
    requests = [request(500), request(100), request(100), request(10)]
    assert choice(splitwise(), requests, [0, 1, 1]) == 1


def test_where_prompts_pile_up_a_decode_machine_joins_the_mixed_pool():
    requests = [request(600), request(700), request(500)]
    simulator = asked(splitwise(), requests, [0, 1])
    assert answered(simulator) == 2
    assert roles(simulator) == [PREFILL, PREFILL, MIXED, DECODE]


def test_a_long_prompt_is_taken_where_nothing_waits():
    simulator = asked(splitwise(), [request(600), request(5000, 10)], [0])
    assert answered(simulator) == 1
    assert roles(simulator) == [PREFILL, PREFILL, DECODE, DECODE]


def test_the_mixed_pool_is_asked_before_another_machine_is_borrowed():
    requests = [request(600), request(700), request(500)]
    simulator = asked(splitwise(), requests, [0, 1])
    simulator.state.instances[3]["role"] = MIXED
    simulator.state.instances[3]["num_loading"] = 1  # something to do, so it stays
    assert answered(simulator) == 3
    assert roles(simulator) == [PREFILL, PREFILL, DECODE, MIXED]


def test_a_borrowed_machine_with_nothing_to_do_goes_back():
    simulator = asked(splitwise(), [request(10)], [])
    simulator.state.instances["role"] = [PREFILL, MIXED, MIXED, DECODE]
    assert answered(simulator) == 0
    assert roles(simulator) == [PREFILL, PREFILL, DECODE, DECODE]


def finished_prefill(scenario, prompt=160):
    """A simulator that asks where request 0 decodes, which the first instance has prefilled."""
    simulator = sgym.Simulator(scenario, arrivals=[request(prompt)], log=("moves",))
    decision = simulator.decision
    while decision.kind != "handoff":
        decision = simulator.step(None, handoff=True)
    return simulator


def test_a_finished_prompt_goes_where_the_least_memory_is_committed():
    simulator = finished_prefill(splitwise())
    simulator.state.instances["free_blocks"][2:] = [500, 600]
    assert answered(simulator) == 3


def test_where_memory_is_full_a_prompt_machine_joins_the_mixed_pool():
    simulator = finished_prefill(splitwise())
    simulator.state.instances["free_blocks"][2:] = [5, 5]  # the 161 tokens need 11
    assert answered(simulator) == 1
    assert roles(simulator) == [PREFILL, MIXED, DECODE, DECODE]


# --- conditional disaggregation ---------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "instance"), [(1000, 2), (1001, 0)])
def test_a_prompt_of_up_to_a_thousand_tokens_is_prefilled_where_it_decodes(prompt, instance):
    scenario = pools(2, 2, {"name": "conditional"}, num_gpu_blocks=1001)
    assert choice(scenario, [request(prompt, 10)], []) == instance


def test_a_local_prefill_goes_to_the_decode_instance_with_the_most_memory_to_come():
    scenario = pools(1, 2, {"name": "conditional"}, num_gpu_blocks=1001)
    assert choice(scenario, [request(300), request(100), request(10)], [1, 2]) == 2


def test_a_local_prefill_is_not_handed_off():
    scenario = pools(policy={"name": "conditional", "max_local_prefill": 50.0})
    result = sgym.simulate(scenario, arrivals=[request(50, 5), request(51, 5)], log=("moves",))
    assert [r for r, _, _ in moves(result, "handoff")] == [1]


# --- Mooncake -------------------------------------------------------------------------------------

PATIENT = {"name": "mooncake", "ttft_target": 1e6, "tpot_target": 1e6}


def test_the_prefill_instance_whose_queue_takes_the_least_time():
    # In chunks of 100 tokens, 350 take 4 s; three prompts of 50 take 1 s each.
    scenario = pools(2, 1, PATIENT, max_num_batched_tokens=100)
    requests = [request(350), request(50), request(50), request(50), request(10)]
    assert choice(scenario, requests, [0, 1, 1, 1]) == 1


def test_a_request_that_would_wait_too_long_is_rejected_and_counted():
    # 2 s for the prompt that waits, 1 s for its own.
    for target, phase in ((3.0, Phase.WAITING), (2.9, Phase.REJECTED)):
        policy = PATIENT | {"ttft_target": target}
        scenario = pools(1, 1, policy, max_num_batched_tokens=100)
        simulator = asked(scenario, [request(200), request(10)], [0])
        answered(simulator)
        assert simulator.state.requests[2]["phase"] == phase
    result = simulator.run()
    assert result.summary["num_rejected"] == 1
    assert result.summary["num_requests"] == 3


def test_a_request_is_rejected_while_decoding_is_too_slow():
    # An iteration takes 1 s, and 0.1 s for each request that decodes.
    for target, phase in ((1.25, Phase.WAITING), (1.15, Phase.REJECTED)):
        scenario = pools(1, 1, PATIENT | {"tpot_target": target})
        scenario["latency"]["linear"]["decode_seq"] = 0.1
        simulator = asked(scenario, [request(10), request(10, at=15.0)], [0])
        answered(simulator)
        assert simulator.state.requests[2]["phase"] == phase


def test_a_request_is_rejected_while_memory_for_decoding_is_full():
    scenario = pools(1, 1, PATIENT)
    for prompt, phase in ((600, Phase.WAITING), (700, Phase.REJECTED)):
        simulator = asked(scenario, [request(900, 500), request(prompt, 10, at=15.0)], [0])
        answered(simulator)
        assert simulator.state.requests[2]["phase"] == phase


def test_without_rejection_everything_is_served():
    policy = {"name": "mooncake", "ttft_target": 1e-6, "rejection": "never"}
    result = sgym.simulate(pools(policy=policy), arrivals=[request(10, 5)] * 3)
    assert result.summary["num_rejected"] == 0


def test_an_unknown_way_to_reject_is_refused_with_a_list():
    for wrong in ("always", 3, 0.5):
        with pytest.raises(PolicyError, match="rejection must be one of never, early, predicted"):
            sgym.Simulator(pools(policy={"name": "mooncake", "rejection": wrong}))


def test_a_prediction_forgets_requests_that_will_be_done_by_then():
    # At 15 s one request decodes, since 11 s; the new one's prefill ends at 16 s.
    for duration, phase in ((5.5, Phase.REJECTED), (4.5, Phase.WAITING)):
        policy = PATIENT | {"tpot_target": 1.15, "decode_time": duration}
        policy["rejection"] = "predicted"
        scenario = pools(1, 1, policy)
        scenario["latency"]["linear"]["decode_seq"] = 0.1
        simulator = asked(scenario, [request(10), request(10, at=15.0)], [0])
        answered(simulator)
        assert simulator.state.requests[2]["phase"] == phase


def test_a_prediction_counts_requests_whose_prefill_will_be_done_by_then():
    # One waits ahead on the same instance: both will decode, though nothing decodes now.
    for rejection, phase in (
        ("early", Phase.WAITING),
        ("predicted", Phase.REJECTED),
    ):
        policy = PATIENT | {"tpot_target": 1.15, "rejection": rejection}
        scenario = pools(1, 1, policy)
        scenario["latency"]["linear"]["decode_seq"] = 0.1
        simulator = asked(scenario, [request(10), request(10)], [0])
        answered(simulator)
        assert simulator.state.requests[2]["phase"] == phase


def repeated(scenario, placed):
    """Where a prompt of 1280 tokens goes after the same one was placed by hand and served."""
    scenario["engine"]["enable_prefix_caching"] = True
    scenario["workload"]["hash_block"] = 16
    ids = {"hash_ids": list(range(80))}
    return choice(scenario, [request(1280, 5) | ids, request(1280, 5, at=60.0) | ids], [placed])


@pytest.mark.parametrize("name", ["mooncake", "arrow"])
def test_a_cached_prompt_is_prefilled_sooner(name):
    policy = {"name": name, "ttft_target": 1e6, "tpot_target": 1e6}
    for placed in (0, 1):
        assert repeated(pools(2, 1, policy, max_num_batched_tokens=100), placed) == placed


def test_what_is_cached_where_it_decodes_need_not_be_prefilled_elsewhere():
    scenario = pools(1, 2, {"name": "conditional"})
    assert repeated(scenario, 2) == 2
    assert repeated(scenario | {"policy": {"name": "conditional", "max_local_prefill": 10}}, 2) == 0


# --- Arrow ----------------------------------------------------------------------------------------


def arrow(prefill=2, decode=2, **more):
    policy = {"name": "arrow", "ttft_target": 3.0, "tpot_target": 10.0} | more
    return pools(prefill, decode, policy, num_gpu_blocks=1001, max_num_batched_tokens=100)


def test_of_timely_instances_the_one_that_decodes_least_then_the_quickest():
    simulator = asked(arrow(), [request(10), request(10)], [0])
    assert answered(simulator) == 1
    # Instance 1 decodes a request of 12 tokens, instance 0 has a prompt that takes 1 s.
    simulator = asked(arrow(), [request(10), request(10, at=12.5), request(10, at=12.5)], [1, 0])
    state = simulator.state
    state.instances["role"][1] = PREFILL
    state.instances[1]["num_running"] = 1
    r = 1
    state.running[1, 0] = r
    state.requests[r]["prefilling"] = 0
    assert answered(simulator) == 0


def test_when_no_first_token_would_be_timely_a_decode_instance_changes():
    requests = [request(250), request(250), request(10)]  # 3 s each, and 1 s for the last one
    simulator = asked(arrow(), requests, [0, 1])
    assert answered(simulator) == 2
    assert roles(simulator) == [PREFILL, PREFILL, PREFILL, DECODE]


def test_the_last_decode_instance_stays_one():
    requests = [request(250), request(250), request(10)]
    simulator = asked(arrow(2, 1), requests, [0, 1])
    assert answered(simulator) == 0
    assert roles(simulator) == [PREFILL, PREFILL, DECODE]


def test_decode_instances_that_are_busy_are_not_taken():
    # Iterations of 1 s against a target of 1.5 s: a load of 0.67, above shrink.
    requests = [request(10), request(250, at=15.0), request(250, at=15.0), request(10, at=15.0)]
    simulator = asked(arrow(2, 1, tpot_target=1.5), requests, [0, 0, 1])
    assert answered(simulator) == 0


def test_when_decoding_would_be_too_slow_a_prefill_instance_changes():
    simulator = finished_prefill(arrow(tpot_target=0.5))
    assert answered(simulator) == 0  # both are idle; its own KV need not move
    assert roles(simulator) == [DECODE, PREFILL, DECODE, DECODE]


def test_a_prefill_instance_is_only_taken_after_the_cooldown():
    # The first prefill ends at 12 s; the start counts as if one had been taken.
    for cooldown, target in ((11.9, 0), (12.1, 2)):
        simulator = finished_prefill(arrow(tpot_target=0.5, cooldown=cooldown))
        assert answered(simulator) == target


def test_what_an_instance_has_prefilled_it_decodes_if_it_changed_meanwhile():
    simulator = finished_prefill(arrow())
    simulator.state.instances[0]["role"] = DECODE
    assert answered(simulator) == 0


def test_after_three_checks_in_a_row_of_slow_decoding_a_prefill_instance_changes():
    # Iterations of 1 s meet the target of 1.5 s, but are a load of 0.67.
    scenario = arrow(tpot_target=1.5, expand=0.6, shrink=0.0, interval=2.0, cooldown=0.0)
    result = sgym.simulate(scenario, arrivals=[request(10, 30)], log=("moves",))
    changes = result.moves[result.moves["kind"] == "role"]
    # It decodes from 11 s on, which is seen at 12, 14 and 16 s.
    assert changes["end"].tolist()[0] == pytest.approx(16.0, abs=0.01)
    assert changes["request"].tolist()[0] == DECODE
