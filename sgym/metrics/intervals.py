"""Confidence intervals of means over seeds: Student's t, deterministic."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sgym.errors import SgymError

STEPS = 20_000  # of the integral below: seven correct digits


class Interval(NamedTuple):
    """A mean and the interval that covers it with the level asked for."""

    mean: float
    low: float
    high: float


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean over seeds and its confidence interval.

    Args:
        values: one per seed. With one value the bounds are NaN; a NaN among them makes all NaN.
        level: probability that the interval covers the mean, above 0 and below 1.
    """
    values = np.asarray(values, np.float64).ravel()
    if not len(values):
        raise SgymError("values must hold at least one number, got none: run at least one seed")
    if not 0 < level < 1:
        raise SgymError(f"level must be above 0 and below 1, got {level}: 0.95 is usual")
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, float("nan"), float("nan"))
    half = student_t(level, len(values) - 1) * float(values.std(ddof=1)) / np.sqrt(len(values))
    return Interval(mean, float(mean - half), float(mean + half))


def paired_difference(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of `first` - `second`, paired by seed, and its confidence interval.

    Pairing removes what both runs of a seed share: in overload, most of the variance.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise SgymError(
            "paired values must come from the same seeds, "
            f"got shapes {first.shape} and {second.shape}"
        )
    return mean_interval(first - second, level)


def student_t(level: float, freedom: int) -> float:
    """The t that |T| stays below with probability `level`.

    With T = sqrt(freedom) * tan(x) the density of x is proportional to cos(x) ** (freedom - 1).
    """
    reach = min(np.pi / 2, 20.0 / np.sqrt(freedom))  # beyond it the density is below 1e-80
    angle = np.linspace(0.0, reach, STEPS + 1)
    density = np.maximum(np.cos(angle), 0.0) ** (freedom - 1)
    below = np.append(0.0, np.cumsum(density[1:] + density[:-1]))
    return float(np.sqrt(freedom) * np.tan(np.interp(level, below / below[-1], angle)))
