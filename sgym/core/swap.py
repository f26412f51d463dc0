"""Preempted KV in the memory of the host: copies over PCIe, one at a time in each direction."""

from sgym._jit import kernel
from sgym.core import events, kv, log, metric
from sgym.core.layout import HOST, MOVING, RUNNING, Move

SWAP_OUT, SWAP_IN = int(Move.SWAP_OUT), int(Move.SWAP_IN)


@kernel
def can_leave(state, i, r):
    """Whether a request's KV goes to the host when it is preempted, rather than being dropped."""
    request = state.requests[r]
    if state.engines[i]["swap"] == 0 or request["computed"] == 0:
        return False
    return request["blocks"] <= state.instances[i]["free_host_blocks"]


@kernel
def copy_out(state, i, r):
    """Move the KV of a request to the host; its blocks on the GPU are free to be ordered again."""
    request, instance, cluster = state.requests[r], state.instances[i], state.cluster[0]
    now = cluster["clock"]
    if now >= instance["swap_out_ends"]:
        instance["leaving_blocks"] = 0
    size = cluster["kv_bytes"] * request["computed"]
    ends = max(now, instance["swap_out_ends"]) + size / state.engines[i]["swap_bandwidth"]
    instance["swap_out_ends"] = ends
    instance["leaving_blocks"] += request["blocks"]
    instance["free_host_blocks"] -= request["blocks"]
    instance["num_swapped"] += 1
    request["other"] = HOST
    request["other_blocks"] = request["blocks"]
    request["swaps"] += 1
    cluster["swapped"] += size
    kv.release(state, i, r)
    log.move(state, SWAP_OUT, r, i, HOST, request["computed"], now, ends)


@kernel
def copy_in(state, i, r):
    """Bring the KV of a request that just left the queue back; its blocks here are allocated.

    Where copies overlap with the computation it is MOVING until its copy is in, else RUNNING, and
    the next iteration waits.
    """
    request, instance, cluster = state.requests[r], state.instances[i], state.cluster[0]
    now = cluster["clock"]
    size = cluster["kv_bytes"] * request["computed"]
    ends = max(now, instance["swap_in_ends"]) + size / state.engines[i]["swap_bandwidth"]
    instance["swap_in_ends"] = ends
    cluster["swapped"] += size
    log.move(state, SWAP_IN, r, HOST, i, request["computed"], now, ends)
    instance["num_loading"] += 1
    if state.engines[i]["swap_overlap"]:
        request["phase"] = MOVING
        events.push(state, ends, events.SWAP_ENDS, r)
        return
    kv.release_other(state, r)
    join(state, i, r)


@kernel
def arrive(state, r):
    """The KV of a request that was swapped in beside the computation is here."""
    i = state.requests[r]["instance"]
    kv.count_up(state, i)
    kv.release_other(state, r)
    join(state, i, r)
    events.ask(state, i)


@kernel
def wait(state, i):
    """Seconds that the batch just formed on instance `i` waits for copies."""
    instance, engine, now = state.instances[i], state.engines[i], state.cluster[0]["clock"]
    until = now
    if engine["swap_overlap"] == 0:
        until = max(instance["swap_out_ends"], instance["swap_in_ends"])
    elif now < instance["swap_out_ends"] and instance["free_blocks"] < instance["leaving_blocks"]:
        until = instance["swap_out_ends"]  # it uses blocks that are still being copied out
    return max(until - now, 0.0)


@kernel
def join(state, i, r):
    """A request whose KV has come takes its seat: the tail of the running ones of instance `i`."""
    request, instance = state.requests[r], state.instances[i]
    instance["num_loading"] -= 1
    request["phase"] = RUNNING
    if request["steering"] != instance["steerings"]:
        request["running_score"] = 0.0  # an earlier Steering's
        request["waiting_score"] = 0.0
    if request["running_score"] != 0.0 or instance["running_scored"]:
        instance["running_scored"] = 1
    left = request["prompt"] + request["generated"] - request["computed"]
    request["prefilling"] = 0 if request["generated"] > 0 and left == 1 else 1
    kv.register(state, i, r)
    state.running[i, instance["num_running"]] = r
    instance["num_running"] += 1
    instance["next_dry"] = min(instance["next_dry"], metric.dry_time(request))
