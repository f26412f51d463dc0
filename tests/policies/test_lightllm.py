"""Past-future admission: the history, the samples, the peak, and who is let in."""

import random

import numpy as np
import pytest
from tiny import request, scenario, served

import sgym
from sgym.policies import lightllm
from sgym.policies.memory import fresh_memory


def memory_of(outputs):
    memory = fresh_memory(sgym.Simulator(scenario(), arrivals=[request(0)]).state)
    for output in outputs:
        lightllm.remember(memory, output)
    return memory


def test_the_last_two_hundred_lengths_are_kept_in_order():
    draw = random.Random(1)
    outputs = [draw.randint(1, 99) for _ in range(430)]
    for count in (1, 7, 200, 201, 430):
        memory = memory_of(outputs[:count])
        last = sorted(outputs[:count][-200:])
        assert memory.ordered[: len(last)].tolist() == last


def test_the_peak_is_when_somebody_is_about_to_end():
    memory = memory_of([])
    samples = np.zeros((1, 4, 2), np.int64)
    memory = memory._replace(samples=samples)
    for place, (held, to_come) in enumerate([(10, 5), (20, 3), (5, 8)]):
        lightllm.insert(memory, 0, place, held, to_come)
    assert samples[0, :3, 1].tolist() == [8, 5, 3]
    # 13 when the first ends, 15 + 2 * 5 when the second does, 35 + 3 * 3 when the third does
    assert lightllm.peak_of(memory, 0, 3) == 44


def test_a_sampled_length_exceeds_what_is_generated():
    memory = memory_of([10, 20, 30, 40])
    cluster = sgym.Simulator(scenario(), arrivals=[request(0)]).state.cluster[0]
    drawn = [lightllm.sampled_output(cluster, memory, 20, 40) for _ in range(300)]
    assert 20 <= min(drawn) <= max(drawn) <= 40  # evenly from 20 to 30 and from 30 to 40
    assert sum(length > 30 for length in drawn) == pytest.approx(150, abs=40)
    assert lightllm.sampled_output(cluster, memory, 40, 40) == 40
    longer = [lightllm.sampled_output(cluster, memory, 40, 50) for _ in range(50)]
    assert 40 <= min(longer) < 45 < max(longer)


def running_together(expected_output):
    """Whether two requests of 100 tokens run at a time where memory holds 320."""
    settings = scenario(
        {"name": "lightllm-pf", "expected_output": expected_output},
        num_gpu_blocks=21, max_num_seqs=4, max_model_len=106,
    )  # fmt: skip
    return served("lightllm-pf", settings, [request(0, 100, 3), request(0, 100, 3)])


def test_a_request_waits_for_one_whose_history_is_long():
    # alone 100 + 2 of 304; together 201 and what both have to come, at most 5 each
    assert running_together(5) == [0, 1, 0, 1, 0, 1]
    # each is expected to hold 100 + 150 at its end
    assert running_together(150) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("ahead", [False, True])
def test_finished_requests_teach_the_history(ahead):
    settings = scenario({"name": "lightllm-pf", "expected_output": 7}, async_scheduling=ahead)
    requests = [request(0, output=3), request(0, output=1), request(20, output=2)]
    simulator = sgym.Simulator(settings, policy="lightllm-pf", arrivals=requests)
    simulator.run()
    assert simulator._memory.history[:104].tolist() == [7] * 100 + [3, 1, 2, 0]
