"""Attention of one layer: prefill after a prefix, and decode, from whole prompts and steps.

Notation: a pair is one query token and one key it attends to. Times are seconds of one call on one
GPU. Tables are measured with every KV entry in the L2 cache if it fits there, but a layer of a
real model finds its KV in device memory; `decode_surface` therefore never goes below the streaming
time.
"""

import numpy as np
import pandas as pd

from sgym.core.layout import GRID
from sgym.errors import ProfileError

PREFIXES = np.array([0, *(2.0**power for power in range(7, 18))])  # 0, 128 .. 131072
CHUNK_MAX = 16384


def select(table: pd.DataFrame, heads: int, kv_heads: int, head_dim: int) -> pd.DataFrame:
    """Rows of one head layout; empty if it was not measured."""
    own = (
        (table["num_heads"] == heads)
        & (table["num_key_value_heads"] == kv_heads)
        & (table["head_dim"] == head_dim)
    )
    return table.loc[own]


def prefill_surface(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds of the attention of one prompt chunk after a prefix.

    Where chunks after prefixes were measured, that is the surface. The public tables have only
    whole prompts, T(length). There, a chunk c after a prefix p costs the larger of
    T(c) + pairs c*p at the cost of a pair in long prompts (which is T(p + c) - T(p) for a
    quadratic T), and the time in which one tile of queries walks over p + c keys (short chunks
    leave most of the GPU idle; the walk is measured where a prompt fits in one wave of tiles).

    Args:
        rows: one head layout with columns batch_size, isl, step (tokens), latency (ms).

    Returns:
        chunks (tokens), prefixes (tokens), seconds of shape (chunks, prefixes).
    """
    single = rows.loc[(rows["batch_size"] == 1) & (rows["isl"] <= CHUNK_MAX)].sort_values("isl")
    if np.any(np.asarray(single["step"]) > 0):
        return _measured(single)
    length = np.asarray(single["isl"], float)
    time = np.maximum.accumulate(np.asarray(single["latency"], float)) * 1e-3
    if len(length) < 3:
        raise ProfileError("prefill attention needs at least three prompt lengths at batch size 1")
    pair, walk = _pair_seconds(length, time), _walk_seconds(length, time)
    length, time = _with_midpoints(length, time)
    chunk, prefix = length[:, None], PREFIXES[None, :]
    dense = time[:, None] + pair * chunk * prefix
    return length, PREFIXES, np.maximum(dense, time[0] + walk * (chunk + prefix))


def _measured(single: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    wide = single.pivot(index="isl", columns="step", values="latency").dropna()
    if min(wide.shape) < 2:
        raise ProfileError(
            "prefill attention after prefixes needs two chunk lengths, both measured at the same "
            "two prefixes"
        )
    seconds = np.maximum.accumulate(np.maximum.accumulate(np.asarray(wide) * 1e-3, 0), 1)
    slope = np.maximum.accumulate(seconds[-1] - seconds[-2])  # longer chunks follow this slope
    seconds[-1] = seconds[-2] + slope
    return np.asarray(wide.index, float), np.asarray(wide.columns, float), seconds


def _with_midpoints(length: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve with points between the longer lengths, where time per token is linear."""
    room = GRID - len(length)
    middle = ((length[1:] + length[:-1]) / 2)[-room:] if room > 0 else length[:0]
    middle = middle[middle > 128]
    at = np.sort(np.concatenate([length, middle]))
    return at, np.interp(at, length, time / length) * at


def _pair_seconds(length: np.ndarray, time: np.ndarray) -> float:
    """Seconds per pair in the longest prompts, which have length**2 / 2 pairs."""
    long = np.searchsorted(length, length[-1] / 4)
    pairs = length**2 / 2
    return float((time[-1] - time[long]) / (pairs[-1] - pairs[long]))


def _walk_seconds(length: np.ndarray, time: np.ndarray) -> float:
    """Seconds per key for one tile of queries: the rise from 128 to 256 tokens, one wave."""
    if length[0] > 128 or length[-1] < 256:
        return 0.0
    short, long = np.interp((128.0, 256.0), length, time)
    return float(long - short) / 128


def decode_surface(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds of the attention of one decode step.

    Points beyond the measured batch * context continue at the cost of streaming KV from memory,
    which the largest measured points give. No point is below that cost (see the module's text),
    and times do not fall with batch or context.

    Args:
        rows: one head layout with columns batch_size, step (context - 1), latency (ms).

    Returns:
        batches, contexts (KV entries per sequence), seconds of shape (batches, contexts).
    """
    batches = np.unique(np.asarray(rows["batch_size"], float))
    contexts = np.unique(np.asarray(rows["step"], float)) + 1
    if len(batches) < 2 or len(contexts) < 2:
        raise ProfileError("decode attention needs at least two batch sizes and two contexts")
    seconds = np.full((len(batches), len(contexts)), np.nan)
    index = (
        np.searchsorted(batches, rows["batch_size"]),
        np.searchsorted(contexts, rows["step"] + 1),
    )
    seconds[index] = np.asarray(rows["latency"]) * 1e-3
    entry = stream_seconds(batches, contexts, seconds)
    total = batches[:, None] * contexts[None, :]
    seconds = np.maximum(seconds, np.nanmin(seconds) + entry * total)  # unmeasured stays NaN
    for row in range(len(batches)):
        _continue(seconds[row], total[row], entry)
    seconds = np.maximum.accumulate(np.maximum.accumulate(seconds, 0), 1)
    slope = np.maximum.accumulate(seconds[-1] - seconds[-2])  # larger batches follow this slope
    seconds[-1] = seconds[-2] + slope
    return batches, contexts, seconds


def stream_seconds(batches: np.ndarray, contexts: np.ndarray, seconds: np.ndarray) -> float:
    """Seconds per KV entry read from memory: the slope over the largest measured totals."""
    total = batches[:, None] * contexts[None, :]
    long = np.isfinite(seconds) & (contexts[None, :] >= min(256.0, contexts[-1] / 2))
    edge = total[long].max()
    few, many = total == edge / 4, total == edge
    if not (few & long).any():
        return float(np.nanmedian(seconds[many & long]) / edge)
    rise = np.median(seconds[many & long]) - np.median(seconds[few & long])
    return float(max(rise, 0.0) / (edge - edge / 4))


def _continue(row: np.ndarray, total: np.ndarray, entry: float) -> None:
    """Fill the unmeasured points of one batch size in place, from the nearest measured one."""
    known = np.flatnonzero(np.isfinite(row))
    last = known[-1]
    row[: last + 1] = np.interp(total[: last + 1], total[known], row[known])
    row[last + 1 :] = row[last] + entry * (total[last + 1 :] - total[last])
