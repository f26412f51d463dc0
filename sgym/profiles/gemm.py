"""Time of a matrix product of any shape from a table of shapes, over the tokens of a batch."""

import numpy as np
import pandas as pd

from sgym.errors import ProfileError

NOISE = 1.2  # a larger batch that is faster by less than this shows noise: kernels repeat to 20 %
GRAPHS = (
    512  # up to so many tokens an engine replays CUDA graphs, padded to 1, 2, 4 or multiples of 8
)
SPIKE = 1.5  # a point above this multiple of both neighbours is an outlier, not a tile step


class GemmTable:
    """Measured times over (m, n, k); shapes between the measured ones are interpolated.

    Between measured n and k the time is bilinear: fixed cost plus a part per n, per k and per
    weight. Beyond the last measured n or k it grows in proportion, as a stream of weights does.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        table = table.loc[_is_run(np.asarray(table["m"]))]
        self.tokens = np.unique(np.asarray(table["m"]))
        self._n = np.unique(np.asarray(table["n"]))
        self._k = np.unique(np.asarray(table["k"]))
        shape = (len(self.tokens), len(self._n), len(self._k))
        self._seconds = np.full(shape, np.nan)
        index = (
            np.searchsorted(self.tokens, table["m"]),
            np.searchsorted(self._n, table["n"]),
            np.searchsorted(self._k, table["k"]),
        )
        self._seconds[index] = np.asarray(table["latency"]) * 1e-3

    def measured(self, n: int, k: int) -> bool:
        """Whether this very shape was measured."""
        return n in self._n and k in self._k and bool(self._known(n, k).any())

    def curve(self, n: int, k: int) -> np.ndarray:
        """Seconds of (m x k) @ (k x n) at every m of `tokens`; NaN where neighbours are missing."""
        below_n, above_n, share_n, scale_n = _bracket(self._n, n)
        below_k, above_k, share_k, scale_k = _bracket(self._k, k)
        total = np.zeros(len(self.tokens))
        for row, row_share in ((below_n, 1 - share_n), (above_n, share_n)):
            for column, column_share in ((below_k, 1 - share_k), (above_k, share_k)):
                if row_share * column_share > 0:
                    total += row_share * column_share * self._seconds[:, row, column]
        return total * scale_n * scale_k

    def _known(self, n: int, k: int) -> np.ndarray:
        row, column = np.searchsorted(self._n, n), np.searchsorted(self._k, k)
        return np.isfinite(self._seconds[:, row, column])


def _bracket(grid: np.ndarray, value: int) -> tuple[int, int, float, float]:
    """Neighbours of `value` on the grid, weight of the upper one, and a factor beyond the grid."""
    if value <= grid[0]:
        return 0, 0, 0.0, 1.0
    if value >= grid[-1]:
        return len(grid) - 1, len(grid) - 1, 0.0, value / grid[-1]
    above = int(np.searchsorted(grid, value))
    if grid[above] == value:
        return above, above, 0.0, 1.0
    below = above - 1
    return below, above, float((value - grid[below]) / (grid[above] - grid[below])), 1.0


def _is_run(tokens: np.ndarray) -> np.ndarray:
    """Which batch sizes an engine ever runs; the others may use kernels that it never meets."""
    return (tokens > GRAPHS) | (tokens % 8 == 0) | np.isin(tokens, (1, 2, 4))


def cleaned(at: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The curve without missing points, outliers and noise, and how many outliers there were.

    Single points far above both neighbours go. A point that the next larger batch undercuts by at
    most the noise comes down to it: noise only ever slows a kernel down, and an engine may pad.
    Steps up, and larger dips, stay: those are tiles and choices of kernels.

    Args:
        at: tokens, rising.
        seconds: shape of `at`; NaN where nothing was measured.
    """
    known = np.isfinite(seconds)
    at, seconds = at[known], seconds[known]
    if len(at) < 2:
        raise ProfileError("a curve needs at least two measured points; measure more token counts")
    keep = np.ones(len(at), bool)
    keep[1:-1] = seconds[1:-1] <= SPIKE * np.maximum(seconds[:-2], seconds[2:])
    seconds = seconds[keep]
    for i in range(len(seconds) - 2, -1, -1):
        if seconds[i + 1] < seconds[i] <= NOISE * seconds[i + 1]:
            seconds[i] = seconds[i + 1]
    return at[keep], seconds, int((~keep).sum())
