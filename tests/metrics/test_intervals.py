"""Confidence intervals."""

import math

import numpy as np
import pytest

from sgym.errors import SgymError
from sgym.metrics import mean_interval, paired_difference
from sgym.metrics.intervals import student_t


@pytest.mark.parametrize(
    ("level", "freedom", "quantile"),
    [
        (0.95, 1, 12.706205),
        (0.95, 4, 2.776445),
        (0.95, 7, 2.364624),
        (0.99, 9, 3.249836),
        (0.90, 29, 1.699127),
        (0.95, 100_000, 1.959988),
    ],
)
def test_quantiles_of_student_t_are_those_of_the_tables(level, freedom, quantile):
    assert student_t(level, freedom) == pytest.approx(quantile, rel=1e-6)


def test_interval_of_a_mean():
    mean, low, high = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776445 * math.sqrt(2.5 / 5)
    assert (mean, low, high) == pytest.approx((3.0, 3.0 - half, 3.0 + half))


def test_one_seed_gives_no_interval():
    interval = mean_interval([4.0])
    assert interval.mean == 4.0
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_pairing_removes_what_the_runs_share():
    shared = np.array([10.0, -40.0, 25.0, 3.0])
    mean, low, high = paired_difference(shared + np.array([2.0, 2.1, 1.9, 2.0]), shared)
    assert mean == pytest.approx(2.0)
    assert 1.8 < low < high < 2.2


def test_intervals_cover_the_mean_as_often_as_promised():
    draws = np.random.default_rng(0).normal(1.0, 2.0, (2000, 5))
    covered = [low <= 1.0 <= high for _, low, high in map(mean_interval, draws)]
    assert 0.93 < np.mean(covered) < 0.97


@pytest.mark.parametrize(
    ("values", "level", "message"), [([], 0.95, "at least one"), ([1.0], 1.0, "level must be")]
)
def test_bad_arguments_are_named(values, level, message):
    with pytest.raises(SgymError, match=message):
        mean_interval(values, level)


def test_values_of_different_seeds_are_not_paired():
    with pytest.raises(SgymError, match="same seeds"):
        paired_difference([1.0, 2.0], [1.0])
