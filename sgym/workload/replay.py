"""A trace as arrays that are ready to be replayed: window, rate, ties."""

import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from sgym.config import Workload
from sgym.errors import TraceError
from sgym.workload.fetch import resolve_trace
from sgym.workload.prefixes import Prefixes
from sgym.workload.streams import Purpose, stream
from sgym.workload.trace import read_trace


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """Columns of a trace after filtering; rows sorted by time."""

    time: np.ndarray  # float64 (n,), trace seconds from the first row of the file; NaN if untimed
    spread: np.ndarray  # float64 (n,), trace seconds over which a row's stamp may be spread
    prompt: np.ndarray  # int64 (n,), tokens
    output: np.ndarray  # int64 (n,), tokens
    priority: np.ndarray | None
    tenant: np.ndarray | None  # int64 (n,)
    user_class: np.ndarray | None  # str (n,)
    prefixes: Prefixes | None  # of the rows; all windows use the same array of hashes
    length: float  # trace seconds, the mean gap (or time step) after the last row included
    step: float  # trace seconds, the largest spread
    timed: bool

    def window(
        self, workload: Workload, duration: float, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of one episode and when they come.

        Returns:
            times in seconds of the episode, float64 (n,), sorted, in [0, duration), and the rows.
        """
        begin, end = workload.window or (0.0, self.length)
        end = min(end, self.length)
        first, last = np.searchsorted(self.time, (begin, end))
        if first == last:
            raise TraceError(
                f"workload.window {list(workload.window or (begin, end))} holds no row of the "
                f"trace, which lasts {self.length:.6g} s"
            )
        factor = workload.rate_scale
        if workload.rate is not None:
            factor = workload.rate * (end - begin) / float(last - first)
        needed = duration * factor  # trace seconds that the episode takes
        if needed > end - begin and factor > 1.0 and workload.num_requests is None:
            warnings.warn(
                f"trace {workload.trace} is sped up {factor:.3g} times and ends after "
                f"{(end - begin) / factor:.4g} s of {duration:.4g} s: no requests come after that",
                stacklevel=2,
            )
        if workload.random_window and needed < end - begin:
            begin += stream(seed, Purpose.WINDOW).random() * (end - begin - needed)
        end = min(end, begin + needed)
        first, last = np.searchsorted(self.time, (begin - self.step, end))
        rows = np.arange(first, last)
        jitter = stream(seed, Purpose.JITTER).random(len(rows))
        times = np.sort(self.time[rows] + self.spread[rows] * jitter)  # rows keep their order
        inside = (times >= begin) & (times < end)
        times, rows = (times[inside] - begin) / factor, rows[inside]
        return times[: workload.num_requests], rows[: workload.num_requests]

    def resample(self, count: int, seed: int, shuffle: bool) -> np.ndarray:
        """Rows of a trace without time stamps: drawn with replacement, or in order and repeated."""
        if shuffle:
            uniforms = stream(seed, Purpose.LENGTHS).random(count)
            return (uniforms * len(self.prompt)).astype(np.int64)
        return np.arange(count) % len(self.prompt)


def load_replay(workload: Workload) -> Replay:
    """The trace of a workload; parsed once per process and content of the file."""
    path = resolve_trace(workload.trace or "")
    status = path.stat()
    return _load(
        str(path.resolve()),
        (status.st_mtime_ns, status.st_size),
        workload.format,
        workload.time_unit,
        workload.zero_output,
        workload.tie_jitter,
        workload.max_prompt,
        workload.hash_block,
    )


@lru_cache(maxsize=8)
def _load(
    path: str,
    _version: tuple[int, int],
    kind: str,
    time_unit: str,
    zero_output: str,
    tie_jitter: str,
    max_prompt: int | None,
    hash_block: int | None,
) -> Replay:
    trace = read_trace(
        path, kind, time_unit=time_unit, zero_output=zero_output, hash_block=hash_block
    )
    table: Any = trace.table
    prefixes = trace.prefixes
    if max_prompt is not None:
        short = (table["prompt"] <= max_prompt).to_numpy()
        table = table[short]
        if prefixes is not None:
            prefixes = replace(prefixes, first=prefixes.first[short], count=prefixes.count[short])
        if table.empty:
            raise TraceError(
                f"{path}: no row has a prompt of at most max_prompt={max_prompt} tokens"
            )
    time = table["arrival"].to_numpy(np.float64)
    step = trace.step if _spread_ties(time, tie_jitter) else 0.0

    def column(name: str, dtype: type) -> np.ndarray | None:
        return table[name].to_numpy(dtype) if name in table else None

    return Replay(
        time=time,
        spread=_spread(time, step),
        prompt=table["prompt"].to_numpy(np.int64),
        output=table["output"].to_numpy(np.int64),
        priority=column("priority", np.int64),
        tenant=column("tenant", np.int64),
        user_class=column("user_class", np.str_),
        prefixes=prefixes,
        length=_length(time, step),
        step=step,
        timed=not np.isnan(time[0]),
    )


def _spread_ties(time: np.ndarray, tie_jitter: str) -> bool:
    """`auto` spreads when at least 1 % of the gaps are 0: stamps that were rounded or batched."""
    if tie_jitter == "none" or len(time) < 2:
        return False
    ties = float(np.mean(np.diff(time) == 0.0))
    return ties >= 0.01 if tie_jitter == "auto" else ties > 0.0


def _spread(time: np.ndarray, step: float) -> np.ndarray:
    """Seconds until the next other stamp, at most `step`: spread rows keep their order."""
    if step == 0.0:
        return np.zeros(len(time))
    stamps, inverse = np.unique(time, return_inverse=True)
    return np.minimum(np.append(np.diff(stamps), step), step)[inverse]


def _length(time: np.ndarray, step: float) -> float:
    """Trace seconds that the rows stand for."""
    span = float(time[-1] - time[0])
    if step > 0.0:
        return float(time[-1]) + step
    mean_gap = span / (len(time) - 1) if len(time) > 1 else 0.0
    return float(time[-1]) + (mean_gap or 1.0)
