"""The tables of the findings: peaks over the rate, and effects, with their intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from effects import ALPHA
from settings import KEPT

from agents.statistics import bootstrap_ratio
from sgym.metrics import mean_interval, paired_difference

GROUP = ["horizon", "model", "workload", "engine"]
ALPHAS = (0.5, 1.0, 2.5, 5.0, 10.0)
FEW, MANY = 1.0, 10.0  # the two alphas that are compared
REFERENCE = "prefill-first"
DRAWS = 4000

Row = dict[str, Any]


def matrix(runs: pd.DataFrame, column: str) -> np.ndarray:
    """Values of one engine, (seeds, rates)."""
    return runs.pivot(index="seed", columns="rate", values=column).to_numpy()


def smooth_goodput(runs: pd.DataFrame, alpha: float) -> np.ndarray:
    """The same runs under another alpha, (seeds, rates): the scheduler does not know it."""
    tokens, measured = matrix(runs, "throughput_tok_s"), matrix(runs, "smooth_goodput")
    return tokens - (tokens - measured) * alpha / ALPHA


def rates_of(runs: pd.DataFrame) -> np.ndarray:
    """Ascending, requests per second."""
    return np.array(sorted(set(runs["rate"])))


def peak_rates(values: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Where curves (..., rates) are highest: the vertex of a parabola through three points."""
    at = values.argmax(axis=-1)
    inner = np.clip(at, 1, len(rates) - 2)
    low, middle, high = (
        np.take_along_axis(values, (inner + step)[..., None], -1)[..., 0] for step in (-1, 0, 1)
    )
    bend = low - 2 * middle + high
    shift = np.where(bend < 0, 0.5 * (low - high) / np.where(bend < 0, bend, 1.0), 0.0)
    step = rates[1] - rates[0]
    return np.where(at == inner, rates[inner] + np.clip(shift, -0.5, 0.5) * step, rates[at])


def peak_draws(values: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Peak rates of values (seeds, rates) and, after it, of their resampled seeds, (1 + DRAWS,).

    The seeds drawn are the same at each call, so that two engines are compared in pairs.
    """
    seeds = len(values)
    drawn = np.random.default_rng(0).integers(seeds, size=(DRAWS, seeds))
    means = np.concatenate([values.mean(axis=0)[None], values[drawn].mean(axis=1)])
    return peak_rates(means, rates)


def held_out_peak(values: np.ndarray) -> np.ndarray:
    """What each seed earns at the rate that the other seeds find best, (seeds,)."""
    others = (values.sum(axis=0) - values) / (len(values) - 1)
    return values[np.arange(len(values)), others.argmax(axis=1)]


def wrong_steps(values: np.ndarray) -> int:
    """Steps between neighbouring rates that go down before the peak or up after it.

    Counted if the interval of the paired difference excludes 0, at 95 % for all steps together.
    """
    peak, count = int(values.mean(axis=0).argmax()), 0
    steps = values.shape[1] - 1
    for k in range(steps):
        found = paired_difference(values[:, k + 1], values[:, k], 1 - 0.05 / steps)
        count += found.high < 0 if k < peak else found.low > 0
    return int(count)


def put(row: Row, name: str, found: Sequence[float]) -> None:
    """Write a value and its interval into a row."""
    row[name], row[f"{name}_low"], row[f"{name}_high"] = (float(value) for value in found)


def of_draws(draws: np.ndarray) -> tuple[float, float, float]:
    """The first value, with the percentiles of the others."""
    low, high = np.percentile(draws[1:], (2.5, 97.5))
    return draws[0], low, high


def percent(top: np.ndarray, bottom: np.ndarray) -> list[float]:
    """How much higher one mean over the same seeds is, with its interval."""
    ratio = bootstrap_ratio(top, bottom)
    return [100 * (value - 1) for value in ratio]


def curve_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per engine, workload and rate: means over seeds with 95 % intervals."""
    table = []
    for key, runs in rows.groupby([*GROUP, "rate"], sort=False):
        row: Row = dict(zip([*GROUP, "rate"], key, strict=True)) | {"seeds": len(runs)}
        for name in KEPT:
            put(row, name, mean_interval(runs[name]))
        table.append(row)
    return pd.DataFrame(table)


def peak_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per engine and workload: findings (a) and (d)."""
    table = []
    for key, runs in rows.groupby(GROUP, sort=False):
        values, tokens = smooth_goodput(runs, ALPHA), matrix(runs, "throughput_tok_s")
        rates, at = rates_of(runs), int(values.mean(axis=0).argmax())
        row: Row = dict(zip(GROUP, key, strict=True)) | {"seeds": len(values)}
        put(row, "peak_rate", of_draws(peak_draws(values, rates)))
        best = held_out_peak(values)
        put(row, "peak", mean_interval(best))
        put(row, "rise", paired_difference(best, values[:, 0]))
        put(row, "fall", paired_difference(best, values[:, -1]))
        row["interior"] = 0 < at < len(rates) - 1
        row["wrong_steps"] = wrong_steps(values)
        put(row, "smooth_beyond", percent(values[:, -1], values[:, at]))
        put(row, "tokens_beyond", percent(tokens[:, -1], tokens[:, at]))
        row["tokens_rate"] = rates[int(tokens.mean(axis=0).argmax())]
        row["highest_rate"] = rates[-1]
        row["refused"] = runs["num_refused"].max()
        table.append(row)
    return pd.DataFrame(table)


def alpha_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per engine, workload and alpha: finding (b)."""
    table = []
    for key, runs in rows.groupby(GROUP, sort=False):
        rates = rates_of(runs)
        draws = {alpha: peak_draws(smooth_goodput(runs, alpha), rates) for alpha in ALPHAS}
        for alpha in ALPHAS:
            row: Row = dict(zip(GROUP, key, strict=True)) | {"alpha": alpha}
            put(row, "peak_rate", of_draws(draws[alpha]))
            put(row, "shift", of_draws(100 * (draws[alpha] / draws[FEW] - 1)))
            table.append(row)
    return pd.DataFrame(table)


def chunk_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per workload and engine with chunks: its peak against that without, finding (c)."""
    table = []
    for key, group in rows.groupby(GROUP[:-1], sort=False):
        rates = rates_of(group)
        values = {
            str(name): smooth_goodput(runs, ALPHA)
            for name, runs in group.groupby("engine", sort=False)
        }
        base = values.pop(REFERENCE)
        for engine, own in values.items():
            row: Row = dict(zip(GROUP[:-1], key, strict=True)) | {"engine": engine}
            moved = peak_draws(own, rates) / peak_draws(base, rates)
            put(row, "shift", of_draws(100 * (moved - 1)))
            put(row, "gain", percent(held_out_peak(own), held_out_peak(base)))
            table.append(row)
    return pd.DataFrame(table)


def effect_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per engine, workload and load: means, and paired differences; findings (e) and (f)."""
    labels = ["model", "workload", "engine", "load"]
    table = []
    for key, runs in rows.groupby(labels, sort=False):
        row: Row = dict(zip(labels, key, strict=True)) | {"seeds": len(runs)}
        for column in runs.columns.difference([*labels, "rate", "seed"], sort=False):
            name = str(column)
            if "_best" in name:  # of all requests of all runs
                row[name] = runs[column].max()
                continue
            put(row, name, mean_interval(runs[column]))
            for start in ("delayed_", "system_"):
                if name.startswith(start):
                    before = runs[name.removeprefix(start)]
                    put(row, f"{name} gain", paired_difference(runs[column], before))
        table.append(row)
    return pd.DataFrame(table)
