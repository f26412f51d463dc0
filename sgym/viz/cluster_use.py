"""The memory and the queues of an instance over time.

An iteration's row tells of the moment at which its batch was formed. In the gaps between
iterations nothing runs, memory holds the KV of hand-offs and migrations alone, and the queue
changes by arrivals and transfers: there, `use_of` deduces both. What it cannot know is what becomes
of a request that is rejected or migrated while it waits with its KV elsewhere.
"""

from typing import NamedTuple

import numpy as np

from sgym.core.layout import NONE, Move
from sgym.viz.cluster_log import GAP, TRAVEL, ClusterLog


class Use(NamedTuple):
    """An instance over time; values hold from their time to the next."""

    time: np.ndarray  # seconds
    used: np.ndarray  # KV blocks
    held: np.ndarray  # of these, of requests that are leaving or loading
    running: np.ndarray  # requests
    waiting: np.ndarray  # requests


class Stay(NamedTuple):
    """KV of a request that does not run there."""

    since: float  # seconds
    until: float  # seconds
    blocks: int


def use_of(log: ClusterLog, instance: int) -> Use:
    """Memory and queues within the span: logged where batches were formed, else deduced."""
    stays = held(log, instance)
    kv = _Sum([(s.since, s.blocks) for s in stays] + [(s.until, -s.blocks) for s in stays])
    queue = _Sum(queued(log, instance))
    changes = np.union1d(kv.times, queue.times)
    capacity = int(log.num_blocks[instance])
    # time; used blocks, or NONE: what is held; running; waiting when the last batch was formed;
    # when that was
    points: list[tuple[float, int, int, int, float]] = []
    end, waiting, formed = 0.0, 0, -np.inf
    for row in log.iterations[log.rows_of(instance)]:
        start = float(row["start"])
        points += [(time, NONE, 0, waiting, formed) for time in _gap(end, start, changes)]
        used, waiting = capacity - int(row["free_blocks"]), int(row["num_waiting"])
        points.append((start, used, int(row["num_running"]), waiting, start))
        end, formed = max(end, start + float(row["duration"])), start
    points += [(time, NONE, 0, waiting, formed) for time in _gap(end, log.end, changes)]
    time, used, running, waited, since = np.array(points, np.float64).reshape(-1, 5).T
    away = np.minimum(kv.at(time), capacity)
    away = np.where(used == NONE, away, np.minimum(away, used))
    waited = np.maximum(waited + queue.at(time) - queue.at(since), 0)
    used = np.where(used == NONE, away, used)
    first, last = np.searchsorted(time, log.start, "right") - 1, np.searchsorted(time, log.end)
    seen = slice(max(int(first), 0), int(last))
    counts = (column[seen].astype(np.int64) for column in (used, away, running, waited))
    return Use(np.maximum(time[seen], log.start), *counts)


def held(log: ClusterLog, instance: int) -> list[Stay]:
    """What takes room on an instance for requests that are leaving it or loading there."""
    size, stays = int(log.block_size[instance]), list[Stay]()
    for move in log.moves[np.isin(log.moves["kind"], TRAVEL)]:
        tokens, since, until = int(move["tokens"]), float(move["start"]), float(move["end"])
        if move["source"] == instance and move["kind"] == int(Move.HANDOFF):
            since = log.left(int(move["request"]), instance, since)
        if instance in (move["source"], move["target"]) and until > since:
            tokens += move["target"] == instance  # room for the token that is computed there first
            stays.append(Stay(since, until, -(-tokens // size)))
    for request, source, target, tokens, start in log.pending:
        if source == instance:
            since = log.left(request, instance, start)
            stays.append(Stay(since, np.inf, -(-tokens // size)))
        elif target == instance and start < np.inf:
            stays.append(Stay(start, np.inf, -(-(tokens + 1) // size)))
    for move in log.moves[log.moves["kind"] == int(Move.REJECTION)]:
        row, tokens = log.kv_before(int(move["request"]), float(move["start"]))
        if row != NONE and log.iterations["instance"][row] == instance != move["source"]:
            since = log.left(int(move["request"]), instance, float(move["start"]))
            stays.append(Stay(since, float(move["start"]), -(-tokens // size)))
    return stays


def queued(log: ClusterLog, instance: int) -> list[tuple[float, int]]:
    """When its queue changes outside of forming a batch: (time in seconds, by how much)."""
    arrived = log.arrivals["time"][log.arrivals["instance"] == instance]
    changes = [(time, 1) for time in arrived.tolist()]
    for move in log.moves[(log.moves["source"] == instance) | (log.moves["target"] == instance)]:
        kind, start = Move(int(move["kind"])), float(move["start"])
        if kind in (Move.PREEMPTION, Move.SWAP_OUT):
            changes.append((start, 1))
        elif kind == Move.HANDOFF and move["target"] == instance:
            joined = log.left(int(move["request"]), int(move["source"]), start)
            changes += [(joined, 1), (start, -1)]
        elif kind in (Move.REJECTION, Move.SWAP_IN):
            changes.append((start, -1))
    for request, source, target, _, start in log.pending:
        if target == instance:
            changes.append((log.left(request, source, start), 1))
            changes.append((start, -1))
    return changes


class _Sum:
    """A sum that changes at certain times.

    Args:
        changes: (time, by how much).
    """

    def __init__(self, changes: list[tuple[float, int]]) -> None:
        table = np.array(sorted(changes), np.float64).reshape(-1, 2)
        self.times = table[:, 0]
        self._sums = np.concatenate([[0.0], np.cumsum(table[:, 1])])

    def at(self, times: np.ndarray) -> np.ndarray:
        """The sum, with the changes of that very time."""
        return self._sums[np.searchsorted(self.times, times, "right")]


def _gap(end: float, start: float, changes: np.ndarray) -> list[float]:
    """Times of interest between two iterations; none if they follow each other."""
    if start <= end + GAP:
        return []
    first, last = np.searchsorted(changes, end, "right"), np.searchsorted(changes, start)
    return [end, *changes[first:last].tolist()]
