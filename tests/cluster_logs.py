"""Logs of clusters that are written out by hand, and a small cluster in which everything moves."""

from typing import Any, NamedTuple

import numpy as np
from playing import toy

from sgym.core.layout import BATCHED, ITERATION, MOVE, Move
from sgym.policies.steering import Steering
from sgym.simulator import Result, Simulator, simulate
from sgym.viz.cluster_log import ARRIVED, LOGS, ClusterLog


class Batch(NamedTuple):
    """An iteration as a test writes it."""

    instance: int
    start: float  # seconds
    duration: float  # seconds
    prefill: int = 0  # tokens
    decodes: int = 1
    free: int = 90  # of 100 blocks
    waiting: int = 0
    requests: tuple[int, ...] = (0,)


def log_of(
    batches: list[Batch],
    moves: list[tuple] = (),
    instances: int = 1,
    end: float = 10.0,
    **more: Any,
) -> ClusterLog:
    """A log from 0 to `end` seconds of instances with 100 blocks of 16 tokens.

    Args:
        batches: in the order in which they were formed.
        moves: (Move, request, source, target, tokens, start, end).
        instances: how many.
        end: seconds.
        more: other fields of ClusterLog.
    """
    iterations = np.zeros(len(batches), ITERATION)
    members = []
    for row, batch in enumerate(batches):
        entry = iterations[row]
        entry["instance"], entry["start"], entry["duration"] = batch[:3]
        entry["prefill_tokens"], entry["decode_seqs"] = batch.prefill, batch.decodes
        entry["free_blocks"], entry["num_waiting"] = batch.free, batch.waiting
        entry["num_running"] = len(batch.requests)
        members += [(row, request, 1, 0) for request in batch.requests]
    fields = {
        "names": tuple(f"instance {index}" for index in range(instances)),
        "num_blocks": np.full(instances, 100),
        "block_size": np.full(instances, 16),
        "start": 0.0,
        "end": end,
        "iterations": iterations,
        "members": np.array(members, BATCHED),
        "arrivals": np.zeros(0, ARRIVED),
        "moves": np.array([(int(move[0]), *move[1:]) for move in moves], MOVE),
    }
    return ClusterLog(**{**fields, **more})


HANDED_OFF = log_of(
    [
        Batch(0, 1.0, 0.5, prefill=64, decodes=0, free=96, requests=(7,)),
        Batch(1, 2.5, 0.5, free=95, requests=(7,)),
    ],
    [(Move.HANDOFF, 7, 0, 1, 64, 2.0, 2.25)],
    instances=2,
)
"""Request 7 is prefilled on instance 0 until 1.5 s, waits, and is sent to instance 1 from 2.0 s."""


class Unruly:
    """A policy that migrates, preempts, rejects and changes roles, to see all of it drawn."""

    def __init__(self) -> None:
        self._asked = 0

    def schedule(self, view: Any) -> Steering:
        """Something new every few times."""
        self._asked += 1
        choice, steering = self._asked % 8, Steering()
        running, waiting = view.running, view.waiting
        if choice == 1 and running:
            steering.migrate_to = {running[-1].id: (view.index + 1) % 4}
        elif choice == 3 and len(running) > 1:
            steering.preempt = [running[-1].id]
        elif choice == 5 and len(waiting) > 2:
            steering.reject = [waiting[-1].id]
        elif self._asked == 100:
            steering.role = "mixed"
        return steering


def busy(**overrides: Any) -> dict[str, Any]:
    """3 s of two prefill and two decode instances with little memory and slow links."""
    pools = [{"role": "prefill", "instances": 2}, {"role": "decode", "instances": 2}]
    slow = {"bandwidth": 2e8, "latency": 1e-3}
    settings = {"cluster__pools": pools, "cluster__link": slow, "workload__rate": 40.0}
    return toy(**{**settings, **overrides})


def busy_run(policy: Any = "stock", seed: int = 0, **overrides: Any) -> Result:
    """A run of that cluster with all logs."""
    return simulate(busy(**overrides), policy, seed, log=LOGS)


def busy_simulator(seed: int) -> Simulator:
    """That cluster, to be stepped."""
    return Simulator(busy(), seed, log=LOGS)
