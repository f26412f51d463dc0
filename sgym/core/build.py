"""Fresh arrays: the state of a cluster in which nothing has happened yet."""

from collections.abc import Sequence

import numpy as np

from sgym.core.layout import (
    ARRIVAL,
    BATCHED,
    EVENT,
    INSTANCE,
    ITERATION,
    NEVER,
    NONE,
    REQUEST,
    TOKEN,
    State,
)

FIRST_LOG = 4096  # entries; logs grow by doubling

LOGS = ("tokens", "iterations", "batches")
"""What can be logged: each token's time, each iteration, each request in each iteration."""


def fresh_requests(arrivals: np.ndarray, max_model_len: int) -> np.ndarray:
    """REQUEST (n,) of a workload; outputs end where the model's context does.

    Args:
        arrivals: ARRIVAL (n,), sorted by arrival.
        max_model_len: tokens of prompt and output together.
    """
    requests = np.zeros(len(arrivals), REQUEST)
    for name in ARRIVAL.names or ():
        requests[name] = arrivals[name]
    room = np.maximum(max_model_len - requests["prompt"], 1)
    requests["output"] = np.minimum(requests["output"], room)
    for name in ("left", "right", "parent", "instance"):
        requests[name] = NONE
    for name in ("first_scheduled", "first_token", "last_token", "finish"):
        requests[name] = np.nan
    return requests


def fresh_state(
    requests: np.ndarray,
    engines: np.ndarray,
    latency: np.ndarray,
    cluster: np.ndarray,
    log: Sequence[str] = (),
) -> State:
    """All arrays of a simulation at time 0.

    Args:
        requests: REQUEST (num_requests,).
        engines: ENGINE (num_instances,).
        latency: LATENCY (number of profiles,).
        cluster: CLUSTER (1,) with horizon and metric filled in.
        log: names out of LOGS.
    """
    instances = np.zeros(len(engines), INSTANCE)
    neutral(instances, engines)
    instances["free_blocks"] = engines["num_blocks"]
    instances["waiting_root"] = NONE
    instances["next_dry"] = NEVER
    row = cluster[0]
    row["num_requests"] = row["num_unfinished"] = len(requests)
    row["num_instances"] = len(engines)
    row["instance"] = row["request"] = NONE
    return State(
        requests=requests,
        engines=engines,
        instances=instances,
        cluster=cluster,
        running=np.zeros((len(engines), int(engines["max_num_seqs"].max())), np.int32),
        events=np.zeros(2 * len(engines) + 2, EVENT),
        dry=np.zeros(len(requests) + 1, EVENT),
        latency=latency,
        tokens=_log("tokens", TOKEN, log, engines),
        iterations=_log("iterations", ITERATION, log, engines),
        batches=_log("batches", BATCHED, log, engines),
    )


def neutral(instances: np.ndarray, engines: np.ndarray) -> None:
    """Set the knobs of a Steering that changes nothing."""
    instances["token_budget"] = engines["max_num_batched_tokens"]
    instances["active_cap"] = engines["max_num_seqs"]
    instances["chunk_cap"] = 0
    instances["reserve"] = 0
    instances["hold_prefill"] = 0


def _log(name: str, dtype: np.dtype, log: Sequence[str], engines: np.ndarray) -> np.ndarray:
    room = 4 * int(engines["max_num_seqs"].max()) + 16
    return np.zeros(max(FIRST_LOG, room) if name in log else 0, dtype)


def copied(state: State) -> State:
    """A copy to the last byte; numpy's own copy leaves the padding between fields undefined."""
    return State(*(_same_bytes(array) for array in state))


def _same_bytes(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(bytearray(array.tobytes()), array.dtype).reshape(array.shape)


def enlarged(state: State) -> State:
    """The same state with every log twice as long."""
    return state._replace(
        tokens=_doubled(state.tokens),
        iterations=_doubled(state.iterations),
        batches=_doubled(state.batches),
    )


def _doubled(log: np.ndarray) -> np.ndarray:
    return np.concatenate([log, np.zeros_like(log)])
