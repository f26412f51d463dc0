"""KV blocks: who holds how many, here and in another place."""

from sgym._jit import inlined, kernel
from sgym.core.layout import HOST, NONE


@inlined
def grow(state, i, r, blocks):
    """Give a request more KV blocks of instance `i`, its own."""
    state.requests[r]["blocks"] += blocks
    state.instances[i]["free_blocks"] -= blocks


@inlined
def release(state, i, r):
    """Free all KV blocks that a request holds on instance `i`, its own."""
    request = state.requests[r]
    state.instances[i]["free_blocks"] += request["blocks"]
    request["blocks"] = 0


@kernel
def grow_other(state, j, r, blocks):
    """Give a request KV blocks of instance `j`, where it is being copied to."""
    state.requests[r]["other"] = j
    state.requests[r]["other_blocks"] += blocks
    state.instances[j]["free_blocks"] -= blocks


@kernel
def release_other(state, r):
    """Free what a request holds in the other place, if anywhere."""
    request = state.requests[r]
    if request["other"] == HOST:
        state.instances[request["instance"]]["free_host_blocks"] += request["other_blocks"]
    elif request["other"] != NONE:
        count_up(state, request["other"])
        state.instances[request["other"]]["free_blocks"] += request["other_blocks"]
    request["other"] = NONE
    request["other_blocks"] = 0


@kernel
def leave_behind(state, r):
    """A request goes to another instance; its KV stays where it is, now the other place."""
    request = state.requests[r]
    request["other"] = request["instance"]
    request["other_blocks"] = request["blocks"]
    request["blocks"] = 0


@kernel
def adopt(state, r):
    """A request goes to the other place, where its KV is now; what it held before is freed."""
    request = state.requests[r]
    count_up(state, request["instance"])
    count_up(state, request["other"])
    release(state, request["instance"], r)
    request["instance"] = request["other"]
    request["blocks"] = request["other_blocks"]
    request["other"] = NONE
    request["other_blocks"] = 0


@inlined
def count_up(state, i):
    """Bring an instance's sums over time up to now; called before its numbers change."""
    instance = state.instances[i]
    passed = state.cluster[0]["clock"] - instance["sums_since"]
    used = state.engines[i]["num_blocks"] - instance["free_blocks"]
    instance["block_time"] += passed * used
    instance["running_time"] += passed * instance["num_running"]
    instance["sums_since"] = state.cluster[0]["clock"]
