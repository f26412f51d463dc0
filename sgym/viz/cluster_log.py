"""What a run logged, arranged for drawing a span of it instance by instance."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sgym.core.layout import MIXED, NONE, REJECTED, WAITING, Move, Role, State, Transfer
from sgym.errors import SgymError

if TYPE_CHECKING:
    from sgym.simulator import Result

LOGS = ("iterations", "batches", "moves")
"""What `simulate(..., log=LOGS)` has to log for a timeline."""

GAP = 1e-9  # seconds; iterations closer than that follow each other
TRAVEL = (int(Move.HANDOFF), int(Move.MIGRATION))
"""Moves of KV from one instance to another that succeeded."""


class Pending(NamedTuple):
    """A hand-off that was decided, and not done when the run ended."""

    request: int
    source: int
    target: int
    tokens: int  # KV entries
    start: float  # seconds; when its transfer began, infinite if it had not


ARRIVED = np.dtype([("time", np.float64), ("instance", np.int32)])  # seconds


@dataclass(frozen=True)
class ClusterLog:
    """A whole run, and the span of it that is to be seen; times are seconds.

    Attributes:
        names: of the instances, with role and GPU.
        num_blocks: KV blocks of each instance.
        block_size: tokens of a block, of each instance.
        start: of the span.
        end: of the span.
        iterations: ITERATION, in the order in which they were formed.
        members: BATCHED, the requests of the iterations, without victims.
        moves: MOVE, by start.
        arrivals: ARRIVED, by time.
        pending: KV that still lay elsewhere when the run ended.
    """

    names: tuple[str, ...]
    num_blocks: np.ndarray
    block_size: np.ndarray
    start: float
    end: float
    iterations: np.ndarray
    members: np.ndarray
    moves: np.ndarray
    arrivals: np.ndarray
    pending: tuple[Pending, ...] = ()

    @cached_property
    def _bounds(self) -> np.ndarray:
        """Where the members of each iteration begin, and where those of the last one end."""
        return np.searchsorted(self.members["iteration"], np.arange(len(self.iterations) + 1))

    @cached_property
    def _by_request(self) -> tuple[np.ndarray, np.ndarray]:
        """Requests in ascending order, and the members that they are."""
        members = self.members[np.argsort(self.members["request"], kind="stable")]
        return members["request"].astype(np.int64), members  # not cast in each search

    def _members_of(self, request: int) -> np.ndarray:
        """BATCHED of a request, in order."""
        requests, members = self._by_request
        first, last = np.searchsorted(requests, (request, request + 1))
        return members[first:last]

    def requests_in(self, row: int) -> np.ndarray:
        """Indexes of the requests of an iteration, in budget order."""
        return self.members["request"][self._bounds[row] : self._bounds[row + 1]]

    def _batches_of(self, request: int, instance: int) -> np.ndarray:
        """Rows of `iterations` of a request on an instance, in order."""
        found = self._members_of(request)["iteration"]
        return found[self.iterations["instance"][found] == instance]

    def batch_before(self, request: int, instance: int, time: float) -> int:
        """The last iteration of a request on an instance that began by then, or NONE."""
        rows = self._batches_of(request, instance)
        rows = rows[self.iterations["start"][rows] <= time]
        return int(rows[-1]) if rows.size else NONE

    def batch_after(self, request: int, instance: int, time: float) -> int:
        """The first iteration of a request on an instance that begins then or later, or NONE."""
        rows = self._batches_of(request, instance)
        rows = rows[self.iterations["start"][rows] >= time - GAP]
        return int(rows[0]) if rows.size else NONE

    def rows_of(self, instance: int) -> np.ndarray:
        """Rows of `iterations` that an instance computed, by start."""
        rows = np.flatnonzero(self.iterations["instance"] == instance)
        return rows[np.argsort(self.iterations["start"][rows], kind="stable")]

    def seen_rows_of(self, instance: int) -> np.ndarray:
        """Those of them that overlap the span."""
        rows = self.rows_of(instance)
        found = self.iterations[rows]
        return rows[self._overlaps(found["start"], found["start"] + found["duration"])]

    @cached_property
    def seen_moves(self) -> np.ndarray:
        """MOVE (n,) that overlap the span, by start."""
        return self.moves[self._overlaps(self.moves["start"], self.moves["end"])]

    def _overlaps(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        return (starts < self.end) & (np.maximum(ends, starts + GAP) > self.start)

    def kv_before(self, request: int, time: float) -> tuple[int, int]:
        """Row of the last iteration of a request that began by then, or NONE; KV entries after."""
        members = self._members_of(request)
        starts = self.iterations["start"][members["iteration"]]
        count = int(np.searchsorted(starts, time, "right"))
        if count == 0:
            return NONE, 0
        member = members[count - 1]
        return int(member["iteration"]), int(member["computed"]) + int(member["tokens"])

    def left(self, request: int, instance: int, time: float) -> float:
        """When the last batch of a request on an instance, begun by a time, was done."""
        row = self.batch_before(request, instance, time)
        if row == NONE:
            return time
        entry = self.iterations[row]
        return min(time, float(entry["start"] + entry["duration"]))


def lanes(starts: np.ndarray, ends: np.ndarray) -> list[int]:
    """For spans sorted by start, the first of as few lanes as possible that is free."""
    busy_until: list[float] = []
    chosen: list[int] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        free = [lane for lane, until in enumerate(busy_until) if until <= start]
        lane = free[0] if free else len(busy_until)
        if lane == len(busy_until):
            busy_until.append(end)
        busy_until[lane] = end
        chosen.append(lane)
    return chosen


def binned(
    starts: np.ndarray, ends: np.ndarray, shares: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Spans that do not overlap, gathered into columns of equal width.

    Args:
        starts: of the spans.
        ends: of the spans.
        shares: a value of each span.
        edges: of the columns.

    Returns:
        Starts and ends of the columns in use, the share of each that is, and the mean value then.
    """
    low, width, bins = edges[0], edges[1] - edges[0], len(edges) - 1
    busy, prefill = np.zeros(bins), np.zeros(bins)
    first = np.clip(((starts - low) / width).astype(int), 0, bins - 1)
    last = np.clip(((ends - low) / width).astype(int), 0, bins - 1)
    for step in range(int((last - first).max(initial=0)) + 1):
        column = np.minimum(first + step, last)
        part = np.minimum(ends, edges[column + 1]) - np.maximum(starts, edges[column])
        part = np.where(first + step <= last, np.maximum(part, 0.0), 0.0)
        np.add.at(busy, column, part)
        np.add.at(prefill, column, part * shares)
    used = busy > 0
    share = prefill[used] / busy[used]
    return edges[:-1][used], edges[1:][used], np.minimum(busy[used] / width, 1.0), share


def cluster_log(
    result: "Result", start: float | None = None, end: float | None = None
) -> ClusterLog:
    """A run, to be seen between two times; None = where its window begins and ends.

    Args:
        result: of `simulate(..., log=LOGS)`.
        start: seconds.
        end: seconds.

    Raises:
        SgymError: something was not logged, or the span is empty.
    """
    state, count = result.state, result.state.cluster[0]
    for name in LOGS:
        if not getattr(state, name).size:
            raise SgymError(f"a timeline needs the log of {name}: simulate(..., log={LOGS})")
    low = result.window[0] if start is None else start
    high = result.window[1] if end is None else end
    if not low < high:
        raise SgymError(f"a timeline must end after it starts, got {low:g} to {high:g} s")
    iterations = state.iterations[: int(count["num_iterations_logged"])]
    moves = state.moves[: int(count["num_moves_logged"])]
    batches = state.batches[: int(count["num_batches_logged"])]
    members = batches[batches["tokens"] > 0]
    return ClusterLog(
        names=instance_names(result),
        num_blocks=state.engines["num_blocks"],
        block_size=state.engines["block_size"],
        start=low,
        end=high,
        iterations=iterations,
        members=members,
        moves=moves[np.argsort(moves["start"], kind="stable")],
        arrivals=_arrivals(state.requests, iterations, members),
        pending=_pending(state),
    )


def _pending(state: State) -> tuple[Pending, ...]:
    requests = state.requests
    waiting = np.flatnonzero((requests["other"] >= 0) & (requests["phase"] == WAITING))
    found = [
        (int(r), int(requests["other"][r]), int(requests["instance"][r]), np.inf) for r in waiting
    ]
    transfers = state.transfers[: int(state.cluster[0]["num_transfers"])]
    for entry in transfers[transfers["kind"] == int(Transfer.HANDOFF)]:
        places = int(entry["request"]), int(entry["source"]), int(entry["target"])
        found.append((*places, float(entry["start"])))
    return tuple(
        Pending(r, source, target, int(requests["computed"][r]), start)
        for r, source, target, start in found
    )


def _arrivals(requests: np.ndarray, iterations: np.ndarray, members: np.ndarray) -> np.ndarray:
    """ARRIVED: at the instance that first ran a request, or in whose queue it still is or was."""
    where = np.where(np.isin(requests["phase"], (WAITING, REJECTED)), requests["instance"], NONE)
    ran, first = np.unique(members["request"], return_index=True)
    where[ran] = iterations["instance"][members["iteration"][first]]
    found = np.zeros(int((where != NONE).sum()), ARRIVED)
    found["time"], found["instance"] = requests["arrival"][where != NONE], where[where != NONE]
    return found


def instance_names(result: "Result") -> tuple[str, ...]:
    """Such as `instance 0 (prefill, H100-80GB)`; a linear latency model has no GPU."""
    scenario, names = result.scenario, list[str]()
    for pool in scenario.cluster.groups:
        tp = pool.tp or scenario.cluster.tp
        gpu = f"{tp} x " * (tp > 1) + (pool.gpu or scenario.cluster.gpu)
        if scenario.latency.linear is not None and pool.profile is None:
            gpu = ""
        role = "" if Role[pool.role.upper()] == MIXED else pool.role
        about = ", ".join(part for part in (role, gpu) if part)
        for _ in range(pool.instances):
            names.append(f"instance {len(names)}" + (f" ({about})" if about else ""))
    return tuple(names)
