"""Differences paired by seed, with bootstrap intervals."""

from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000


class Estimate(NamedTuple):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0.0 or self.high < 0.0

    def text(self, digits: int = 1, sign: bool = True) -> str:
        """Such as +12.3 (+8.0 to +16.1)*; the star says that zero is excluded."""
        form = f"{{:{'+' if sign else ''}.{digits}f}}"
        numbers = form.format(self.value), form.format(self.low), form.format(self.high)
        star = "*" if self.is_clear and sign else ""
        return f"{numbers[0]} ({numbers[1]} to {numbers[2]}){star}"


def bootstrap_ratio(top: np.ndarray, bottom: np.ndarray, seed: int = 0) -> Estimate:
    """mean(top) / mean(bottom), seeds drawn again with replacement, pairs kept together."""
    picked = np.random.default_rng(seed).integers(0, len(top), (RESAMPLES, len(top)))
    ratios = top[picked].mean(axis=1) / bottom[picked].mean(axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Estimate(float(top.mean() / bottom.mean()), float(low), float(high))


def bootstrap_mean(values: np.ndarray, seed: int = 0) -> Estimate:
    """Mean of paired differences."""
    return bootstrap_ratio(values, np.ones(len(values)), seed)
