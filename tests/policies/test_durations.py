"""How long an instance is expected to take for what it has to do."""

import pytest
from placing import asked, request, settings

from sgym.policies import durations

LINE = {"iteration": 1.0, "prefill_token": 0.01, "decode_seq": 0.1, "context_token": 0.001}


def cluster(requests, placed, **engine):
    scenario = settings({"instances": 2}, max_num_batched_tokens=100, **engine)
    scenario["latency"] = {"linear": LINE}
    return asked(scenario, requests, placed)


def test_a_prompt_takes_the_time_of_its_chunks():
    state = cluster([request(10)], []).state
    # 1 + 100 * 0.01 + 100 * 0.001, then 1 + 50 * 0.01 + 150 * 0.001
    assert durations.prefill_time(state, 0, 150, 0) == pytest.approx(2.1 + 1.65)
    assert durations.prefill_time(state, 0, 150, 100) == pytest.approx(1.65)
    assert durations.prefill_time(state, 0, 150, 150) == 0.0


def test_an_engine_that_does_not_chunk_takes_a_prompt_in_one_piece():
    state = cluster([request(10)], [], former="vllm_v0", enable_chunked_prefill=False).state
    assert durations.prefill_time(state, 0, 150, 0) == pytest.approx(1 + 1.5 + 0.15)


def test_a_full_batch_of_prefill_gives_the_time_of_a_token():
    state = cluster([request(10)], []).state
    assert durations.token_time(state, 0) == pytest.approx(2.1 / 100)


def test_a_queue_takes_what_is_left_of_the_iteration_and_then_one_prompt_after_the_other():
    # Request 1 computes its first 100 tokens from 10.0 s to 12.1 s, its other 50 take 1.65 s;
    # request 2 waits, and takes 1 + 20 * 0.01 + 20 * 0.001.
    simulator = cluster([request(150), request(20, at=10.1), request(5, at=11.0)], [0, 0])
    state, memory = simulator.state, simulator._memory
    assert durations.queue_time(state, memory, 0) == pytest.approx(1.1 + 1.65 + 1.22)
    assert durations.queue_time(state, memory, 1) == 0.0
    memory.requests[2]["prefill_time"] = 0.5  # what was estimated when it was routed
    assert durations.queue_time(state, memory, 0) == pytest.approx(1.1 + 1.65 + 0.5)


def test_with_async_scheduling_a_queue_waits_for_both_iterations_under_way():
    # 100 tokens from 10.0 s to 12.1 s, the other 50 in 1.65 s more; both are formed at 10.0 s.
    simulator = cluster([request(150), request(5, at=11.0)], [0], async_scheduling=True)
    state, memory = simulator.state, simulator._memory
    assert durations.queue_time(state, memory, 0) == pytest.approx(1.1 + 1.65)


def test_decoding_takes_time_for_each_request_and_each_token_of_context():
    state = cluster([request(10)], []).state
    assert durations.decode_time(state, 0, 4, 300) == pytest.approx(1 + 0.4 + 0.3)


def test_the_most_context_that_decodes_in_time_or_fits_into_memory():
    state = cluster([request(10)], []).state
    # 1 + 0.2 + 0.001 * 800 = 2; memory holds 100 * 16 tokens.
    assert durations.most_context(state, 0, 2, 2.0) == pytest.approx(800, abs=0.01)
    assert durations.most_context(state, 0, 2, 9.0) == 1600
    assert durations.most_context(state, 0, 2, 1.1) == pytest.approx(0, abs=0.01)


def test_context_counts_what_is_held_and_what_prompts_will_hold():
    # Request 1 has 7 blocks for its first 100 tokens and needs 10, request 2 needs 2.
    state = cluster([request(150), request(20, at=10.1), request(5, at=11.0)], [0, 0]).state
    assert durations.context(state, 0) == (10 + 2) * 16
