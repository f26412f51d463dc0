"""The end of a batch that was formed ahead (async scheduling)."""

from sgym._jit import kernel
from sgym.core import ahead, batch, kv, metric, prefix
from sgym.core.iteration import deliver, finish
from sgym.core.layout import FINISHED, NEVER, NONE, RUNNING, WAITING


@kernel
def land(state, i):
    """End the older batch under way: deliver its tokens; the batch behind it starts now."""
    instance, cluster = state.instances[i], state.cluster[0]
    members = state.ahead[i, ahead.slot(instance, 0)]
    kv.count_up(state, i)
    k = 0
    while members[k]["request"] != NONE:
        land_member(state, i, members[k])
        k += 1
    keep_unfinished(state, i)
    instance["busy_time"] += instance["duration"]
    instance["busy"] -= 1
    instance["stalled"] = 0
    if instance["busy"]:
        instance["start"] = cluster["clock"]
        instance["duration"] = instance["next_duration"]
        metric.track_running(state.requests, cluster, state.dry, state.running[i], instance)


@kernel
def land_member(state, i, member):
    """What the batch that ends gives to one of its requests."""
    r, cluster = member["request"], state.cluster[0]
    request, instance = state.requests[r], state.instances[i]
    if request["phase"] != RUNNING and request["phase"] != WAITING:
        return  # rejected in the meantime
    stale = request["stale"] > 0
    request["in_flight"] -= member["tokens"]
    if stale:
        request["stale"] -= member["tokens"]
    if not member["samples"]:
        return
    deliver(state.requests, cluster, state.tokens, r, cluster["clock"])
    if stale:
        instance["waiting_tokens"] += 1
        metric.track(state.requests, cluster, state.dry, r)
        if request["generated"] >= request["output"]:
            ahead.end_deferral(instance, request)
            batch.dequeue(state.requests, state.links, instance, r)
            finish(state, i, r)
        return
    request["placeholders"] -= 1
    if state.engines[i]["prefix_caching"]:
        prefix.register(state, i, r, int(request["computed"] - request["in_flight"]))
    if request["generated"] >= request["output"]:
        finish(state, i, r)


@kernel
def keep_unfinished(state, i):
    """Take the finished requests out of the running ones."""
    instance, running = state.instances[i], state.running[i]
    kept, next_dry = 0, NEVER
    for k in range(instance["num_running"]):
        r = running[k]
        request = state.requests[r]
        if request["phase"] == FINISHED:
            continue
        next_dry = min(next_dry, metric.dry_time(request))
        running[kept] = r
        kept += 1
    instance["num_running"] = kept
    instance["next_dry"] = next_dry
