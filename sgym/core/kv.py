"""KV blocks: who holds how many, here and in another place.

All blocks are taken and freed here. Where the engine has prefix caching, `sgym.core.prefix` keeps
which ones they are.
"""

from sgym._jit import kernel
from sgym.core import prefix
from sgym.core.layout import HOST, NONE


@kernel
def grow(state, i, r, blocks):
    """Give a request more KV blocks of instance `i`, its own."""
    request = state.requests[r]
    request["blocks"] += blocks
    state.instances[i]["free_blocks"] -= blocks
    if state.engines[i]["prefix_caching"]:
        request["table"] = prefix.take(state, i, request["table"], blocks)


@kernel
def reuse(state, i, r, found):
    """Give a request that holds nothing the first `found` blocks that the prefix cache has of it.

    Their tokens count as computed.
    """
    request, instance = state.requests[r], state.instances[i]
    known, tokens = request["prompt"] + request["generated"], found * state.engines[i]["block_size"]
    instance["free_blocks"] -= prefix.use_found(state, i, r, found)
    request["blocks"] = found
    request["computed"] = tokens
    request["cached"] += tokens
    request["recomputed"] -= min(request["lost"], tokens)
    request["lost"] = 0
    instance["looked_up"] += known
    instance["found"] += tokens


@kernel
def release(state, i, r):
    """Free all KV blocks that a request holds on instance `i`, its own."""
    request = state.requests[r]
    freed = request["blocks"]
    if state.engines[i]["prefix_caching"]:
        freed = prefix.give_back(state, i, request["table"])
        request["table"] = NONE
        request["registered"] = 0
    state.instances[i]["free_blocks"] += freed
    request["blocks"] = 0


@kernel
def register(state, i, r):
    """Let others find the KV that a request has on its instance `i`, where it came from afar."""
    if state.engines[i]["prefix_caching"]:
        prefix.register(state, i, r, int(state.requests[r]["computed"]))


@kernel
def grow_other(state, j, r, blocks):
    """Give a request KV blocks of instance `j`, where it is being copied to."""
    request = state.requests[r]
    request["other"] = j
    request["other_blocks"] += blocks
    state.instances[j]["free_blocks"] -= blocks
    if state.engines[j]["prefix_caching"]:
        request["other_table"] = prefix.take(state, j, request["other_table"], blocks)


@kernel
def release_other(state, r):
    """Free what a request holds in the other place, if anywhere."""
    request = state.requests[r]
    if request["other"] == HOST:
        state.instances[request["instance"]]["free_host_blocks"] += request["other_blocks"]
    elif request["other"] != NONE:
        count_up(state, request["other"])
        freed = request["other_blocks"]
        if state.engines[request["other"]]["prefix_caching"]:
            freed = prefix.give_back(state, request["other"], request["other_table"])
            request["other_table"] = NONE
        state.instances[request["other"]]["free_blocks"] += freed
    request["other"] = NONE
    request["other_blocks"] = 0


@kernel
def leave_behind(state, r):
    """A request goes to another instance; its KV stays where it is, now the other place."""
    request = state.requests[r]
    request["other"] = request["instance"]
    request["other_blocks"] = request["blocks"]
    request["other_table"] = request["table"]
    request["blocks"] = 0
    request["table"] = NONE
    request["registered"] = 0


@kernel
def adopt(state, r):
    """A request goes to the other place, where its KV is now; what it held before is freed."""
    request = state.requests[r]
    count_up(state, request["instance"])
    count_up(state, request["other"])
    release(state, request["instance"], r)
    request["instance"] = request["other"]
    request["blocks"] = request["other_blocks"]
    request["table"] = request["other_table"]
    request["other"] = NONE
    request["other_blocks"] = 0
    request["other_table"] = NONE


@kernel
def count_up(state, i):
    """Bring an instance's sums over time up to now; called before its numbers change."""
    instance = state.instances[i]
    passed = state.cluster[0]["clock"] - instance["sums_since"]
    used = state.engines[i]["num_blocks"] - instance["free_blocks"]
    instance["block_time"] += passed * used
    instance["running_time"] += passed * instance["num_running"]
    instance["sums_since"] = state.cluster[0]["clock"]
