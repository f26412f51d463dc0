"""Slack-bounded chunking: no more prefill in an iteration than the most urgent reader can wait."""

import numpy as np
import pytest
from tiny import request, scenario

import sgym
from sgym.core.layout import LATENCY
from sgym.policies import estimate, slack_chunk


def latency_record():
    record = np.zeros(1, LATENCY)
    record["base"], record["per_prefill_token"], record["per_decode_seq"] = 0.01, 0.001, 0.002
    return record[0]


def test_the_largest_chunk_just_meets_the_slack():
    # 10 ms and 2 ms for each of 5 decodes leave 30.5 ms for prefill tokens of 1 ms
    assert slack_chunk.largest_chunk(latency_record(), (0, 5, 0), 1000, 0.0505) == 30
    assert slack_chunk.largest_chunk(latency_record(), (0, 5, 0), 25, 0.0505) == 25
    assert slack_chunk.largest_chunk(latency_record(), (0, 5, 0), 1000, 0.0205) == 0


def test_an_estimate_is_the_time_that_the_iteration_then_takes():
    result = sgym.simulate(
        "llama8b-a100-mixed", "vllm", log=("iterations", "batches"),
        arrivals=[request(0.0, 700, 3)],
    )  # fmt: skip
    record = sgym.Simulator("llama8b-a100-mixed").state.latency[0]
    prefill, decode = result.iterations["duration"][:2]
    assert estimate.batch_time(record, 700, 0, 0, 0) == pytest.approx(prefill, rel=1e-12)
    assert estimate.batch_time(record, 0, 0, 1, 701) == pytest.approx(decode, rel=1e-12)


def chunks(token_time, **parameters):
    """Prefill tokens per iteration while a reader is served and a prompt of 2,000 tokens comes."""
    settings = scenario({"name": "slack-chunk"} | parameters, max_num_seqs=4)
    settings["latency"] = {"linear": {"iteration": 0.1, "prefill_token": 0.001}}
    settings["slo"] = {"classes": [{"token_time": token_time}]}
    requests = [request(0, 10, 9), request(0.05, 2000, 1)]
    log = sgym.simulate(settings, "slack-chunk", arrivals=requests, log=("iterations",))
    return log.iterations["prefill_tokens"].tolist()


def test_an_iteration_ends_before_the_next_token_is_due():
    # The reader has its first token at 0.11 s and the second is due at 1.0005 s: 890.5 ms are left,
    # 100 of which every iteration takes. It then comes at 1.0 s, the third is due at 1.50075 s.
    assert chunks(0.50025)[:3] == [10, 790, 400]


def test_prefill_never_stops():
    assert chunks(0.1201, floor=16)[1:4] == [30, 20, 20]
    assert chunks(0.1001, floor=16)[1:4] == [16, 16, 16]


def test_readers_whom_no_chunk_could_save_do_not_limit_it():
    assert chunks(0.01)[:3] == [10, 2000, 0]


def test_who_can_no_longer_meet_the_deadline_goes_last():
    settings = scenario(max_num_seqs=1)
    settings["slo"] = {
        "classes": [{"name": "a", "token_time": 1.5}, {"name": "b", "token_time": 9}]
    }
    requests = [request(0), request(0.1, user_class=0), request(0.2, user_class=1)]
    first = sgym.simulate(settings, "slack-chunk", arrivals=requests).state.requests["first_token"]
    assert first[2] < first[1]  # that of request 1 was due at 1.6 s, but the engine is free at 3 s
    settings["slo"]["classes"][0]["token_time"] = 4.5
    first = sgym.simulate(settings, "slack-chunk", arrivals=requests).state.requests["first_token"]
    assert first[1] < first[2]
