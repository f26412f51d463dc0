"""Summaries of hand-made states."""

import math

import numpy as np
import pytest

import sgym
from sgym.config import Slo
from sgym.core import build, layout
from sgym.metrics import baseline, benefit, from_token_times, requests_frame, summarize
from sgym.metrics.experience import quality
from sgym.metrics.statistics import jain_index, percentiles, time_between_tokens
from sgym.metrics.summary import GAP_MIDDLES

SLO = Slo.model_validate(
    {
        "classes": [{"token_time": 0.5, "alpha": 2.0}],
        "ttft": 1.0,
        "tbt": 0.75,
        "tpot": 0.6,
        "e2e": 2.0,
    }
)
TWO_CLASSES = Slo.model_validate(
    {
        "classes": [
            {"name": "reader", "token_time": 0.5, "alpha": 2.0},
            {"name": "agent", "token_time": 0.25, "alpha": 2.0, "weight": 3.0},
        ]
    }
)
ON_TIME = [0.5, 0.75, 1.25]
LATE = [1.5, 2.0, 3.5]  # after an arrival at 0 with V = 0.5: late by 1, 1 and 2 seconds


def state_of(requests, num_instances=1):
    engines = np.zeros(num_instances, layout.ENGINE)
    blank = build.blank_state(engines, np.zeros(1, layout.LATENCY), np.zeros(1, layout.CLUSTER))
    state = build.begun(blank, requests)
    state.engines["num_blocks"] = state.instances["free_blocks"] = 100
    return state


def summary_of(arrival, token_times, slo=SLO, end=10.0, **choices):
    state = state_of(from_token_times(arrival, token_times, slo, end, **choices))
    return summarize(state, slo, (0.0, end))


def test_benefits_throughput_and_goodput_are_per_second_of_the_window():
    columns = summary_of([0.0, 0.0], [ON_TIME, LATE])
    assert columns["smooth_goodput"] == pytest.approx((6 - 2.0 * 2.0) / 10)
    assert columns["throughput_tok_s"] == 0.6
    assert columns["goodput_tok_s"] == 0.3
    assert columns["goodput_req_s"] == 0.1
    assert columns["slo_attainment"] == 0.5
    assert columns["request_rate"] == 0.2


def test_conventional_attainment_uses_the_thresholds():
    columns = summary_of([0.0, 0.0, 0.0], [ON_TIME, LATE, [0.25, 0.25, 1.25]])
    assert columns["attainment_ttft_tbt"] == pytest.approx(1 / 3)
    assert columns["attainment_ttft_tpot"] == pytest.approx(2 / 3)
    assert columns["attainment_e2e"] == pytest.approx(2 / 3)


def test_latencies_are_in_seconds_from_arrival():
    columns = summary_of([0.0, 1.0], [ON_TIME, [2.0, 2.5, 4.0]])
    assert columns["ttft_mean"] == columns["ttft_p50"] == 0.75
    assert columns["ttft_p90"] == pytest.approx(0.95)
    assert columns["e2e_mean"] == 2.125
    assert columns["e2e_p99"] == pytest.approx(2.9825)
    assert columns["tpot_mean"] == pytest.approx((0.375 + 1.0) / 2)
    assert columns["idle_latency_mean"] == 0.75
    assert columns["idle_latency_p99"] == pytest.approx(1.485)


def test_a_single_token_has_no_time_per_output_token():
    columns = summary_of([0.0], [[0.5]])
    assert math.isnan(columns["tpot_mean"])
    assert columns["attainment_ttft_tpot"] == 1.0


def test_rejected_refused_and_unfinished_requests_stay_in_the_denominator():
    requests = from_token_times([0.0] * 4, [ON_TIME, [], [], [0.5]], SLO, 10.0, output=[3] * 4)
    requests["phase"][1:3] = [layout.REJECTED, layout.REFUSED]
    columns = summarize(state_of(requests), SLO, (0.0, 10.0))
    assert columns["slo_attainment"] == 0.25
    assert columns["num_requests"] == 4
    assert columns["num_finished"] == 1
    assert columns["num_rejected"] == columns["num_refused"] == columns["num_unfinished"] == 1
    assert columns["smooth_goodput"] == pytest.approx((3 - 2 * (2.0 * 9.5) + 1 - 2.0 * 9.0) / 10)


def test_requests_on_time_but_under_way_are_left_out_of_decided_attainment():
    columns = summary_of([0.0, 9.0], [ON_TIME, [9.25, 9.75, 10.25]])
    assert columns["slo_attainment"] == 0.5
    assert columns["slo_attainment_decided"] == 1.0


def test_requests_after_the_window_are_not_counted():
    columns = summary_of([0.0, 11.0], [ON_TIME, [11.5]])
    assert columns["num_requests"] == 1
    assert columns["request_rate"] == 0.1


def test_without_a_finished_request_percentiles_are_nan():
    columns = summary_of([0.0], [[]], output=[3])
    for name in ("ttft_p50", "ttft_mean", "tbt_p99", "tbt_mean", "tpot_p50", "e2e_p90"):
        assert math.isnan(columns[name])
    assert columns["slo_attainment"] == 0.0


def test_percentiles_are_numpys_to_the_last_bit():
    random = np.random.default_rng(0)
    for count in (1, 2, 3, 10, 101, 997):
        values = np.append(random.standard_exponential(count), np.nan)
        found = percentiles("x", values, 1, 50, 75, 90, 99, 100)
        for rank in (1, 50, 75, 90, 99, 100):
            assert found[f"x_p{rank}"] == np.percentile(values[:-1], rank)


def test_an_empty_window_has_no_shares():
    columns = summary_of([], [])
    assert columns["smooth_goodput"] == columns["throughput_tok_s"] == 0.0
    assert math.isnan(columns["slo_attainment"])
    assert math.isnan(columns["fairness_jain"])


def test_all_values_are_floats():
    columns = summary_of([0.0], [ON_TIME], TWO_CLASSES)
    assert {type(value) for value in columns.values()} == {float}


def test_times_between_tokens_come_from_the_histogram():
    state = state_of(from_token_times([0.0], [ON_TIME], SLO, 10.0))
    state.cluster["gaps"][0, [100, 200]] = [9, 1]
    columns = summarize(state, SLO, (0.0, 10.0))
    low, high = 1e-4 * 1.01**100.5, 1e-4 * 1.01**200.5
    assert columns["tbt_p50"] == columns["tbt_p90"] == pytest.approx(low)
    assert columns["tbt_p99"] == pytest.approx(high)
    assert columns["tbt_mean"] == pytest.approx(0.9 * low + 0.1 * high)
    assert pytest.approx(low) == GAP_MIDDLES[100]


@pytest.mark.parametrize("horizon", [8.0, 64.0])
def test_the_histogram_has_each_time_between_tokens_of_a_run(horizon):
    episode = sgym.load_scenario("tiny", {"episode.duration": horizon})
    result = sgym.simulate(episode, seed=2, log=("tokens",))
    gaps = result.tokens.groupby("request")["time"].diff().dropna()
    assert result.summary["tbt_mean"] == pytest.approx(gaps.mean(), rel=0.01)
    for rank in (50, 90, 99):
        exact = np.percentile(gaps, rank, method="inverted_cdf")
        assert result.summary[f"tbt_p{rank}"] == pytest.approx(exact, rel=0.0051)
    cluster = result.state.cluster[0]
    assert cluster["gaps"].sum() + cluster["last_count"] == len(gaps)


def test_percentiles_of_times_between_tokens_do_not_need_sorted_gaps():
    columns = time_between_tokens(np.array([3.0, 1.0, 2.0]), np.ones(3))
    assert (columns["tbt_p50"], columns["tbt_p99"], columns["tbt_mean"]) == (2.0, 3.0, 2.0)


def test_engine_sums_become_shares_of_the_window():
    state = state_of(from_token_times([0.0], [ON_TIME], SLO, 10.0), num_instances=2)
    state.instances["iterations"] = [30, 10]
    state.instances["batched_tokens"] = [300, 20]
    state.instances["preemptions"] = [1, 2]
    state.instances["busy_time"] = [8.0, 2.0]
    state.instances["running_time"] = [40.0, 20.0]
    state.instances["block_time"] = [400.0, 100.0]
    state.instances["sums_since"] = 10.0
    state.requests["recomputed"] = 17
    columns = summarize(state, SLO, (0.0, 10.0))
    assert columns["iterations"] == 40
    assert columns["mean_batch_tokens"] == 8.0
    assert columns["num_preemptions"] == 3
    assert columns["busy_share"] == 0.5
    assert columns["mean_running"] == 3.0
    assert columns["kv_utilisation"] == 0.25
    assert columns["recomputed_tokens"] == 17
    assert columns["num_migrations"] == 0


def test_engine_sums_are_continued_to_the_end_of_the_window():
    state = state_of(from_token_times([0.0], [ON_TIME], SLO, 10.0))
    state.instances["busy"] = state.instances["num_running"] = 1
    state.instances["start"], state.instances["duration"] = 9.0, 4.0
    state.instances["busy_time"] = 3.0
    state.instances["free_blocks"] = 60
    state.instances["sums_since"] = 5.0
    columns = summarize(state, SLO, (0.0, 10.0))
    assert columns["busy_share"] == 0.4
    assert columns["mean_running"] == 0.5
    assert columns["kv_utilisation"] == 0.2


def test_a_window_after_a_warm_start_counts_only_what_happened_in_it():
    arrival, times = [0.0, 0.0, 6.0], [ON_TIME, [0.5, 7.0], [6.5, 7.0]]
    output = [3, 3, 2]
    before = state_of(from_token_times(arrival, times, SLO, 5.0, output=output))
    before.cluster["gaps"][0, 50] = 2
    before.instances["iterations"] = 4
    before.instances["sums_since"] = 5.0
    start = baseline(before, SLO, 5.0)
    after = state_of(from_token_times(arrival, times, SLO, 10.0, output=output))
    after.cluster["gaps"][0, [50, 60]] = [2, 2]
    after.instances["iterations"] = 14
    after.instances["sums_since"] = 10.0
    columns = summarize(after, SLO, (5.0, 10.0), start)
    gained = benefit(after.requests, 10.0, SLO).sum() - benefit(before.requests, 5.0, SLO).sum()
    # the second request is late by 4 seconds at 5; then by 6 with its token at 7, 8.5 at 10
    assert gained == (3 + 2 - 2.0 * 8.5 + 2) - (3 + 1 - 2.0 * 4.0)
    assert columns["smooth_goodput"] == gained / 5
    assert columns["throughput_tok_s"] == 3 / 5
    assert columns["num_requests"] == 2  # the first had finished before
    assert columns["num_backlog"] == 1
    assert columns["request_rate"] == 0.2
    assert columns["iterations"] == 10
    assert columns["tbt_p50"] == pytest.approx(1e-4 * 1.01**60.5)


def test_classes_are_reported_apart():
    columns = summary_of([0.0, 0.0], [ON_TIME, ON_TIME], TWO_CLASSES, user_class=[0, 1])
    assert columns["smooth_goodput.reader"] == 0.3
    assert columns["smooth_goodput.agent"] == pytest.approx(3.0 * (3 - 2.0 * 0.5) / 10)
    assert columns["slo_attainment.reader"] == 1.0
    assert columns["slo_attainment.agent"] == 0.0
    assert columns["fairness_jain"] == 0.5
    assert columns["num_requests.agent"] == 1.0


def test_one_class_is_not_reported_apart():
    columns = summary_of([0.0], [ON_TIME])
    assert not [name for name in columns if "." in name]
    assert columns["fairness_jain"] == 1.0


def test_jain_index_is_one_when_all_are_equal_and_one_over_k_when_one_has_all():
    assert jain_index(np.array([0.25, 0.25])) == 1.0
    assert jain_index(np.array([0.0, 0.0])) == 1.0
    assert jain_index(np.array([0.0, 0.5, 0.0, 0.0])) == 0.25


def test_quality_is_the_share_of_the_ideal_readers_area():
    requests = from_token_times([0.0, 0.0, 0.0], [ON_TIME, LATE, []], SLO, 10.0, output=[3, 3, 3])
    # late: delays 1, 1, 2 of an area 0.5*3*3/2 + 3*2; nothing: a first token that is 9.5 late
    expected = [1.0, 1 - 4 / (2.25 + 6), 1 - 9.5 / (0.25 + 9.5)]
    assert quality(requests, 10.0).tolist() == pytest.approx(expected)


def test_quality_counts_the_delay_of_later_tokens_that_a_stall_pushed_back():
    requests = from_token_times([0.0], [[2.5, 2.5, 2.5]], SLO)
    assert quality(requests, 10.0).tolist() == [1 - 3 * 2.0 / (2.25 + 3 * 2.0)]


def test_requests_become_a_readable_table():
    requests = from_token_times(
        [0.0, 1.0, 12.0], [ON_TIME, [], [13.0]], TWO_CLASSES, 10.0, output=[3, 3, 1]
    )
    requests["user_class"] = [1, 0, 0]
    frame = requests_frame(state_of(requests), TWO_CLASSES, at=10.0)
    assert frame["phase"].tolist() == ["finished", "waiting", "pending"]
    assert frame["user_class"].tolist() == ["agent", "reader", "reader"]
    assert frame["ttft_s"].tolist()[0] == 0.5
    assert frame["tpot_s"].tolist()[0] == 0.375
    assert frame["idle_latency_s"].tolist()[:2] == [0.0, 8.5]
    assert frame["benefit_tokens"].tolist() == [3.0, -17.0, 0.0]
    assert frame["qoe"].isna().tolist() == [False, False, True]


def test_the_table_is_as_of_the_clock_by_default():
    state = state_of(from_token_times([0.0], [[]], SLO, 4.0, output=[1]))
    state.cluster["clock"] = 4.0
    assert requests_frame(state, SLO)["idle_latency_s"].tolist() == [3.5]
