"""What routers know of an instance.

Every request and every answer passes through the router, so its own counts of what is in flight are
up to date. What only the engine knows, the KV in use and the length of its queue, it reports: each
`cluster.staleness` seconds, all instances at once; 0 = the router always sees it as it is.
"""

import math

from sgym._jit import kernel
from sgym.core import batch, prefix, queue
from sgym.core.layout import DECODE, NONE, PREFILL

ARRIVALS, HANDOFFS, ANYONE = range(3)
"""Who is asked to take a request."""


@kernel
def accepts_arrivals(state, i):
    """Whether routers offer instance i to arrivals: it prefills, and does not change its role."""
    instance = state.instances[i]
    return instance["role"] != DECODE and instance["next_role"] == NONE


@kernel
def accepts_handoffs(state, i):
    """Whether instance i may be chosen to decode what others have prefilled."""
    instance = state.instances[i]
    return instance["role"] != PREFILL and instance["next_role"] == NONE


@kernel
def takes(state, i, r, asked):
    """Whether instance i is among those asked, and can serve what is known of request r."""
    if not batch.fits_so_far(state.engines[i], state.requests[r]):
        return False
    if asked == ARRIVALS:
        return accepts_arrivals(state, i)
    if asked == HANDOFFS:
        return accepts_handoffs(state, i)
    return True


@kernel
def count_takers(state, r, asked):
    """How many instances take request r."""
    count = 0
    for i in range(state.instances.size):
        count += 1 if takes(state, i, r, asked) else 0
    return count


@kernel
def nth_taker(state, r, asked, place):
    """The n-th instance that takes request r, counted from 0; the first one if none does."""
    for i in range(state.instances.size):
        if takes(state, i, r, asked):
            if place == 0:
                return i
            place -= 1
    return 0


@kernel
def report(state, policy, memory):
    """Let the engines report, if it is time."""
    now, every = state.cluster[0]["clock"], policy["staleness"]
    if every > 0.0 and now - memory.instances[0]["reported"] < every:
        return
    at = now if every == 0.0 else math.floor(now / every) * every
    for i in range(state.instances.size):
        memory.instances[i]["reported"] = at
        memory.reports[i] = state.instances[i]


@kernel
def kv_share(state, memory, i):
    """Share of its KV blocks that instance i uses, as last reported."""
    return 1.0 - memory.reports[i]["free_blocks"] / state.engines[i]["num_blocks"]


@kernel
def in_flight(state, i):
    """Requests that were sent to instance i and are not done there."""
    instance = state.instances[i]
    return float(instance["num_running"] + instance["num_waiting"] + instance["num_loading"])


@kernel
def prefill_tokens(state, i):
    """Tokens that instance i has still to prefill, waiting or begun."""
    tokens = int(state.instances[i]["waiting_tokens"])
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"]:
            tokens += request["prompt"] + request["generated"] - request["computed"]
    return tokens


@kernel
def used_blocks(state, i):
    """KV blocks of instance i in use."""
    return int(state.engines[i]["num_blocks"] - state.instances[i]["free_blocks"])


@kernel
def blocks_to_come(state, i):
    """KV blocks that instance i will still need for what is known of its requests.

    Those that wait have none yet, and those that are being prefilled perhaps only some.
    """
    blocks, size = 0, state.engines[i]["block_size"]
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"]:
            blocks += max(known_blocks(request, size) - int(request["blocks"]), 0)
    r = queue.first(state.instances[i])
    while r != NONE:
        blocks += known_blocks(state.requests[r], size)
        r = queue.following(state.links, r)
    return blocks


@kernel
def known_blocks(request, size):
    """KV blocks of `size` tokens for what is known of a request."""
    return int(batch.blocks_for(request["prompt"] + request["generated"], size))


@kernel
def committed_blocks(state, i):
    """KV blocks of instance i that are in use or that its requests will need."""
    return used_blocks(state, i) + blocks_to_come(state, i)


@kernel
def hit_tokens(state, i, r):
    """Tokens of request r that instance i has in its prefix cache."""
    if state.engines[i]["prefix_caching"] == 0 or state.requests[r]["num_hashes"] == 0:
        return 0
    found, _ = prefix.find(state, i, r)
    return found * int(state.engines[i]["block_size"])
