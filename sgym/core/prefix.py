"""Prefix caching block by block, as vLLM 0.33.0 does it (`vllm/v1/core/block_pool.py`).

A block that is full has a *key* under which later requests find it, as long as nobody takes it:
equal keys mean equal tokens up to the block's end. A free block keeps its key and stands in a list
of free blocks, ordered by when it will be taken. Several blocks may have the same key; the oldest
one is found. Requests hold their blocks in tables, which are chains from the last block to the
first, because blocks are only added at the end and freed from there.

The list is a ring through the entry behind an instance's blocks, the one with the index `end`.
"""

from sgym._jit import kernel
from sgym.core.layout import NONE

POSITION_BITS = 24  # of a key: the block's place in its request
POSITIONS = (1 << POSITION_BITS) - 1
SPREAD = 2654435  # odd and below 2**22: products with ids stay below 2**63


@kernel
def key_of(state, i, r, j):
    """Key of the j-th block of a request on instance `i`.

    Blocks that lie in the prompt have the id of what the prompt shares up to their end; all others
    have an id of the request's own, below 0.
    """
    request = state.requests[r]
    end = (j + 1) * int(state.engines[i]["block_size"])
    identity = ~int(r)
    if request["num_hashes"] > 0 and end <= request["prompt"]:
        place = (end - 1) // int(state.cluster[0]["hash_block"])
        if place < request["num_hashes"]:
            identity = int(state.hashes[request["first_hash"] + place])
    return (identity << POSITION_BITS) + j


@kernel
def bucket_of(state, key):
    """Where in the hash table a key belongs."""
    mixed = (key >> POSITION_BITS) * SPREAD + (key & POSITIONS)
    return mixed & (state.buckets.shape[1] - 1)


@kernel
def look_up(state, i, key):
    """The oldest block of instance `i` with this key, or NONE."""
    blocks = state.blocks[i]
    b = state.buckets[i, bucket_of(state, key)]
    while b != NONE and blocks[b]["key"] != key:
        b = blocks[b]["chained"]
    return b


@kernel
def find(state, i, r):
    """How many leading blocks of a request's known tokens instance `i` has, but for the last token.

    Returns that number, and how many of them nobody holds: these count as free until they are used.
    """
    request = state.requests[r]
    known = int(request["prompt"]) + int(request["generated"])
    most = (known - 1) // int(state.engines[i]["block_size"])
    found, idle = 0, 0
    while found < most:
        b = look_up(state, i, key_of(state, i, r, found))
        if b == NONE:
            break
        found += 1
        if state.blocks[i, b]["uses"] == 0:
            idle += 1
    return found, idle


@kernel
def use_found(state, i, r, found):
    """Hold the first `found` blocks of a request that has no block yet; counts as `find` does."""
    request, blocks = state.requests[r], state.blocks[i]
    top, idle = NONE, 0
    for j in range(found):
        b = look_up(state, i, key_of(state, i, r, j))
        if blocks[b]["uses"] == 0:
            unlink(blocks, b)
            idle += 1
        blocks[b]["uses"] += 1
        top = push(state, top, b)
    request["table"] = top
    request["registered"] = found
    return idle


@kernel
def take(state, i, top, count):
    """Put `count` blocks of instance `i`, the next to be taken, on a table; returns its top."""
    blocks = state.blocks[i]
    end = blocks.size - 1
    for _ in range(count):
        b = blocks[end]["next_free"]
        unlink(blocks, b)
        forget(state, i, b)
        blocks[b]["uses"] = 1
        top = push(state, top, b)
    return top


@kernel
def give_back(state, i, top):
    """Free the blocks of a table, last one first; returns how many nobody else holds.

    Those without a key are taken next, those with one after all others.
    """
    blocks, cluster = state.blocks[i], state.cluster[0]
    end = blocks.size - 1
    ahead, freed = end, 0
    while top != NONE:
        b, before = state.tables[top]["block"], state.tables[top]["before"]
        state.tables[top]["before"] = cluster["free_table"]
        cluster["free_table"] = top
        cluster["num_free_tables"] += 1
        top = before
        blocks[b]["uses"] -= 1
        if blocks[b]["uses"] > 0:
            continue
        freed += 1
        if blocks[b]["key"] == NONE:
            link(blocks, b, ahead)
            ahead = b
        else:
            link(blocks, b, blocks[end]["previous_free"])
    return freed


@kernel
def register(state, i, r, tokens):
    """Let others find the blocks that a request's first `tokens` tokens fill."""
    request, blocks = state.requests[r], state.blocks[i]
    full = tokens // int(state.engines[i]["block_size"])
    registered = int(request["registered"])
    if full <= registered:
        return
    entry = request["table"]
    for j in range(int(request["blocks"]) - 1, registered - 1, -1):
        b, entry = state.tables[entry]["block"], state.tables[entry]["before"]
        if j < full:
            key = key_of(state, i, r, j)
            blocks[b]["key"] = key
            append_to_bucket(state, i, b, bucket_of(state, key))
    request["registered"] = full


@kernel
def append_to_bucket(state, i, b, bucket):
    """Put a block behind the others of its bucket, as the newest."""
    blocks = state.blocks[i]
    blocks[b]["chained"] = NONE
    last = state.buckets[i, bucket]
    if last == NONE:
        state.buckets[i, bucket] = b
        return
    while blocks[last]["chained"] != NONE:
        last = blocks[last]["chained"]
    blocks[last]["chained"] = b


@kernel
def forget(state, i, b):
    """Nobody finds this block any more."""
    blocks = state.blocks[i]
    key = blocks[b]["key"]
    if key == NONE:
        return
    blocks[b]["key"] = NONE
    bucket = bucket_of(state, key)
    other = state.buckets[i, bucket]
    if other == b:
        state.buckets[i, bucket] = blocks[b]["chained"]
        return
    while blocks[other]["chained"] != b:
        other = blocks[other]["chained"]
    blocks[other]["chained"] = blocks[b]["chained"]


@kernel
def link(blocks, b, ahead):
    """Put a block into the list of free blocks, behind the block (or the end) `ahead`."""
    behind = blocks[ahead]["next_free"]
    blocks[b]["previous_free"] = ahead
    blocks[b]["next_free"] = behind
    blocks[ahead]["next_free"] = b
    blocks[behind]["previous_free"] = b


@kernel
def unlink(blocks, b):
    """Take a block out of the list of free blocks."""
    ahead, behind = blocks[b]["previous_free"], blocks[b]["next_free"]
    blocks[ahead]["next_free"] = behind
    blocks[behind]["previous_free"] = ahead


@kernel
def push(state, top, b):
    """Put a block on a table; returns the new top. `has_room` sees to it that the pool has room."""
    cluster = state.cluster[0]
    entry = cluster["free_table"]
    if entry == NONE:
        entry = cluster["num_tables"]
        cluster["num_tables"] += 1
    else:
        cluster["free_table"] = state.tables[entry]["before"]
        cluster["num_free_tables"] -= 1
    state.tables[entry]["block"] = b
    state.tables[entry]["before"] = top
    return entry


@kernel
def has_room(state, i):
    """Whether the pool of tables holds all that can happen until instance `i` is asked again.

    A block that was free takes one entry; besides, the waiting requests may find all they know.
    """
    cluster, instance = state.cluster[0], state.instances[i]
    shared = instance["waiting_tokens"] // state.engines[i]["block_size"]
    unused = state.tables.size - cluster["num_tables"] + cluster["num_free_tables"]
    return state.blocks.size + shared <= unused
