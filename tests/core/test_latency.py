import numpy as np
import pytest

from sgym.core import latency
from sgym.core.layout import CLUSTER, INSTANCE, LATENCY


def measured():
    """A profile with round numbers: tokens 0.001 s each, and small attention tables."""
    record = np.zeros(1, LATENCY)[0]
    record["base"] = 0.5
    record["num_tokens"], record["num_seqs"] = 3, 2
    record["tokens"][:3], record["tokens_time"][:3] = [1, 10, 20], [0.001, 0.010, 0.040]
    record["seqs"][:2], record["seqs_time"][:2] = [1, 101], [0.1, 0.2]
    record["num_chunks"], record["num_prefixes"] = 2, 2
    record["chunk"][:2], record["prefix"][:2] = [1, 11], [0, 100]
    record["prefill_time"][:2, :2] = [[1.0, 2.0], [3.0, 6.0]]
    record["num_batches"], record["num_contexts"] = 2, 2
    record["batch"][:2], record["context"][:2] = [1, 3], [10, 20]
    record["decode_time"][:2, :2] = [[1.0, 2.0], [3.0, 4.0]]
    return record


@pytest.mark.parametrize(
    ("tokens", "seconds"),
    [(0, 0.001), (1, 0.001), (10, 0.010), (15, 0.025), (20, 0.040), (30, 0.070)],
)
def test_a_curve_is_linear_between_points_and_beyond_the_last(tokens, seconds):
    record = measured()
    found = latency.curve(record["tokens"], record["tokens_time"], 3, tokens)
    assert found == pytest.approx(seconds)


def test_a_curve_of_one_point_is_constant_and_of_none_is_zero():
    record = measured()
    assert latency.curve(record["tokens"], record["tokens_time"], 1, 500) == 0.001
    assert latency.curve(record["tokens"], record["tokens_time"], 0, 500) == 0.0


@pytest.mark.parametrize(
    ("chunk", "prefix", "seconds"),
    [(1, 0, 1.0), (11, 100, 6.0), (6, 50, 3.0), (21, 0, 5.0), (1, 200, 3.0)],
)
def test_prefill_attention_is_bilinear(chunk, prefix, seconds):
    assert latency.prefill_attention(measured(), chunk, prefix) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("batch", "kv", "seconds"),
    [(1, 10, 1.0), (3, 60, 4.0), (2, 30, 2.5), (5, 50, 5.0), (0, 0, 0.0)],
)
def test_decode_attention_is_bilinear_in_batch_and_mean_context(batch, kv, seconds):
    assert latency.decode_attention(measured(), batch, kv) == pytest.approx(seconds)


def described(**fields):
    instance, cluster = np.zeros(1, INSTANCE)[0], np.zeros(1, CLUSTER)[0]
    for name, value in fields.items():
        instance[name] = value
    return instance, cluster


def test_an_iteration_adds_up_its_parts():
    instance, cluster = described(
        prefill_tokens=8, decode_seqs=2, decode_kv=30, kv_tokens=38, num_sampled=51
    )
    seconds = latency.iteration_time(measured(), instance, 3.0, cluster)
    assert seconds == pytest.approx(0.5 + 0.010 + 0.15 + 3.0 + 2.5)


def test_a_line_counts_prefill_tokens_decodes_and_context():
    record = np.zeros(1, LATENCY)[0]
    record["base"], record["per_prefill_token"] = 1.0, 0.1
    record["per_decode_seq"], record["per_kv_token"] = 0.01, 0.001
    instance, cluster = described(prefill_tokens=3, decode_seqs=2, kv_tokens=7)
    assert latency.iteration_time(record, instance, 9.0, cluster) == pytest.approx(1.327)


def test_noise_is_a_factor_with_the_given_spread():
    record = measured()
    record["noise"] = 0.2
    instance, cluster = described(prefill_tokens=8, decode_seqs=2, decode_kv=30, num_sampled=51)
    draws = [latency.iteration_time(record, instance, 3.0, cluster) for _ in range(4000)]
    logs = np.log(np.array(draws) / 6.16)
    assert np.mean(logs) == pytest.approx(0.0, abs=0.02)
    assert np.std(logs) == pytest.approx(0.2, abs=0.02)
    assert cluster["noise_counter"] == 4000
