"""Smooth goodput: the definition on small numbers, its special cases and its invariants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgym.config import Slo
from sgym.loading import PRESETS
from sgym.metrics import benefit, from_token_times, idle_latency, smooth_goodput

HORIZON = 20.0


def slo_of(alpha=2.5, token_time=0.2, first_delay=0.0, weight=1.0, **choices):
    user = {
        "alpha": alpha,
        "token_time": token_time,
        "first_delay": first_delay,
        "weight": weight,
    }
    return Slo.model_validate({"classes": [user], **choices})


def total(arrival, token_times, at, slo, output=None):
    return benefit(from_token_times(arrival, token_times, slo, at, output=output), at, slo).sum()


LATE_SECOND_TOKEN = [1.5, 3.5, 3.75]  # due at 1.5, 2.0 and 2.5 after an arrival at 1 and V = 0.5


def test_idle_latency_is_the_worst_lateness_of_a_token():
    requests = from_token_times([1.0], [LATE_SECOND_TOKEN], slo_of(token_time=0.5))
    assert idle_latency(requests, 9.0).tolist() == [1.5]


def test_benefit_is_tokens_less_alpha_times_idle_latency():
    slo = slo_of(alpha=2.0, token_time=0.5)
    assert total([1.0], [LATE_SECOND_TOKEN], 9.0, slo) == 3 - 2.0 * 1.5


def test_idle_latency_accrues_while_a_token_is_overdue():
    slo = slo_of(alpha=2.0, token_time=0.5)
    assert total([1.0], [LATE_SECOND_TOKEN], 1.75, slo) == 1
    assert total([1.0], [LATE_SECOND_TOKEN], 2.0, slo) == 1
    assert total([1.0], [LATE_SECOND_TOKEN], 3.0, slo) == 1 - 2.0 * 1.0


def test_first_delay_postpones_every_deadline():
    slo = slo_of(alpha=2.0, token_time=0.5, first_delay=1.25)
    assert total([1.0], [LATE_SECOND_TOKEN], 9.0, slo) == 3 - 2.0 * 0.25


def test_first_delay_grows_with_the_prompt():
    user = {"token_time": 0.5, "first_delay_per_prompt_token": 0.01}
    requests = from_token_times(
        [1.0], [LATE_SECOND_TOKEN], Slo.model_validate({"classes": [user]}), prompt=[50]
    )
    assert requests["lateness"].tolist() == [1.0]


def test_weight_scales_tokens_and_penalty():
    slo = slo_of(alpha=2.0, token_time=0.5, weight=3.0)
    assert total([1.0], [LATE_SECOND_TOKEN], 9.0, slo) == 3.0 * (3 - 2.0 * 1.5)


def test_deadlines_can_count_from_the_first_token():
    slo = slo_of(alpha=2.0, token_time=0.5, origin="first_token")
    assert total([1.0], [[]], 9.0, slo, output=[3]) == 0.0  # waiting costs nothing
    assert total([1.0], [LATE_SECOND_TOKEN], 9.0, slo) == 3 - 2.0 * 1.5
    assert total([1.0], [[5.0, 5.5, 6.0]], 9.0, slo) == 3


@pytest.mark.parametrize(
    ("choices", "cost"),
    [
        ({}, 1.5),
        ({"penalty": "capped", "penalty_cap": 1.25}, 1.25),
        ({"penalty": "quadratic"}, 2.25),
        ({"scale_by_tokens": True}, 4.5),
        ({"penalty": "capped", "penalty_cap": 1.25, "scale_by_tokens": True}, 3.75),
    ],
)
def test_forms_of_the_penalty(choices, cost):
    slo = slo_of(alpha=2.0, token_time=0.5, **choices)
    assert total([1.0], [LATE_SECOND_TOKEN], 9.0, slo) == 3 - 2.0 * cost


def test_raw_idle_latency_rewards_being_early():
    early = [[1.25, 1.75]]  # a quarter of a second before each deadline
    assert total([1.0], early, 9.0, slo_of(alpha=2.0, token_time=0.5)) == 2
    assert total([1.0], early, 9.0, slo_of(alpha=2.0, token_time=0.5, clamp=False)) == 2.5


def test_a_request_without_tokens_keeps_accruing():
    slo = slo_of(alpha=2.0, token_time=0.5)
    assert total([1.0], [[]], 4.5, slo, output=[7]) == -2.0 * 3.0


def test_a_request_that_has_not_arrived_does_not_count():
    slo = slo_of(alpha=2.0, token_time=0.5)
    requests = from_token_times([5.0], [[5.25]], slo, at=4.0)
    assert idle_latency(requests, 4.0).tolist() == [-np.inf]
    assert benefit(requests, 4.0, slo).tolist() == [0.0]


def test_smooth_goodput_is_the_sum_of_benefits_per_second():
    slo = slo_of(alpha=2.0, token_time=0.5)
    requests = from_token_times([1.0, 2.0], [LATE_SECOND_TOKEN, [2.25]], slo, at=10.0)
    assert smooth_goodput(requests, 10.0, slo) == pytest.approx((3 - 3.0 + 1) / 10.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_scored(preset):
    slo = Slo.model_validate(PRESETS[preset])
    requests = from_token_times([0.0], [[0.01, 0.02]], slo)
    assert benefit(requests, 1.0, slo)[0] == 2 * slo.classes[0].weight


# --- special cases and invariants over random token times ---------------------------------------

gaps = st.lists(st.floats(0.0, 3.0), max_size=6)
request = st.tuples(st.floats(0.0, 5.0), gaps, st.integers(0, 2))  # arrival, gaps, tokens missing
workloads = st.lists(request, min_size=1, max_size=4)
forms = st.sampled_from(
    [
        {},
        {"penalty": "capped", "penalty_cap": 1.0},
        {"penalty": "quadratic"},
        {"clamp": False},
        {"clamp": False, "penalty": "capped", "penalty_cap": 1.0},
        {"origin": "first_token"},
    ]
)
scales = st.booleans().map(lambda scale: {"scale_by_tokens": scale})


def unpack(workload):
    arrival = [item[0] for item in workload]
    times = [item[0] + np.cumsum(item[1]) for item in workload]
    output = [max(1, len(item[1]) + item[2]) for item in workload]
    return arrival, times, output


def table(workload, slo, at=HORIZON):
    arrival, times, output = unpack(workload)
    return from_token_times(arrival, times, slo, at, output=output)


@given(workloads, forms, scales)
def test_without_alpha_it_is_token_throughput(workload, form, scale):
    slo = slo_of(alpha=0.0, **form, **scale)
    requests = table(workload, slo)
    delivered = sum(int((times <= HORIZON).sum()) for times in unpack(workload)[1])
    assert smooth_goodput(requests, HORIZON, slo) == delivered / HORIZON


@given(workloads)
def test_losing_all_tokens_of_a_late_request_makes_it_goodput(workload):
    """With alpha = 1, f = n * 1[l > 0]: eq. 7, counting requests under way that are on time."""
    slo = slo_of(alpha=1.0)
    arrival, times, output = unpack(workload)
    expected = 0
    for start, tokens, length in zip(arrival, times, output, strict=True):
        delivered = [token for token in tokens if token <= HORIZON]
        due = [start + 0.2 * (i + 1) for i in range(min(length, len(delivered) + 1))]
        waited = delivered + [HORIZON] * (len(due) - len(delivered))
        if all(token <= deadline for token, deadline in zip(waited, due, strict=True)):
            expected += len(delivered)
    requests = table(workload, slo)
    found = smooth_goodput(requests, HORIZON, slo, form=lambda late, count: count * (late > 0))
    assert found == expected / HORIZON


@given(request)
def test_a_readers_cumulative_idle_time_is_idle_latency_up_to_one_token_time(item):
    """Lindley's recursion: a token is read for V seconds, once it is there and the last is read."""
    arrival, times, _ = unpack([item])
    free, idle = arrival[0], 0.0
    for token in times[0]:
        idle += max(0.0, token - free)
        free = max(token, free) + 0.2
    requests = from_token_times(arrival, times, slo_of())
    latency = max(0.0, requests["lateness"][0])
    assert latency - 1e-9 <= idle <= latency + 0.2 + 1e-9


@given(workloads, forms, scales, st.lists(st.floats(0.0, HORIZON), max_size=5))
def test_changes_over_any_epochs_add_up_to_the_final_benefit(workload, form, scale, epochs):
    slo = slo_of(**form, **scale)
    moments = [-1.0, *sorted(epochs), HORIZON]
    levels = [benefit(table(workload, slo, at), at, slo).sum() for at in moments]
    assert levels[0] == 0.0
    assert sum(np.diff(levels)) == pytest.approx(levels[-1], abs=1e-9)


@given(workloads, st.floats(0.0, HORIZON), st.floats(0.0, HORIZON))
def test_the_reward_rate_is_delivery_less_alpha_times_waiting_readers(workload, one, other):
    """Identity f: between two moments B changes by the tokens less alpha times time spent dry."""
    slo = slo_of(alpha=2.5)
    start, end = min(one, other), max(one, other)
    expected = 0.0
    for arrival, times, output in zip(*unpack(workload), strict=True):
        expected += sum(start < token <= end for token in times)
        ready = arrival  # when the reader has read all before
        tokens = [*times, np.inf] if len(times) < output else list(times)
        for token in tokens:
            ready += 0.2
            expected -= 2.5 * max(0.0, min(token, end) - max(ready, start))
            ready = max(ready, token)
    change = benefit(table(workload, slo, end), end, slo).sum()
    change -= benefit(table(workload, slo, start), start, slo).sum()
    assert change == pytest.approx(expected, abs=1e-9)


commit_forms = forms.filter(lambda form: "origin" not in form)


@given(request, commit_forms, st.data())
def test_delaying_tokens_never_raises_benefit(item, form, data):
    """Effect (e): whatever is held back, and for however long."""
    slo = slo_of(**form)
    arrival, times, output = unpack([item])
    count = len(times[0])
    hold = data.draw(st.lists(st.floats(0.0, 10.0), min_size=count, max_size=count))
    delayed = np.maximum.accumulate(times[0] + hold)
    before = total(arrival, times, HORIZON, slo, output)
    assert total(arrival, [delayed], HORIZON, slo, output) <= before + 1e-9


def test_delaying_a_token_improves_time_between_tokens_but_not_smooth_goodput():
    """Effect (e) on numbers: the second token is held back to split the gap after it."""
    slo = slo_of(token_time=0.5)
    hurried = from_token_times([0.0], [[0.25, 0.5, 1.25]], slo)
    held = from_token_times([0.0], [[0.25, 0.75, 1.25]], slo)
    assert (hurried["longest_gap"][0], held["longest_gap"][0]) == (0.75, 0.5)
    assert benefit(held, 2.0, slo) == benefit(hurried, 2.0, slo)


def test_deadlines_from_the_first_token_reward_holding_it_back():
    """Why that origin must never be the only training objective."""
    slo = slo_of(token_time=0.5, origin="first_token")
    assert total([0.0], [[0.25, 2.0]], 9.0, slo) < total([0.0], [[2.0, 2.0]], 9.0, slo)


@given(request, commit_forms, st.integers(0, 5))
def test_dropping_a_request_never_raises_benefit(item, form, kept):
    """Effect (f): it stays unfinished, and its reader goes on waiting."""
    slo = slo_of(**form)
    arrival, times, output = unpack([item])
    before = total(arrival, times, HORIZON, slo, output)
    output = [max(output[0], kept + 1)]
    if len(times[0]) > kept:
        assert total(arrival, [times[0][:kept]], HORIZON, slo, output) <= before + 1e-9


def test_a_penalty_scaled_by_tokens_rewards_abandonment():
    """A limit of this choice: a late request whose f is paid per token is best cut short."""
    slo = slo_of(alpha=2.5, token_time=0.5, scale_by_tokens=True)
    times = [2.0, 2.5, 3.0]  # 1.5 seconds late from the first token on
    assert total([0.0], [times[:1]], 3.0, slo, [3]) > total([0.0], [times], 3.0, slo)
