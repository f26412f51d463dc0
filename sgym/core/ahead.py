"""Async scheduling as vLLM 0.33.0 does it: the next batch is formed while one is computed.

Two batches are under way at most (`step_with_batch_queue` in `vllm/v1/engine/core.py`): batch k + 1
is formed when batch k starts, before k's tokens are known. A sampled token that is not known yet is
a *placeholder* of its request. What is *stale* of a request's tokens under way was scheduled before
it was preempted: they are delivered all the same, and until then it is passed over in the queue.
"""

from sgym._jit import kernel
from sgym.core import batch, queue
from sgym.core.layout import NONE


@kernel
def slot(instance, behind):
    """Row of `State.ahead` for the batch that starts after `behind` more of those under way."""
    return (instance["iterations"] - instance["busy"] + behind) % 2


@kernel
def launch(state, i):
    """Note who is in the batch just formed, and what it will give them."""
    instance = state.instances[i]
    members = state.ahead[i, slot(instance, instance["busy"])]
    count = 0
    for k in range(instance["num_running"]):
        r = state.running[i, k]
        request = state.requests[r]
        if request["scheduled"] == 0:
            continue
        samples = 1 - request["prefilling"]
        members[count]["request"] = r
        members[count]["tokens"] = request["scheduled"]
        members[count]["samples"] = samples
        request["in_flight"] += request["scheduled"]
        request["placeholders"] += samples
        count += 1
    members[count]["request"] = NONE
    instance["busy"] += 1


@kernel
def clear_scheduled(state, i):
    """Forget who is in the newest batch: another one is about to be formed."""
    for k in range(state.instances[i]["num_running"]):
        state.requests[state.running[i, k]]["scheduled"] = 0


@kernel
def is_complete(request):
    """Whether the last token of a running request is under way already."""
    waits = request["placeholders"]
    if waits == 0:
        return False
    return request["computed"] + 2 - waits >= request["prompt"] + request["output"]


@kernel
def pass_over_stale(state, i, r):
    """The first request from `r` on that may be admitted, or NONE; stale ones are passed over."""
    requests, instance = state.requests, state.instances[i]
    while r != NONE and requests[r]["stale"] > 0:
        if requests[r]["deferred"] == 0:
            requests[r]["deferred"] = 1
            instance["num_deferred"] += 1
        r = queue.following(state.links, r)
        while r != NONE and batch.is_held(requests[r]) and not instance["ignores_holds"]:
            r = queue.following(state.links, r)
    return r


@kernel
def end_deferral(instance, request):
    """A request that was passed over leaves the queue."""
    if request["deferred"]:
        request["deferred"] = 0
        instance["num_deferred"] -= 1


@kernel
def num_passed_over(state, i):
    """Waiting requests, not held ones, that were passed over since they joined the queue.

    vLLM does not count them as a backlog, not even once they could be admitted.
    """
    requests, instance = state.requests, state.instances[i]
    left = instance["num_deferred"]
    if left == 0 or instance["num_held"] == 0 or instance["ignores_holds"]:
        return left
    count = 0
    r = queue.first(instance)
    while left > 0:
        if requests[r]["deferred"]:
            left -= 1
            if not batch.is_held(requests[r]):
                count += 1
        r = queue.following(state.links, r)
    return count
