"""What compiled policies do to single requests: the same as a Steering's entries would."""

from sgym._jit import kernel
from sgym.core import batch, kv, queue, steer
from sgym.core.layout import NONE


@kernel
def release(state, i):
    """End the holds of the last decision on instance i."""
    if state.instances[i]["num_held"] > 0:
        steer.release(state.requests, state.links, state.instances[i])


@kernel
def hold(state, i, r):
    """Keep a waiting request from being admitted before the next decision."""
    request, instance = state.requests[r], state.instances[i]
    if batch.is_held(request):
        return
    request["held"] = 1
    instance["num_held"] += 1
    if request["waiting_score"] == 0.0:
        instance["num_scored"] += 1


@kernel
def preempt(state, i, k):
    """Preempt the k-th running request of instance i; it is held until the next decision."""
    kv.count_up(state, i)
    r = batch.take_out(state.instances[i], state.running[i], k)
    state.requests[r]["held"] = 1
    batch.preempt(state, i, r)


@kernel
def rescore(state, i, r, score):
    """Give a waiting request another waiting score."""
    if state.requests[r]["waiting_score"] != score:
        steer.rescore(state.requests, state.links, state.instances[i], r, score)


@kernel
def reorder_waiting(state, i):
    """Make each waiting request's running score, which it does not need, its waiting score."""
    requests, instance = state.requests, state.instances[i]
    chain = NONE
    r = queue.first(instance)
    while r != NONE:
        batch.dequeue(requests, state.links, instance, r)
        requests[r]["parent"] = chain
        chain = r
        r = queue.first(instance)
    while chain != NONE:
        following = requests[chain]["parent"]
        requests[chain]["waiting_score"] = requests[chain]["running_score"]
        requests[chain]["running_score"] = 0.0
        batch.count_waiting(instance, requests[chain], 1)
        queue.insert(requests, state.links, instance, chain)
        chain = following


@kernel
def sort_running(state, i):
    """Bring the running requests of instance i into the order of their scores."""
    state.instances[i]["running_scored"] = 1
    steer.sort_running(state.requests, state.instances[i], state.running[i])


@kernel
def runs_next(state, i, k, w):
    """Whether the k-th running request goes before waiting request w; either may be missing.

    By running_score of the one and waiting_score of the other; the running one if equal.
    """
    if k >= state.instances[i]["num_running"]:
        return False
    if w == NONE:
        return True
    running = state.requests[state.running[i, k]]
    return running["running_score"] >= state.requests[w]["waiting_score"]


@kernel
def blocks_needed(state, i, r, tokens):
    """KV blocks that request r, here or waiting, lacks for this many more computed tokens."""
    request, size = state.requests[r], state.engines[i]["block_size"]
    return max(0, batch.blocks_for(request["computed"] + tokens, size) - request["blocks"])


@kernel
def first_waiting(state, i):
    """Head of the queue of instance i, held ones included, or NONE."""
    return queue.first(state.instances[i])
