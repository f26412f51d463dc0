"""Fresh arrays: the state of a cluster in which nothing has happened yet."""

from collections.abc import Sequence

import numpy as np

from sgym._jit import LINE
from sgym.core.fresh import fill, renew
from sgym.core.layout import (
    AHEAD,
    BATCHED,
    BLOCK,
    EVENT,
    INSTANCE,
    ITERATION,
    LINK,
    MOVE,
    NEVER,
    NONE,
    REQUEST,
    TABLE,
    TOKEN,
    TRANSFER,
    State,
)

FIRST_LOG = 4096  # entries; logs grow by doubling

LOGS = ("tokens", "iterations", "batches", "moves")
"""What can be logged: each token's time, each iteration, each request in each iteration, and each
hand-off, migration, preemption, swap, rejection and change of role."""


CHANGING = (
    *("cluster", "instances", "running", "events", "transfers"),
    *("blocks", "buckets", "tables", "ahead"),
    *LOGS,
)
"""Arrays of a State that a simulation writes, apart from those that depend on what it serves."""


def fresh_requests(
    arrivals: np.ndarray,
    readers: np.ndarray,
    max_model_len: int,
    room: np.ndarray | None = None,
) -> np.ndarray:
    """REQUEST (n,) of a workload; outputs end where the model's context does.

    Args:
        arrivals: ARRIVAL (n,), sorted by arrival.
        readers: READER (classes,), into which `user_class` points.
        max_model_len: tokens of prompt and output together.
        room: REQUEST (at least n,) from `room_for`, to be written over; none = new memory.
    """
    count = len(arrivals)
    requests = room_for(count) if room is None else room[:count]
    fill(requests, arrivals, readers, max_model_len)
    return requests


def with_slack(count: int) -> int:
    """Entries for so many requests, and somewhat more in an episode written over this one."""
    return 1 + count + count // 8


def room_for(count: int) -> np.ndarray:
    """REQUEST (count,), not written yet; it starts where a cache line does."""
    memory = np.empty(count * REQUEST.itemsize + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + count * REQUEST.itemsize].view(REQUEST)


def blank_state(
    engines: np.ndarray, latency: np.ndarray, cluster: np.ndarray, log: Sequence[str] = ()
) -> State:
    """All arrays of a simulation at time 0 that serves no requests; for `begun`.

    Args:
        engines: ENGINE (num_instances,).
        latency: LATENCY (number of profiles,).
        cluster: CLUSTER (1,) with horizon and metric filled in; the rest of it is written here.
        log: names out of LOGS.
    """
    instances = np.zeros(len(engines), INSTANCE)
    neutral(instances, engines)
    instances["free_blocks"] = engines["num_blocks"]
    instances["free_host_blocks"] = engines["host_blocks"]
    instances["role"] = engines["role"]
    instances["next_role"] = NONE
    for name in ("waiting_root", "first_waiting", "last_waiting"):
        instances[name] = NONE
    instances["next_dry"] = NEVER
    row = cluster[0]
    room = _room(engines)
    row["num_instances"] = len(engines)
    row["instance"] = row["request"] = NONE
    row["next_transfer"] = NEVER
    row["free_table"] = NONE
    blocks, buckets, tables = _prefix_cache(engines)
    return State(
        requests=np.zeros(0, REQUEST),
        links=np.zeros(0, LINK),
        engines=engines,
        instances=instances,
        cluster=cluster,
        running=np.zeros((len(engines), int(engines["max_num_seqs"].max())), np.int32),
        events=np.zeros(2 * len(engines) + room, EVENT),
        dry=np.zeros(1, EVENT),
        latency=latency,
        transfers=np.zeros(room, TRANSFER),
        hashes=np.zeros(0, np.int64),
        blocks=blocks,
        buckets=buckets,
        tables=tables,
        ahead=np.zeros((len(engines), 2, _most_members(engines)), AHEAD),
        tokens=_log("tokens", TOKEN, log, engines),
        iterations=_log("iterations", ITERATION, log, engines),
        batches=_log("batches", BATCHED, log, engines),
        moves=_log("moves", MOVE, log, engines),
    )


def begun(
    blank: State,
    requests: np.ndarray,
    hashes: np.ndarray | None = None,
    last: State | None = None,
) -> State:
    """A state that serves requests, at time 0; engines and latency are shared with `blank`.

    Args:
        blank: from `blank_state`.
        requests: REQUEST (num_requests,).
        hashes: int64, what REQUEST.first_hash points into; None = no prompts begin alike.
        last: from `begun` with the same `blank`, to be written over; none = new memory.
    """
    count = len(requests)
    served = {"requests": requests, "hashes": blank.hashes if hashes is None else hashes}
    if last is None or len(last.dry) <= count:
        own = {name: np.empty_like(getattr(blank, name)) for name in CHANGING}
        length = 1 + count if last is None else with_slack(count)
        own |= {"dry": np.empty(length, EVENT), "links": np.empty(length, LINK)}
        state = blank.replaced(**own, **served)
    else:
        state = last.replaced(**served)
    renew(state, blank)
    state.cluster["num_requests"] = state.cluster["num_unfinished"] = count
    return state


def _most_members(engines: np.ndarray) -> int:
    if not engines["async_scheduling"].any():
        return 0
    return int(engines["max_num_seqs"].max()) + 1


def _prefix_cache(engines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """BLOCK, hash table and TABLE in which all blocks are free; empty if no engine caches."""
    count = len(engines)
    if not engines["prefix_caching"].any():
        return np.zeros((count, 0), BLOCK), np.zeros((count, 0), np.int32), np.zeros(0, TABLE)
    end = int(engines["num_blocks"].max())
    blocks = np.zeros((count, end + 1), BLOCK)
    blocks["key"] = NONE
    blocks["chained"] = NONE
    for row, engine in zip(blocks, engines, strict=True):
        ring = np.append(np.arange(engine["num_blocks"], dtype=np.int32), end)
        row["next_free"][ring] = np.roll(ring, -1)
        row["previous_free"][ring] = np.roll(ring, 1)
    buckets = np.full((count, 1 << end.bit_length()), NONE, np.int32)
    return blocks, buckets, np.zeros(2 * blocks.size, TABLE)


def neutral(instances: np.ndarray, engines: np.ndarray) -> None:
    """Set the knobs of a Steering that changes nothing."""
    instances["token_budget"] = engines["max_num_batched_tokens"]
    instances["active_cap"] = engines["max_num_seqs"]
    instances["chunk_cap"] = 0
    instances["reserve"] = 0
    instances["hold_prefill"] = 0


def _log(name: str, dtype: np.dtype, log: Sequence[str], engines: np.ndarray) -> np.ndarray:
    return np.zeros(max(FIRST_LOG, _room(engines)) if name in log else 0, dtype)


def _room(engines: np.ndarray) -> int:
    """Entries that `engine.is_full` asks to be free, and some more."""
    return 4 * int(engines["max_num_seqs"].max()) + 16


def enlarged(state: State) -> State:
    """The same state with every log and pool twice as long."""
    return state._replace(
        tokens=_doubled(state.tokens),
        iterations=_doubled(state.iterations),
        batches=_doubled(state.batches),
        moves=_doubled(state.moves),
        transfers=_doubled(state.transfers),
        events=_doubled(state.events),
        tables=_doubled(state.tables),
    )


def _doubled(log: np.ndarray) -> np.ndarray:
    return np.frombuffer(bytearray(log.tobytes() + bytes(log.nbytes)), log.dtype)
