"""FastServe: the level that a request joins, demotion, starvation, and whose KV leaves the GPU."""

import pytest
from tiny import request, scenario, served

import sgym
from sgym.policies import kernels


def mlfq(**parameters):
    """Scenario of iterations of 10 ms, one request at a time, and 1 ms per prompt token."""
    given = {"name": "fastserve", "batch": 1, "quantum": 0.025} | parameters
    engine = {key: given.pop(key) for key in ("num_gpu_blocks",) if key in given}
    settings = scenario(given, **({"max_num_seqs": 8} | engine))
    settings["latency"] = {"linear": {"iteration": 0.01}}
    return settings


def test_a_request_joins_the_level_whose_quantum_its_prefill_needs():
    settings = mlfq(quantum=0.01)
    settings["latency"] = {"linear": {"iteration": 0.005, "prefill_token": 0.001}}
    prompts = [3, 5, 6, 15, 16, 100]  # 8, 10, 11, 20, 21 and 105 ms
    simulator = sgym.Simulator(
        settings, policy="fastserve", arrivals=[request(0, prompt) for prompt in prompts]
    )
    assert simulator._memory.requests["level"].tolist() == [0, 0, 1, 1, 2, 4]


def test_who_has_used_up_a_quantum_lets_others_go_first_and_keeps_its_memory():
    # Three iterations of 10 ms exceed 25 ms, so request 0 goes down a level. Request 1 does so too,
    # but stands in front of request 0 there.
    requests = [request(0, output=5), request(0.001, output=5)]
    settings = mlfq()
    assert served("fastserve", settings, requests) == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0]
    state = sgym.simulate(settings, "fastserve", arrivals=requests).state
    assert state.requests["preemptions"].tolist() == [0, 0]


def test_a_newcomer_goes_before_those_who_were_demoted():
    requests = [request(0, output=6), request(0.0455, output=1)]
    assert served("fastserve", mlfq(), requests) == [0, 0, 0, 0, 0, 1, 0]


def test_the_lowest_level_loses_its_memory_to_the_host_first():
    # 30 blocks, 1 of them kept free: request 0 holds 13, request 1 needs 19
    requests = [request(0, 200, output=6), request(0.001, 300, output=2)]
    settings = mlfq(num_gpu_blocks=31)
    assert served("fastserve", settings, requests) == [0, 0, 0, 1, 1, 0, 0, 0]
    state = sgym.simulate(settings, "fastserve", arrivals=requests).state
    assert state.requests["swaps"].tolist() == [1, 0]
    assert state.requests["recomputed"].tolist() == [0, 0]


def test_a_batch_takes_so_many_requests_and_prompt_tokens():
    requests = [request(0, 100, 2) for _ in range(4)]
    settings = mlfq(batch=3, prompt_tokens=250)
    log = sgym.simulate(settings, "fastserve", arrivals=requests, log=("batches",)).batches
    sizes = log.groupby("iteration")["tokens"].agg(list).tolist()
    assert sizes[:2] == [[100, 100], [100]]  # the third of a batch is the second's decode
    assert max(len(tokens) for tokens in sizes) == 3


def test_the_starved_go_to_the_highest_level():
    requests = [request(0, output=6)]
    requests += [request(0.03 * k + 0.001, output=3) for k in range(12)]
    patient = served("fastserve", mlfq(starvation=99.0, period=1), requests)
    hungry = served("fastserve", mlfq(starvation=0.1, period=1), requests)
    assert patient[3:].index(0) == 36  # after all others
    assert hungry[3:].index(0) < 12


def test_with_async_scheduling_the_batch_that_was_just_formed_is_charged():
    # 8 tokens of prefill take 18 ms, a decode 10 ms; the second batch is formed at once.
    ahead = {"former": "vllm_v1", "preemption_mode": "recompute", "async_scheduling": True}
    settings = mlfq(quantum=1.0, batch=4, **ahead)
    settings["latency"] = {"linear": {"iteration": 0.01, "prefill_token": 0.001}}
    simulator = sgym.Simulator(settings, policy="fastserve", arrivals=[request(0, 8, output=4)])
    found = []
    while simulator.decision.kind != "done":
        kernels.answer(simulator.state, simulator._policy, simulator._memory)
        memo = simulator._memory.requests[0]
        found.append((simulator.now, float(memo["used"]), float(memo["served"])))
        simulator.advance()
    times = [(0, 18, 18), (0, 28, 28), (18, 38, 38), (28, 48, 48)]
    expected = [pytest.approx([ms / 1000 for ms in row]) for row in times]
    assert found[:4] == expected
