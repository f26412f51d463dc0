"""How SGLang 0.5.23 forms a batch of prompts (`PrefillAdder` of `schedule_policy.py`).

Before somebody is let in, memory is set aside for a share of what the running requests may still
generate, and for all that the new ones may. Whoever does not fit stops all behind.
"""

from sgym._jit import kernel
from sgym.core import batch, kv
from sgym.core.layout import NONE

MOST_NEW = 4096  # tokens; more are not reserved for anybody (SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION)


@kernel
def has_batch(instance):
    """Whether anything is scheduled; the last token of a recomputed prompt counts as a decode."""
    return instance["prefill_tokens"] + instance["decode_seqs"] > 0


@kernel
def may_generate(engine, request):
    """Tokens that a request may still generate: as many as context and memory leave."""
    memory = int(engine["num_blocks"]) * int(engine["block_size"])
    longest = min(int(engine["max_model_len"]), memory)
    return max(0, longest - request["prompt"] - request["generated"])


@kernel
def to_reserve(engine, request, tokens):
    """Tokens set aside when so many of this request are computed: for all of its output, if last.

    Whole blocks of what is computed, one for rounding, and the output, as if none of it existed.
    """
    size = engine["block_size"]
    known = request["prompt"] + request["generated"]
    reserved = batch.blocks_for(tokens, size) * size + size
    if request["computed"] + tokens >= known:
        reserved += min(may_generate(engine, request) + request["generated"], MOST_NEW)
    return reserved


@kernel
def free_tokens(state, i):
    """Free memory less what the decoding requests are expected to take of it, in tokens."""
    engine, instance = state.engines[i], state.instances[i]
    room = float(instance["free_blocks"]) * engine["block_size"]
    for k in range(instance["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"] == 0:
            room -= min(may_generate(engine, request), MOST_NEW) * instance["new_token_ratio"]
    return room


@kernel
def prefill(state, i, pending):
    """Go on with the unfinished prompt, then admit from the head of the queue."""
    engine, instance = state.engines[i], state.instances[i]
    if pending == NONE:
        if instance["batch_is_full"] or batch.num_eligible(instance) == 0:
            return
        if not batch.has_seat(instance):
            instance["batch_is_full"] = 1
            return
    room = free_tokens(state, i)
    left = min(instance["token_budget"], engine["max_num_batched_tokens"])
    cap = batch.tighter(engine["long_prefill_token_threshold"], instance["chunk_cap"])
    if pending != NONE:
        tokens = continue_chunk(state, i, pending, (room, left, cap))
        if tokens == 0:
            return
        size = engine["block_size"]
        left -= batch.blocks_for(tokens, size) * size
        room -= reserved_by(state, i, pending, tokens)
        if state.requests[pending]["prefilling"] == 0:
            pending = NONE
    admit_waiting(state, i, pending, (room, left, cap))


@kernel
def reserved_by(state, i, r, tokens):
    """Tokens set aside for a request of which so many were just scheduled."""
    request = state.requests[r]
    request["computed"] -= tokens
    reserved = to_reserve(state.engines[i], request, tokens)
    request["computed"] += tokens
    return reserved


@kernel
def continue_chunk(state, i, r, rules):
    """The next chunk of the unfinished prompt; returns its tokens. `rules` = (room, left, cap)."""
    request, engine, instance = state.requests[r], state.engines[i], state.instances[i]
    room, left, cap = rules
    size = engine["block_size"]
    tokens = min(request["prompt"] + request["generated"] - request["computed"], left)
    if int(room) > 0:
        tokens = min(tokens, int(room))
    if cap > 0:
        tokens = min(tokens, cap)
    tokens = min(tokens, (request["blocks"] + instance["free_blocks"]) * size - request["computed"])
    if tokens <= 0:
        return 0
    missing = batch.blocks_for(request["computed"] + tokens, size) - request["blocks"]
    kv.grow(state, i, r, max(0, missing))
    batch.schedule(request, instance, tokens)
    return tokens


@kernel
def admit_waiting(state, i, pending, rules):
    """Admit while memory, with all reservations, and the chunk last; the last one is cut.

    `rules` = (free tokens less reservations, tokens left of the chunk, cap of a request's chunk).
    """
    engine, instance = state.engines[i], state.instances[i]
    room, left, cap = rules
    size = engine["block_size"]
    while left > 0:
        r = batch.head(state.requests, state.links, instance)
        if r == NONE:
            break
        if not batch.has_seat(instance):
            instance["batch_is_full"] = 1
        if instance["batch_is_full"]:
            break
        request = state.requests[r]
        if request["other"] != NONE:
            blocks = instance["free_blocks"]
            if not batch.load(state, i, r):
                break
            room -= (blocks - instance["free_blocks"]) * size
            continue
        if not fits(engine, instance, request, room):
            instance["batch_is_full"] = 1 if instance["num_running"] > 0 else 0
            break
        tokens = chunk_of(engine, instance, request, (left, cap, pending))
        if tokens == 0:
            break
        room -= to_reserve(engine, request, tokens)
        batch.admit(state, i, r)
        kv.grow(state, i, r, batch.blocks_for(tokens, size))
        batch.schedule(request, instance, tokens)
        left -= batch.blocks_for(tokens, size) * size
        if request["prefilling"]:
            pending = r
        if room <= 0.0:
            instance["batch_is_full"] = 1
            break


@kernel
def fits(engine, instance, request, room):
    """Whether a request, its output and a block for rounding fit beside the reservations.

    Alone, it is enough that its known tokens fit.
    """
    known = request["prompt"] + request["generated"]
    if instance["num_running"] + instance["num_loading"] == 0:
        return batch.can_hold(engine, instance, batch.blocks_for(known, engine["block_size"]))
    spare = engine["watermark_blocks"]
    if instance["num_running"] > 0:
        spare += instance["reserve"]
    needed = known + min(may_generate(engine, request), MOST_NEW) + engine["block_size"]
    return needed + spare * engine["block_size"] < room


@kernel
def chunk_of(engine, instance, request, rules):
    """Tokens of a waiting request to compute in this batch, 0 = it has to wait.

    `rules` = (tokens left of the chunk, cap of a request's chunk, unfinished request). A cut is at
    the end of a block, but for a request alone that would never start.
    """
    left, cap, pending = rules
    size = engine["block_size"]
    known = request["prompt"] + request["generated"]
    charge = batch.blocks_for(known, size) * size
    if not engine["chunked_prefill"]:
        return 0 if has_batch(instance) and charge >= left else known
    if charge <= left and (cap == 0 or known <= cap):
        return known
    if pending != NONE:
        return 0  # one unfinished request at a time
    most = min(left, cap) if cap > 0 else left
    tokens = min(most, known) // size * size
    if tokens == 0 and instance["num_running"] + instance["num_loading"] == 0:
        tokens = min(most, known)
    return tokens
