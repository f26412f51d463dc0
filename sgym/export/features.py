"""What a policy sees of requests, from an EngineView: whole columns at a time.

The numbers are those of `sgym.envs.observe`, scaled as the table in the bundle says; which feature
is what stands in `sgym.envs.features`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sgym.export.view import REQUEST_ROW, EngineView

Columns = dict[str, np.ndarray]


class Scaling:
    """How raw numbers become what is seen: x / (squash * |x| + scale), then clipped.

    Args:
        rows: features in order, each with `scale`, `squash`, `low`, `high`.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        table = [[float(row[key]) for row in rows] for key in ("squash", "scale", "low", "high")]
        self._table = np.array(table, np.float64).reshape(4, len(rows), 1)

    def __call__(self, raw: np.ndarray, work: np.ndarray) -> np.ndarray:
        """Scale raw numbers, float64 (number of features, n), in place; `work` is as large."""
        squash, scale, low, high = self._table
        np.abs(raw, out=work)
        work *= squash
        work += scale
        raw /= work
        np.maximum(raw, low, out=raw)
        return np.minimum(raw, high, out=raw)


class RequestFeatures:
    """Features of requests, a column for each.

    Args:
        rows: of the bundle's observation.requests.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        names = [str(row["name"]) for row in rows]
        self.width = len(names)
        self._scaling = Scaling(rows)
        same = [name for name in names if name in COPIED]
        self._same = np.array([names.index(name) for name in same], np.intp)
        self._fields = np.array([REQUEST_ROW.names.index(name) for name in same], np.intp)  # type: ignore[union-attr]
        self._others = [(k, REQUESTS[name]) for k, name in enumerate(names) if name not in COPIED]
        self._raw = self._work = np.zeros((self.width, 0))

    def __call__(self, matrix: np.ndarray, num_running: int, view: EngineView) -> np.ndarray:
        """Float64 (number of features, n); valid until the next call.

        Args:
            matrix: rows as `matrix_of` has them, (n, fields), the first `num_running` run.
            num_running: of these rows.
            view: whose clock and memory measure them.
        """
        count = len(matrix)
        if count > self._raw.shape[1]:
            self._raw, self._work = np.zeros((2, self.width, 2 * count + 16))
        raw = self._raw[:, :count]
        fields = np.ascontiguousarray(matrix.T)
        raw[self._same] = fields[self._fields]
        columns = dict(zip(REQUEST_ROW.names or (), fields, strict=True))
        columns["known"] = columns["prompt"] + columns["generated"]
        for k, fill in self._others:
            fill(raw[k], columns, num_running, view)
        return self._scaling(raw, self._work[:, :count])


COPIED = ("prompt", "generated", "preemptions", "token_time", "alpha", "weight", "priority")
"""Features that are fields of a row."""


def _present(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    out.fill(1.0)


def _running(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    out[:running] = 1.0
    out[running:] = 0.0


def _prefilling(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    out[:running] = c["prefilling"][:running]
    out[running:] = 0.0


def _slack(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    np.maximum(c["lateness"], 0.0, out=out)
    out += c["due"]
    out -= view.now


def _lateness(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    np.maximum(c["lateness"], -1e6, out=out)  # far below any before the first token


def _waited(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    np.subtract(view.now, c["arrival"], out=out)


def _known(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    out[:] = c["known"]


def _to_prefill(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    np.subtract(c["known"], c["computed"], out=out)


def _computed(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    np.divide(c["computed"], c["known"], out=out)


def _blocks(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    np.divide(c["blocks"], float(view.limits.num_blocks), out=out)


def _needs(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    np.divide(c["known"], float(view.limits.block_size), out=out)
    np.ceil(out, out=out)
    out /= float(view.limits.num_blocks)


def _predicted(out: np.ndarray, c: Columns, running: int, view: EngineView) -> None:  # noqa: ARG001
    np.subtract(c["predicted"], c["generated"], out=out)
    np.fmax(out, 0.0, out=out)  # no prediction is NaN, and becomes 0


Filler = Callable[[np.ndarray, Columns, int, EngineView], None]
REQUESTS: dict[str, Filler] = {
    "present": _present,
    "running": _running,
    "prefilling": _prefilling,
    "slack": _slack,
    "lateness": _lateness,
    "waited": _waited,
    "known": _known,
    "to_prefill": _to_prefill,
    "computed": _computed,
    "blocks": _blocks,
    "needs": _needs,
    "predicted": _predicted,
}
"""Features of a request that are computed: each writes its column."""
