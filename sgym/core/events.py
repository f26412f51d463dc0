"""The queue of what happens next, beside arrivals: iterations that end, KV that arrives, asking."""

from sgym._jit import kernel
from sgym.core import heap, log
from sgym.core.layout import NONE, Move

ROLE = int(Move.ROLE)

# Kinds of events, in the order in which those of one instant happen. Arrivals come before all.
ITERATION_ENDS, TRANSFER_ENDS, SWAP_ENDS, HANDOFF_DUE, ROLE_DUE, INSTANCE_ASKS = range(6)


@kernel
def push(state, time, kind, index):
    """Have something happen at `time`; the pool has room, as `advance` sees to it."""
    cluster = state.cluster[0]
    cluster["num_events"] = heap.push(state.events, cluster["num_events"], time, kind, index)


@kernel
def ask(state, i):
    """Have an idle instance with work asked for its next batch once this moment's events are in."""
    instance = state.instances[i]
    if instance["asked"]:
        return
    if instance["busy"] + instance["stalled"] > state.engines[i]["async_scheduling"]:
        return
    check_role(state, i)
    if instance["num_running"] > 0 or instance["num_waiting"] > 0:
        instance["asked"] = 1
        push(state, state.cluster[0]["clock"], INSTANCE_ASKS, i)


@kernel
def check_role(state, i):
    """Have an instance that has drained change its role once hand-offs of this moment are in."""
    if state.instances[i]["next_role"] != NONE and is_empty(state.instances[i]):
        push(state, state.cluster[0]["clock"], ROLE_DUE, i)


@kernel
def is_empty(instance):
    """Whether an instance has nothing to do."""
    return instance["num_running"] + instance["num_waiting"] + instance["num_loading"] == 0


@kernel
def change_role(state, i, role):
    """Instance `i` has another role from now on."""
    instance, now = state.instances[i], state.cluster[0]["clock"]
    instance["role"] = role
    instance["next_role"] = NONE
    log.move(state, ROLE, role, i, i, 0, now, now)
