"""Prefill here, decode there: a finished prefill leaves, waits for room, is sent, and joins."""

from sgym._jit import kernel
from sgym.core import batch, events, kv, log, metric, network, queue, swap
from sgym.core.layout import MOVING, NONE, PREFILL, Move

HANDOFF = int(Move.HANDOFF)


@kernel
def leaves(instance, request):
    """Whether a request that just got a token is to be handed off."""
    if request["other"] != NONE:
        return False  # it is being migrated
    return instance["role"] == PREFILL and request["stays"] == 0


@kernel
def leave(state, i, r):
    """A request that was taken out of the running ones of instance `i` asks where to decode."""
    state.requests[r]["phase"] = MOVING
    state.instances[i]["num_leaving"] += 1
    metric.track(state.requests, state.cluster[0], state.dry, r)
    events.push(state, state.cluster[0]["clock"], events.HANDOFF_DUE, r)


@kernel
def hand_off(state, j):
    """Answer HANDOFF: the request joins the queue of instance `j`; its KV follows once it fits.

    Where `j` is its own instance, or could never hold it, it stays and decodes where it is.
    """
    cluster = state.cluster[0]
    r = cluster["request"]
    request = state.requests[r]
    i = request["instance"]
    kv.count_up(state, i)
    if j == i or batch.never_fits(state.engines[j], request):
        request["stays"] = 1
        state.instances[i]["num_leaving"] -= 1
        state.instances[i]["num_loading"] += 1  # the seat that it has never left
        swap.join(state, i, r)
        events.ask(state, i)
        return
    kv.leave_behind(state, r)
    go_to(state, r, j)


@kernel
def go_to(state, r, j):
    """A request that is in no queue joins the back of the queue of instance `j`."""
    request = state.requests[r]
    request["instance"] = j
    request["steering"] = NONE  # scores belong to an instance
    request["running_score"] = 0.0
    request["held"] = 0
    batch.enqueue(state.requests, state.links, state.engines[j], state.instances[j], r, False)
    events.ask(state, j)


@kernel
def arrive(state, r):
    """The KV of a handed-off request is on its decode instance."""
    request, cluster = state.requests[r], state.cluster[0]
    i, j = request["other"], request["instance"]
    start = state.transfers[request["transfer"]]["start"]
    network.remove(state, r)
    kv.release_other(state, r)
    kv.count_up(state, j)
    state.instances[i]["num_leaving"] -= 1
    cluster["handoffs"] += 1
    cluster["transferred"] += cluster["kv_bytes"] * request["computed"]
    log.move(state, HANDOFF, r, i, j, request["computed"], start, cluster["clock"])
    take_seat(state, j, r)
    events.ask(state, i)
    events.ask(state, j)


@kernel
def take_seat(state, j, r):
    """A request runs on instance `j`; on a prefill instance it decodes to its end."""
    swap.join(state, j, r)
    if state.instances[j]["role"] == PREFILL and state.requests[r]["prefilling"] == 0:
        state.requests[r]["stays"] = 1


@kernel
def set_role(state, i, role, drain):
    """Give instance `i` another role, at once or, if `drain`, when its present work is done.

    While it drains, routers and hand-off rules pass it by. What decodes on an instance that becomes
    a prefill instance at once stays there to its end. With async scheduling the role stays mixed.
    """
    instance = state.instances[i]
    instance["next_role"] = NONE
    if role == instance["role"] or state.engines[i]["async_scheduling"]:
        return
    if drain and not events.is_empty(instance):
        instance["next_role"] = role
        return
    events.change_role(state, i, role)
    if role == PREFILL:
        for k in range(instance["num_running"]):
            request = state.requests[state.running[i, k]]
            if request["prefilling"] == 0:
                request["stays"] = 1


@kernel
def resolve_stall(state, i):
    """Nothing runs here, nothing fits: perhaps two instances wait for each other to take KV away.

    That can happen where an instance both leaves KV behind and takes KV over, after a change of its
    role. Then the first waiting request with KV on another instance gives that up.
    """
    instance = state.instances[i]
    if instance["num_leaving"] == 0:
        return
    r = queue.first(instance)
    while r != NONE and state.requests[r]["other"] < 0:
        r = queue.following(state.links, r)
    if r != NONE:
        batch.count_waiting(instance, state.requests[r], -1)
        drop_kv(state, r)
        batch.count_waiting(instance, state.requests[r], 1)
        events.ask(state, i)


@kernel
def drop_kv(state, r):
    """A waiting request loses the KV that it has in another place, if any."""
    request = state.requests[r]
    other = request["other"]
    if other == NONE:
        return
    if other >= 0:
        state.instances[other]["num_leaving"] -= 1
    else:
        state.instances[request["instance"]]["num_swapped"] -= 1
    kv.release_other(state, r)
    request["recomputed"] += request["computed"]
    request["lost"] = request["computed"]
    request["computed"] = 0
    if other >= 0:
        events.ask(state, other)
