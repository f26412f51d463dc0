"""Prompt and output lengths of public datasets as quantile tables with a rank correlation.

The tables are in `data/datasets.json`. To fit your own: `fit(read_trace("my.csv").table)` gives an
entry, `save_fit(path, entry)` writes it, and a scenario names that file as its `dataset`.
"""

import difflib
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgym.errors import ScenarioError, TraceError

if TYPE_CHECKING:
    import pandas as pd

DATA = Path(__file__).parent / "data" / "datasets.json"
PERCENTILES = (0.0, 0.1, 0.5, *(float(p) for p in range(1, 100)), 99.5, 99.9, 100.0)
NORMAL_RANGE = 8.0  # standard deviations covered by the table of the normal distribution


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Fitted lengths of one dataset."""

    name: str
    description: str
    source: str
    license: str | None
    n: int  # requests that were fitted
    spearman: float  # rank correlation of prompt and output
    prompt_mean: float  # tokens
    output_mean: float  # tokens
    levels: np.ndarray  # float64 (k,), 0 to 1
    prompt: np.ndarray  # float64 (k,), tokens at these levels
    output: np.ndarray  # float64 (k,), tokens

    @property
    def prompt_median(self) -> float:
        """Tokens."""
        return float(np.interp(0.5, self.levels, self.prompt))

    @property
    def output_median(self) -> float:
        """Tokens."""
        return float(np.interp(0.5, self.levels, self.output))

    def sample(self, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lengths from independent standard normals, through a Gaussian copula.

        Args:
            normals: float64 (n, 2).

        Returns:
            prompt and output, float64 (n,) each, whole tokens, at least 1.
        """
        rho = 2.0 * math.sin(math.pi / 6.0 * self.spearman)  # of a Gaussian with this Spearman
        second = rho * normals[:, 0] + math.sqrt(1.0 - rho * rho) * normals[:, 1]
        prompt = np.interp(_normal_cdf(normals[:, 0]), self.levels, self.prompt)
        output = np.interp(_normal_cdf(second), self.levels, self.output)
        return np.maximum(np.rint(prompt), 1.0), np.maximum(np.rint(output), 1.0)


def datasets() -> dict[str, Dataset]:
    """All shipped datasets by name."""
    return dict(_shipped())


def load_dataset(name: str) -> Dataset:
    """A shipped dataset by name, or the one in a JSON file that `save_fit` wrote."""
    known = _shipped()
    if name in known:
        return known[name]
    if name.endswith(".json") and Path(name).is_file():
        return _from_file(name, Path(name).stat().st_mtime_ns)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ScenarioError(
        f"no dataset {name!r}: neither a JSON file of sgym.workload.save_fit nor one of "
        f"{', '.join(known)}.{hint}"
    )


def fit(table: "pd.DataFrame", description: str = "", source: str = "") -> dict[str, Any]:
    """Fit the lengths of a table of requests.

    Args:
        table: columns prompt and output, in tokens.
        description: one line for lists.
        source: where the data come from.

    Returns:
        An entry as in `data/datasets.json`, with its own percentiles.
    """
    if len(table) < 2:
        raise TraceError(f"a fit needs at least 2 requests, got {len(table)}")
    lengths = table[["prompt", "output"]].to_numpy(np.float64)
    quantiles = np.percentile(lengths, PERCENTILES, axis=0)
    means = lengths.mean(axis=0)
    return {
        "version": 1,
        "description": description,
        "source": source,
        "license": None,
        "n": len(table),
        "spearman": round(_spearman(lengths), 4),
        "prompt_mean": round(float(means[0]), 1),
        "output_mean": round(float(means[1]), 1),
        "percentiles": list(PERCENTILES),
        "prompt": [round(float(value), 2) for value in quantiles[:, 0]],
        "output": [round(float(value), 2) for value in quantiles[:, 1]],
    }


def save_fit(path: str | Path, entry: Mapping[str, Any]) -> None:
    """Write a fit as JSON; the file is never seen half written."""
    target = Path(path)
    with tempfile.NamedTemporaryFile(
        "w", dir=target.parent, suffix=".part", delete=False, encoding="utf-8"
    ) as file:
        json.dump(dict(entry), file)
    Path(file.name).replace(target)


def _spearman(lengths: np.ndarray) -> float:
    """Rank correlation of two columns, equal values sharing a rank; 0 if one never varies."""
    if (lengths.max(axis=0) == lengths.min(axis=0)).any():
        return 0.0
    ranks = []
    for column in lengths.T:
        _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2.0)[inverse])
    return float(np.corrcoef(ranks)[0, 1])


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Dataset]:
    content = json.loads(DATA.read_text(encoding="utf-8"))
    levels = content["percentiles"]
    return {name: _dataset(name, entry, levels) for name, entry in content["datasets"].items()}


@lru_cache(maxsize=16)
def _from_file(path: str, _modified: int) -> Dataset:
    try:
        entry = json.loads(Path(path).read_text(encoding="utf-8"))
        return _dataset(Path(path).stem, entry, entry["percentiles"])
    except (ValueError, KeyError, TypeError) as error:
        raise ScenarioError(
            f"{path} is no fit of sgym.workload.save_fit: {type(error).__name__} {error}"
        ) from None


def _dataset(name: str, entry: Mapping[str, Any], percentiles: list[float]) -> Dataset:
    levels, prompt, output = (
        np.asarray(values, float) for values in (percentiles, entry["prompt"], entry["output"])
    )
    for label, values in (("percentiles", levels), ("prompt", prompt), ("output", output)):
        if len(values) != len(levels) or len(values) < 2 or not (np.diff(values) >= 0).all():
            raise ValueError(f"{label} must be {len(levels)} numbers that never fall")
    spearman = float(entry["spearman"])
    if not -1.0 <= spearman <= 1.0:
        raise ValueError(f"spearman must be between -1 and 1, got {spearman}")
    return Dataset(
        name=name,
        description=entry["description"],
        source=entry["source"],
        license=entry["license"],
        n=int(entry["n"]),
        spearman=spearman,
        prompt_mean=float(entry["prompt_mean"]),
        output_mean=float(entry["output_mean"]),
        levels=levels / 100.0,
        prompt=prompt,
        output=output,
    )


@lru_cache(maxsize=1)
def _normal_table() -> tuple[np.ndarray, np.ndarray]:
    points = np.linspace(-NORMAL_RANGE, NORMAL_RANGE, 4001)
    return points, np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in points])


def _normal_cdf(values: np.ndarray) -> np.ndarray:
    """Standard normal distribution function; interpolated, off by less than 1e-6."""
    return np.interp(values, *_normal_table())
