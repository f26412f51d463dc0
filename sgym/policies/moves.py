"""Which requests may migrate at this moment, and where to: what an agent is offered."""

from sgym._jit import kernel
from sgym.core import migration, queue
from sgym.core.layout import NONE, PREFILL
from sgym.policies import loads


@kernel
def is_offered(state, i, j):
    """Whether requests of instance `i` may migrate to instance `j` now.

    A prefill instance offers what takes arrivals, others what takes hand-offs.
    """
    cluster, engine, target = state.cluster[0], state.engines[j], state.instances[j]
    if j == i or state.instances[i]["migrating_out"] >= cluster["max_migrations"]:
        return False
    if target["migrating_in"] >= cluster["max_migrations"]:
        return False
    if target["num_running"] + target["num_loading"] >= engine["max_num_seqs"]:
        return False
    if state.instances[i]["role"] == PREFILL:
        return loads.accepts_arrivals(state, j)
    return loads.accepts_handoffs(state, j)


@kernel
def may_move(state, i, r):
    """Whether request `r` of instance `i` may migrate to each one offered, of which some are."""
    some = False
    for j in range(state.instances.size):
        if is_offered(state, i, j):
            some = True
            if not migration.seems_possible(state, r, j):
                return False
    return some


@kernel
def can_move_any(state, i):
    """Whether some request of instance `i` may migrate."""
    for k in range(state.instances[i]["num_running"]):
        if may_move(state, i, state.running[i, k]):
            return True
    r = queue.first(state.instances[i])
    while r != NONE:
        if may_move(state, i, r):
            return True
        r = queue.following(state.links, r)
    return False
