"""A simulated engine, seen as a real one would show itself: for tests, and to try a policy out."""

import math

import numpy as np

from sgym.core.layout import Penalty, State
from sgym.export.view import REQUEST_ROW, EngineLimits, EngineView
from sgym.policies.view import waiting_order

SAME = tuple(name for name in REQUEST_ROW.names or () if name != "prefilling")


def simulated_limits(state: State, instance: int = 0) -> EngineLimits:
    """The limits of an instance."""
    engine, cluster = state.engines[instance], state.cluster[0]
    capped = int(cluster["penalty"]) == int(Penalty.CAPPED)
    return EngineLimits(
        max_num_seqs=int(engine["max_num_seqs"]),
        max_num_batched_tokens=int(engine["max_num_batched_tokens"]),
        num_blocks=int(engine["num_blocks"]),
        block_size=int(engine["block_size"]),
        chunked_prefill=bool(engine["chunked_prefill"]),
        watermark_blocks=int(engine["watermark_blocks"]),
        penalty_cap=float(cluster["penalty_cap"]) if capped else math.inf,
        scale_by_tokens=bool(cluster["scale_by_tokens"]),
    )


def simulated_view(
    state: State, limits: EngineLimits, instance: int = 0, reasons: int = 0, decided: float = 0.0
) -> EngineView:
    """What an engine in the state of this instance would show.

    Args:
        state: of a simulation that has stopped for a SCHEDULE of the instance.
        limits: `simulated_limits`.
        instance: index.
        reasons: bits of a trigger.
        decided: seconds; the last decision.

    Returns:
        The view; `ids` are indexes of requests.
    """
    own = state.instances[instance]
    num_running = int(own["num_running"])
    ids = np.concatenate(
        (
            state.running[instance, :num_running],
            np.fromiter(waiting_order(state, instance), np.int32),
        )
    )
    requests = state.requests[ids]
    rows = np.zeros(len(ids), REQUEST_ROW)
    for name in SAME:
        rows[name] = requests[name]
    rows["prefilling"][:num_running] = requests["prefilling"][:num_running]
    overdue = loss = None
    outside = state.requests["dry"] == 1
    outside[ids] = False
    if outside.any():  # readers of refused or rejected requests, or of other instances
        overdue, loss = float(state.cluster[0]["accruing"]), float(state.cluster[0]["dry_w"])
    return EngineView(
        now=float(state.cluster[0]["clock"]),
        limits=limits,
        rows=rows,
        num_running=num_running,
        free_blocks=int(own["free_blocks"]),
        duration=float(own["duration"]),
        prefill_tokens=int(own["prefill_tokens"]),
        decode_seqs=int(own["decode_seqs"]),
        num_preempted=int(own["num_preempted"]),
        kv_tokens=int(own["kv_tokens"]),
        token_budget=int(own["token_budget"]),
        active_cap=int(own["active_cap"]),
        chunk_cap=int(own["chunk_cap"]),
        reserve=int(own["reserve"]),
        reasons=reasons,
        decided=decided,
        overdue=overdue,
        loss=loss,
        ids=ids,
    )
