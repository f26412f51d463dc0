"""What each router compares, and what it can know."""

import numpy as np
import pytest
from placing import answered, asked, choice, request, settings

import sgym
from sgym.core.layout import DECODE, MIXED
from sgym.errors import PolicyError
from sgym.policies import loads
from sgym.policies.registry import policy_record
from sgym.policies.rules import HANDOFFS, ROUTERS

UNEQUAL = {"pools": [{"engine": {"num_gpu_blocks": 101}}, {"engine": {"num_gpu_blocks": 1001}}]}


def of(router, instances=2, **more):
    return settings({"instances": instances, "router": router} | more)


def test_in_turn_means_one_after_the_other():
    requests = [request(10, at=20.0 + k) for k in range(5)]
    state = sgym.simulate(of("round_robin", 3), arrivals=requests).state
    assert state.requests["instance"].tolist() == [0, 1, 2, 0, 1]


def test_the_fewest_requests_in_flight_whatever_their_size():
    requests = [request(500), request(10), request(10), request(10)]
    assert choice(of("least_outstanding"), requests, [0, 1, 1]) == 0


def test_a_tie_goes_to_the_first_instance():
    requests = [request(10), request(10), request(10)]
    assert choice(of("least_outstanding", 3), requests, [0, 2]) == 1
    assert choice(of("least_outstanding", 2), requests, [0, 1]) == 0


def test_requests_whose_kv_is_on_its_way_are_in_flight():
    simulator = asked(of("least_outstanding"), [request(10)], [])
    simulator.state.instances[0]["num_loading"] = 1
    assert answered(simulator) == 1


def test_the_fewest_tokens_to_prefill_however_many_requests():
    requests = [request(500), request(100), request(100), request(10)]
    assert choice(of("token_jsq"), requests, [0, 1, 1]) == 1


def test_tokens_already_prefilled_do_not_count():
    # At 12.5 s instance 0 has prefilled its 500 tokens; the 100 of instance 1 just came.
    requests = [request(500), request(100, at=12.5), request(10, at=12.5)]
    assert choice(of("token_jsq"), requests, [0, 1]) == 0


def test_the_rest_of_a_prompt_that_is_being_prefilled_counts():
    # At 10.5 s a chunk of 64 of the 200 tokens of instance 0 is under way, 136 are left.
    scenario = settings({"instances": 2, "router": "token_jsq"}, max_num_batched_tokens=64)
    late = [request(130, at=10.5), request(10, at=10.5)]
    assert choice(scenario, [request(200), *late], [0, 1]) == 1
    late = [request(140, at=10.5), request(10, at=10.5)]
    assert choice(scenario, [request(200), *late], [0, 1]) == 0


def test_a_faster_instance_may_have_more_tokens_to_prefill():
    # An iteration takes a second: 300 tokens take 3 s in batches of 100, 900 take 0.9 s of 1000.
    slow, fast = ({"engine": {"max_num_batched_tokens": tokens}} for tokens in (100, 1000))
    scenario = settings({"pools": [slow, fast], "router": "token_jsq"}, num_gpu_blocks=1001)
    assert choice(scenario, [request(300), request(900), request(10)], [0, 1]) == 1


def test_the_smallest_share_of_memory_not_the_fewest_blocks():
    # 20 of 100 blocks against 100 of 1000.
    scenario = settings(UNEQUAL | {"router": "least_kv"})
    requests = [request(319), request(1599), request(10, at=12.5)]
    assert choice(scenario, requests, [0, 1]) == 1


def test_of_two_instances_power_of_two_always_sees_both():
    for seed in range(8):
        requests = [request(10), request(10), request(10)]
        simulator = asked(of("power_of_two"), requests, [0, 0])
        simulator.state.cluster["router_counter"] = seed
        assert answered(simulator) == 1


def test_of_many_instances_power_of_two_sees_only_two():
    found = set()
    for seed in range(40):
        simulator = asked(of("power_of_two", 4), [request(10)] * 4, [0, 1, 2])
        simulator.state.cluster["router_counter"] = seed
        found.add(answered(simulator))
    assert found == {0, 1, 2, 3}


def test_a_stale_router_does_not_see_memory_that_filled_up_since():
    # Reports at 0 s and each 100 s: at 12.5 s instance 0 looks as empty as it was.
    requests = [request(800, 200), request(10, at=12.5)]
    assert choice(of("least_kv"), requests, [0]) == 1
    assert choice(of("least_kv", staleness=100.0), requests, [0]) == 0
    assert choice(of("least_kv", staleness=3.0), requests, [0]) == 1


def test_what_a_router_counts_itself_is_never_stale():
    requests = [request(500), request(10, at=12.5)]
    for router in ("least_outstanding", "power_of_two", "prefix_aware", "dynamo"):
        assert choice(of(router, staleness=100.0), requests, [0]) == 1
    requests = [request(500, at=12.5), request(10, at=12.5)]
    assert choice(of("token_jsq", staleness=100.0), requests, [0]) == 1


def test_reports_come_at_multiples_of_the_interval():
    simulator = asked(of("least_kv", staleness=4.0), [request(800, 200), request(9, at=12.5)], [0])
    answered(simulator)
    assert simulator._memory.instances["reported"].tolist() == [12.0, 12.0]
    assert simulator._memory.reports["free_blocks"].tolist() == [49, 100]


@pytest.mark.parametrize("router", sorted(ROUTERS))
def test_decode_and_draining_instances_get_no_arrivals(router):
    simulator = asked(of(router, 4), [request(10), request(10)], [3])
    simulator.state.instances["role"][:2] = DECODE
    simulator.state.instances[2]["next_role"] = MIXED
    assert answered(simulator) == 3


@pytest.mark.parametrize("router", sorted(ROUTERS))
def test_an_instance_that_could_never_hold_the_request_is_passed_by(router):
    scenario = settings(UNEQUAL | {"router": router})
    requests = [request(100), request(3000, output=10)]
    assert choice(scenario, requests, [1]) == 1


def test_if_nobody_takes_arrivals_anyone_does():
    simulator = asked(of("least_outstanding"), [request(10), request(10)], [0])
    simulator.state.instances["role"] = DECODE
    assert answered(simulator) == 1


def test_an_instance_of_another_role_serves_what_no_other_can():
    simulator = asked(settings(UNEQUAL), [request(3000, output=10)], [])
    simulator.state.instances[1]["role"] = DECODE
    assert answered(simulator) == 1


def test_without_a_cached_prefix_the_fewest_requests():
    requests = [request(10), request(10), request(10)]
    assert choice(of("prefix_aware", 3), requests, [0, 2]) == 1


def test_dynamo_adds_blocks_to_prefill_and_blocks_held():
    # A prompt of 160 waits on instance 0: 10 blocks to prefill, 10 to hold. On instance 1 decodes
    # one of 285 tokens, which holds 18 blocks. The request itself costs the same on both.
    requests = [request(284), request(160, at=11.5), request(32, at=11.5)]
    assert choice(of("dynamo"), requests, [1, 0]) == 1
    assert choice(of("least_kv"), requests, [1, 0]) == 0
    requests = [request(284), request(128, at=11.5), request(32, at=11.5)]
    assert choice(of("dynamo"), requests, [1, 0]) == 0  # 8 and 8 against 18


def test_dynamo_and_llm_d_break_ties_at_random():
    for router in ("dynamo", "llm_d"):
        found = set()
        for seed in range(40):
            simulator = asked(of(router, 3), [request(10)], [])
            simulator.state.cluster["router_counter"] = seed
            found.add(answered(simulator))
        assert found == {0, 1, 2}


def test_llm_d_adds_two_for_the_shortest_queue_and_two_for_free_memory():
    scenario = settings({"instances": 3, "router": "llm_d"}, max_num_seqs=1)
    simulator = asked(scenario, [request(10)], [])
    state = simulator.state
    state.instances["num_waiting"] = [4, 1, 2]
    state.instances["free_blocks"] = [100, 10, 60]  # 0 + 2, 2 + 0.2, 4 / 3 + 1.2
    assert answered(simulator) == 2


def test_llm_d_sees_queues_as_they_were_reported():
    simulator = asked(of("llm_d", staleness=100.0), [request(800, 200), request(10, at=12.5)], [0])
    found, undecided = set(), simulator.snapshot()
    for seed in range(20):
        simulator.restore(undecided)  # a request that waits already must not join a queue again
        simulator.state.cluster["router_counter"] = seed
        found.add(answered(simulator))
    assert found == {0, 1}


# --- prefix caching -------------------------------------------------------------------------------


def cached(router, prompt, shared, placed, policy=None, **cluster):
    """Where a prompt of `prompt` tokens goes whose first `shared` ones are those of request 1.

    Request 1 has 320 tokens and is on the last instance; `placed` says where others of 16 are.
    """
    scenario = settings(
        {"instances": 2, "router": router} | cluster, policy, enable_prefix_caching=True
    )
    scenario["workload"]["hash_block"] = 16
    first = request(320) | {"hash_ids": list(range(20))}
    last = request(prompt, at=12.5) | {
        "hash_ids": [k if 16 * k < shared else 100 + k for k in range(prompt // 16)]
    }
    others = [request(16) | {"hash_ids": [50 + k]} for k in range(len(placed))]
    simulator = asked(scenario, [first, *others, last], [1, *placed])
    return answered(simulator), loads.hit_tokens(simulator.state, 1, 2 + len(placed))


def test_a_prompt_goes_where_most_of_it_is_cached_if_that_is_enough():
    # 96 of 320 tokens are 0.3, which is not above.
    assert cached("prefix_aware", 320, 112, []) == (1, 112)
    assert cached("prefix_aware", 320, 96, []) == (0, 96)


def test_load_decides_where_it_differs_by_more_than_64_and_by_half():
    assert cached("prefix_aware", 320, 320, [1] * 63) == (1, 304)  # 64 in flight, the last block
    assert cached("prefix_aware", 320, 320, [1] * 64) == (0, 304)  # is always computed


def test_dynamo_gives_credit_for_cached_blocks():
    # Instance 1 holds 21 blocks, instance 0 nothing. Of 480 tokens 10 blocks are cached there:
    # 30 + 30 on instance 0, 20 + 21 + 20 on instance 1; with 11, 19 + 21 + 19.
    assert cached("dynamo", 480, 160, []) == (0, 160)
    assert cached("dynamo", 480, 176, []) == (1, 176)


def test_llm_d_gives_three_for_a_prompt_that_is_all_cached():
    # Instance 1 uses 21 of 100 blocks, which costs 0.42; 3 * 64 / 480 is 0.4, 3 * 80 / 480 0.5.
    assert cached("llm_d", 480, 64, []) == (0, 64)
    assert cached("llm_d", 480, 80, []) == (1, 80)


# --- hand-off -----------------------------------------------------------------------------------


def handed_off(rule, prepare, staleness=0.0):
    """Where a prompt of 160 tokens decodes that is prefilled on the first of 1 + 3 instances."""
    cluster = {
        "pools": [{"role": "prefill"}, {"role": "decode", "instances": 3}],
        "handoff": rule,
        "staleness": staleness,
    }
    simulator = sgym.Simulator(settings(cluster), arrivals=[request(160)])
    decision = simulator.decision
    while decision.kind != "handoff":
        decision = simulator.step(None, handoff=True)
    prepare(simulator.state)
    return answered(simulator)


def test_the_decode_instance_with_the_smallest_share_in_use():
    def prepare(state):
        state.instances["free_blocks"][1:] = [40, 60, 50]

    assert handed_off("least_kv", prepare) == 2


def test_a_stale_rule_of_hand_off_does_not_see_memory_that_filled_up_since():
    def prepare(state):
        state.instances["free_blocks"][1:] = [40, 60, 50]

    assert handed_off("least_kv", prepare, staleness=100.0) == 1
    assert handed_off("least_outstanding", prepare, staleness=100.0) == 1


def test_the_decode_instance_with_the_fewest_requests():
    def prepare(state):
        state.instances["num_running"][1:] = [3, 1, 0]
        state.instances["num_loading"][1:] = [0, 0, 2]

    assert handed_off("least_outstanding", prepare) == 2


def test_the_decode_instance_with_the_fewest_tokens_for_its_memory():
    def prepare(state):
        state.engines["num_blocks"][1:] = [100, 200, 100]
        state.instances["free_blocks"][1:] = [60, 130, 50]  # 0.4, 0.35, 0.5

    assert handed_off("token_jsq", prepare) == 2


def test_the_decode_instances_in_turn():
    cluster = {"pools": [{"role": "prefill"}, {"role": "decode", "instances": 2}]}
    scenario = settings(cluster | {"handoff": "round_robin"})
    requests = [request(20, output=3, at=20.0 + 2 * k) for k in range(5)]
    state = sgym.simulate(scenario, arrivals=requests).state
    assert state.requests["instance"].tolist() == [1, 2, 1, 2, 1]


@pytest.mark.parametrize("rule", ["random", "power_of_two"])
def test_random_rules_of_hand_off_use_all_and_repeat_with_the_seed(rule):
    cluster = {"pools": [{"role": "prefill"}, {"role": "decode", "instances": 3}], "handoff": rule}
    requests = [request(20, output=3, at=20.0 + k) for k in range(40)]
    found = [
        sgym.simulate(settings(cluster), seed=seed, arrivals=requests).state.requests["instance"]
        for seed in (0, 0, 1)
    ]
    assert set(found[0]) == {1, 2, 3}
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("rule", sorted(HANDOFFS))
def test_draining_and_prefill_instances_decode_nothing_for_others(rule):
    def prepare(state):
        state.instances[1]["next_role"] = MIXED
        state.instances[2]["next_role"] = MIXED

    assert handed_off(rule, prepare) == 3


@pytest.mark.parametrize("rule", sorted(HANDOFFS))
def test_where_nobody_else_decodes_a_request_stays(rule):
    def prepare(state):
        state.instances["next_role"][1:] = MIXED

    assert handed_off(rule, prepare) == 0


def test_unknown_rules_are_refused_with_a_list():
    with pytest.raises(PolicyError, match=r"cluster\.router: no router 'best'; known: round_robin"):
        policy_record("vllm", "best", {})
    with pytest.raises(PolicyError, match=r"cluster\.handoff: no rule 'best'; known: round"):
        policy_record("vllm", "random", {}, handoff="best")


def test_every_rule_says_what_it_does():
    assert all(rule.about for rule in [*ROUTERS.values(), *HANDOFFS.values()])


def test_a_cache_that_is_off_has_nothing():
    simulator = asked(of("prefix_aware"), [request(160)], [])
    assert loads.hit_tokens(simulator.state, 0, 1) == 0
