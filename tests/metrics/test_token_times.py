"""Logs of real engines."""

import pandas as pd
import pytest

from sgym.config import Slo
from sgym.errors import TraceError
from sgym.metrics import from_token_times, score_log

SLO = Slo.model_validate({"classes": [{"token_time": 0.5, "alpha": 2.0}]})


def log_of(*rows, columns=("request", "arrival", "time")):
    return pd.DataFrame(list(rows), columns=list(columns))


def test_a_log_is_scored_in_any_order_of_its_rows():
    log = log_of(("b", 1.0, 1.75), ("a", 0.0, 2.0), ("a", 0.0, 0.5), ("b", 1.0, 1.25))
    columns = score_log(log, SLO, horizon=4.0)
    assert columns["smooth_goodput"] == (4 - 2.0 * 1.0) / 4
    assert columns["slo_attainment"] == 0.5
    assert columns["ttft_mean"] == 0.375
    assert columns["tbt_mean"] == 1.0
    assert columns["tbt_p99"] == 1.5


def test_a_request_without_a_token_is_unfinished():
    columns = score_log(log_of(("a", 0.0, None), ("b", 0.0, 0.5)), SLO, horizon=2.5)
    assert columns["num_unfinished"] == 1
    assert columns["smooth_goodput"] == (1 - 2.0 * 2.0) / 2.5


def test_tokens_after_the_horizon_do_not_count():
    columns = score_log(log_of(("a", 0.0, 0.5), ("a", 0.0, 1.0)), SLO, horizon=0.75)
    assert columns["throughput_tok_s"] == pytest.approx(1 / 0.75)
    assert columns["num_finished"] == 0


def test_output_lengths_tell_which_requests_were_cut_off():
    names = ("request", "arrival", "time", "output", "prompt")
    log = log_of(("a", 0.0, 0.5, 2, 10), ("b", 0.0, 0.5, 1, 10), columns=names)
    assert score_log(log, SLO, horizon=1.0)["num_finished"] == 1


def test_classes_are_given_by_name():
    slo = Slo.model_validate(
        {
            "classes": [
                {"name": "slow", "token_time": 0.5},
                {"name": "fast", "token_time": 0.1},
            ]
        }
    )
    names = ("request", "arrival", "time", "user_class")
    log = log_of(("a", 0.0, 0.25, "slow"), ("b", 0.0, 0.25, "fast"), columns=names)
    columns = score_log(log, slo, horizon=1.0)
    assert (columns["slo_attainment.slow"], columns["slo_attainment.fast"]) == (1.0, 0.0)
    with pytest.raises(TraceError, match=r"user_class \['quick'\], but slo.classes has"):
        score_log(log.replace("fast", "quick"), slo, horizon=1.0)


def test_a_log_without_the_columns_is_refused():
    with pytest.raises(TraceError, match=r"lacks the columns \['time'\]"):
        score_log(log_of(("a", 0.0), columns=("request", "arrival")), SLO, 1.0)


def test_an_empty_log_is_refused():
    with pytest.raises(TraceError, match="empty"):
        score_log(log_of(), SLO, 1.0)


def test_rows_hold_what_a_reader_experienced():
    row = from_token_times([1.0], [[2.0, 2.25, 4.0]], SLO, output=[4])[0]
    assert (row["due"], row["lateness"], row["late_sum"]) == (3.0, 1.5, 0.5 + 0.5 + 1.5)
    assert (row["generated"], row["longest_gap"], row["last_token"]) == (3, 1.75, 4.0)


@pytest.mark.parametrize("user_class", [-1, 1, [0, 7]])
def test_a_class_that_is_not_there_is_refused(user_class):
    with pytest.raises(TraceError, match=r"must be an index into slo.classes.* from 0 to 0, got"):
        from_token_times([0.0, 1.0], [[1.0], [2.0]], SLO, user_class=user_class)
