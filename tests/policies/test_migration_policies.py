"""Llumnix: who is free, who sends to whom, and which request moves."""

import math

import pytest
from placing import asked, choice, request, settings

import sgym
from sgym.core.layout import DECODE, NONE, PREFILL
from sgym.policies import llumnix


def cluster(instances=2, **more):
    """Instances of 100 KV blocks of 16 tokens under llumnix."""
    return settings({"instances": instances}, {"name": "llumnix"} | more)


def prepared(requests, where, **policy):
    """A simulator at 12.5 s: requests 1, 2, ... decode where the test says, since 11 s."""
    scenario = cluster(1 + max(where), **policy)
    return asked(scenario, [*requests, request(1, at=12.5)], where)


def pairs(simulator):
    """Source -> target of the pairing that is made now."""
    policy, memory = simulator._policy[0], simulator._memory
    llumnix.pair(simulator.state, policy, memory)
    targets = memory.instances["target"].tolist()
    return {i: j for i, j in enumerate(targets) if j != NONE}


def test_freeness_is_the_free_blocks_per_request():
    simulator = asked(cluster(), [request(10)], [])
    state = simulator.state
    assert llumnix.freeness(state, 0) == math.inf
    state.instances[0]["num_running"] = 4
    state.instances[0]["free_blocks"] = 50
    assert llumnix.freeness(state, 0) == 12.5
    state.instances[0]["num_loading"] = 1
    assert llumnix.freeness(state, 0) == 10.0


def test_the_first_waiting_request_counts_with_what_it_needs():
    # 161 tokens need 11 blocks, (50 - 11) / (2 + 1); the second one in the queue does not count.
    simulator = asked(cluster(), [request(161), request(800, 10), request(10)], [0, 0])
    simulator.state.instances[0]["num_running"] = 2
    simulator.state.instances[0]["free_blocks"] = 50
    assert llumnix.freeness(simulator.state, 0) == 13.0


def test_requests_go_to_the_instance_with_the_most_free_memory_per_request():
    # 26 of 100 blocks for one request, against 16 for two: 74 / 1 and 84 / 2.
    requests = [request(400), request(120), request(120), request(10, at=12.5)]
    for name in ("llumnix", "no-migration"):
        scenario = settings({"instances": 2}, {"name": name})
        assert choice(scenario, requests, [0, 1, 1]) == 0


def test_idle_instances_are_the_freest():
    assert choice(cluster(3), [request(10), request(10)], [0]) == 1


def test_the_least_free_source_sends_to_the_most_free_target():
    simulator = asked(cluster(5), [request(10)], [])
    instances = simulator.state.instances
    instances["num_running"] = [2, 2, 1, 1, 1]
    instances["free_blocks"] = [-8, -20, 30, 50, 40]  # freeness -4, -10, 30, 50, 40
    assert pairs(simulator) == {1: 3, 0: 4}


@pytest.mark.parametrize(("free", "found"), [(-3, {0: 1}), (-2, {})])
def test_an_instance_sends_from_a_freeness_of_minus_three_on(free, found):
    simulator = asked(cluster(2), [request(10)], [])
    simulator.state.instances["num_running"] = [1, 1]
    simulator.state.instances["free_blocks"] = [free, 50]
    assert pairs(simulator) == found


def test_an_instance_with_a_preempted_request_sends_and_takes_none():
    simulator = asked(cluster(3), [request(10), request(10)], [0])
    state = simulator.state
    state.requests[1]["preemptions"] = 1
    state.instances["num_running"] = [1, 1, 1]
    state.instances["free_blocks"] = [90, 5, 6]
    assert pairs(simulator) == {0: 2}


def test_where_all_are_short_of_memory_nothing_moves():
    simulator = asked(cluster(2), [request(10)], [])
    simulator.state.instances["num_running"] = [1, 1]
    simulator.state.instances["free_blocks"] = [-9, -4]
    assert pairs(simulator) == {}


def test_prefill_instances_neither_send_nor_take():
    simulator = asked(cluster(4), [request(10)], [])
    instances = simulator.state.instances
    instances["role"] = [PREFILL, PREFILL, DECODE, DECODE]
    instances["num_running"] = 1
    instances["free_blocks"] = [-50, 99, -4, 10]
    assert pairs(simulator) == {2: 3}


@pytest.mark.parametrize(("moves", "moved"), [("shortest", 2), ("longest", 1), ("last", 3)])
def test_the_shortest_longest_or_last_request_moves(moves, moved):
    requests = [request(400), request(100), request(200)]
    simulator = prepared(requests, [0, 0, 0], moves=moves)
    assert llumnix.mover(simulator.state, simulator._policy[0], 0) == moved


def test_a_request_that_is_prefilled_or_moving_does_not_move():
    simulator = prepared([request(400), request(100), request(200)], [0, 0, 0])
    simulator.state.requests[2]["prefilling"] = 1
    simulator.state.requests[3]["other"] = 1
    assert llumnix.mover(simulator.state, simulator._policy[0], 0) == 1


def test_balanced_pairing_moves_only_what_evens_out():
    # Freeness -8 / 2 = -4 on instance 0; its shorter request has 7 blocks, without it: -1 / 1.
    for free, found in (
        (20, {0: 1}),  # 20 / 1 becomes 13 / 2: 7.5 apart instead of 24
        (9, {0: 1}),  # 9 / 1 becomes 2 / 2: 2 apart
        (4, {}),  # 4 / 1 becomes -3 / 2: now the target is the less free one
        (0, {}),  # 0 / 1 becomes -7 / 2: below -3
    ):
        simulator = prepared(
            [request(100), request(400), request(10)], [0, 0, 1], pairing="balanced"
        )
        simulator.state.instances["free_blocks"] = [-8, free]
        assert pairs(simulator) == found
        simulator._policy["pairing"] = llumnix.DEFRAG
        assert pairs(simulator) == {0: 1}


CROWDED = [request(400, 400, at=20.0 + 0.1 * k) for k in range(4)]
"""Each needs 25 blocks at first and 50 in the end, of 100."""


def crowded(name, **more):
    """Two instances; all four requests are routed while only the first one takes any."""
    scenario = settings({"instances": 2}, {"name": name} | more)
    simulator = sgym.Simulator(scenario, arrivals=CROWDED, log=("moves",))
    decision = simulator.decision
    for _ in range(3):
        while decision.kind != "route":
            decision = simulator.step(None, route=True)
        decision = simulator.step(0, route=True)
    return simulator.run()


def test_a_running_request_moves_when_memory_runs_short():
    result = crowded("llumnix")
    migrated = result.moves[result.moves["kind"] == "migration"]
    assert len(migrated) > 0
    assert migrated["source"].tolist()[0] == 0
    assert migrated["target"].tolist()[0] == 1
    stayed = crowded("no-migration")
    assert "migration" not in set(stayed.moves["kind"])
    ends = [run.state.requests["finish"].max() for run in (result, stayed)]
    assert ends[0] < ends[1]


def test_instances_are_paired_once_per_poll():
    fast, slow = crowded("llumnix", poll=0.05), crowded("llumnix", poll=5000.0)
    assert len(fast.moves[fast.moves["kind"] == "migration"]) > 0
    assert "migration" not in set(slow.moves["kind"])
