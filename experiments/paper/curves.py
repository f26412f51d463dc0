"""Findings (a) to (d): what curves over the request rate say, bootstrapped over seeds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

RESAMPLES = 2000
ALPHAS = (0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Curve:
    """Runs of one load under one engine.

    Attributes:
        rates: (R,), requests per second.
        tokens: (R, S), tokens/s, seeds in the columns.
        idle: (R, S), seconds of waiting per second, so that smooth goodput is tokens - alpha idle.
    """

    rates: np.ndarray
    tokens: np.ndarray
    idle: np.ndarray

    def smooth(self, alpha: float) -> np.ndarray:
        """Smooth goodput, (R, S)."""
        return self.tokens - alpha * self.idle


@dataclass(frozen=True, slots=True)
class Spread:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """Such as 18 (16 to 20)."""
        return f"{self.value:.{digits}g} ({self.low:.{digits}g} to {self.high:.{digits}g})"


def curves_of(rows: pd.DataFrame) -> dict[tuple[str, str, str], Curve]:
    """(model, load, engine) -> its curve."""
    found = {}
    for key, group in rows.groupby(["model", "load", "engine"], sort=False):
        tables = [
            group.pivot(index="rate", columns="seed", values=n) for n in ("throughput", "idle")
        ]
        rates = tables[0].index.to_numpy(float)
        found[key] = Curve(rates, tables[0].to_numpy(), tables[1].to_numpy())
    return found


def resampled(seeds: int) -> np.ndarray:
    """Which seeds each resample has, (RESAMPLES, S)."""
    return np.random.default_rng(0).integers(0, seeds, (RESAMPLES, seeds))


def peaks(values: np.ndarray, rates: np.ndarray) -> tuple[float, np.ndarray]:
    """The rate of the highest mean, and that of every resample."""
    picks = resampled(values.shape[1])
    means = values[:, picks].mean(axis=2)
    return float(rates[values.mean(axis=1).argmax()]), rates[means.argmax(axis=0)]


def spread(value: float, many: np.ndarray) -> Spread:
    """With the interval of the resamples."""
    low, high = np.percentile(many, [2.5, 97.5])
    return Spread(value, float(low), float(high))


def table_of(curves: dict[tuple[str, str, str], Curve]) -> pd.DataFrame:
    """A row per curve: its peaks, and what throughput does beyond them."""
    table = []
    for (model, load, engine), curve in curves.items():
        smooth = curve.smooth(2.5)
        at, many = peaks(smooth, curve.rates)
        row: dict[str, float | str | bool] = {"model": model, "load": load, "engine": engine}
        row |= {"seeds": smooth.shape[1], "peak_rate": at}
        row["peak_low"], row["peak_high"] = np.percentile(many, [2.5, 97.5])
        place = int(smooth.mean(axis=1).argmax())
        row["interior"] = bool(((many > curve.rates[0]) & (many < curve.rates[-1])).mean() >= 0.975)
        row["one_peak"] = has_one_peak(smooth)
        row["peak"] = float(smooth[place].mean())
        for alpha in ALPHAS:
            rate, spots = peaks(curve.smooth(alpha), curve.rates)
            row[f"peak_rate_{alpha:g}"] = rate
            row[f"peak_rate_{alpha:g}_low"], row[f"peak_rate_{alpha:g}_high"] = np.percentile(
                spots, [2.5, 97.5]
            )
        beyond = min(place + 3, len(curve.rates) - 1)
        for name, values in (("smooth", smooth), ("throughput", curve.tokens)):
            change = values[beyond] - values[place]
            means = change[resampled(len(change))].mean(axis=1) / values[place].mean()
            row[f"{name}_beyond"] = 100.0 * float(change.mean() / values[place].mean())
            low, high = np.percentile(100.0 * means, [2.5, 97.5])
            row[f"{name}_beyond_low"], row[f"{name}_beyond_high"] = low, high
        row["beyond_rate"] = float(curve.rates[beyond])
        table.append(row)
    return pd.DataFrame(table)


def has_one_peak(values: np.ndarray) -> bool:
    """Whether nothing rises after it fell, beyond what chance explains (paired over seeds)."""
    steps = np.diff(values, axis=0)
    means = steps[:, resampled(values.shape[1])].mean(axis=2)
    rises = np.percentile(means, 2.5, axis=1) > 0
    falls = np.percentile(means, 97.5, axis=1) < 0
    if not falls.any():
        return True
    return not rises[int(falls.argmax()) :].any()


def shift(first: Curve, second: Curve) -> Spread:
    """How much higher the peak of the first is, in requests/s; the seeds are the same."""
    one, many = peaks(first.smooth(2.5), first.rates)
    other, rest = peaks(second.smooth(2.5), second.rates)
    return spread(one - other, many - rest)


def gain_at_peak(first: Curve, second: Curve) -> Spread:
    """How much more smooth goodput the first has at its own peak, in percent of the second."""
    a, b = first.smooth(2.5), second.smooth(2.5)
    one, other = a[a.mean(axis=1).argmax()], b[b.mean(axis=1).argmax()]
    picks = resampled(len(one))
    many = 100.0 * (one[picks].mean(axis=1) / other[picks].mean(axis=1) - 1.0)
    return spread(100.0 * float(one.mean() / other.mean() - 1.0), many)
