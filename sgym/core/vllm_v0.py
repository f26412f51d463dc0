"""The batch former of vLLM's V0 engine, as of 0.6.6 (`vllm/core/scheduler.py`).

Prefill-only or decode-only iterations; with chunked prefill, both in one. A whole prompt's blocks
are allocated at admission, and a decode asks for a free block even if its last one has room.
"""

import math

from sgym._jit import kernel
from sgym.core import batch, kv, queue
from sgym.core.layout import HOST, NONE


@kernel
def form(state, i):
    """Fill the batch."""
    if state.engines[i]["chunked_prefill"]:
        form_chunked(state, i)
    else:
        form_whole(state, i)
    release_victims(state.requests, state.links, state.instances[i])


@kernel
def form_whole(state, i):
    """New prompts alone if any can be admitted, else a token for all running requests."""
    engine, instance = state.engines[i], state.instances[i]
    budget = min(instance["token_budget"], engine["max_num_batched_tokens"])
    holds = batch.holds_prefill(state.requests, instance, state.running[i])
    if not holds and next_swapped(state.requests, state.links, instance) == NONE:
        admit_whole(state, i, budget)
    if instance["num_prefills"] == 0:
        budget = decode(state, i, budget)
        if instance["num_preempted"] == 0:
            swap_in(state, i, (budget, 0))


@kernel
def admit_whole(state, i, budget):
    """Admit whole prompts in order while tokens, sequences and blocks last."""
    requests, engine, instance = state.requests, state.engines[i], state.instances[i]
    while budget > 0 and batch.has_seat(instance):
        r = batch.head(requests, state.links, instance)
        if r == NONE:
            break
        request = requests[r]
        if request["other"] != NONE:
            if not batch.load(state, i, r):
                break
            continue
        known = request["prompt"] + request["generated"]
        blocks = batch.blocks_for(known, engine["block_size"])
        if known > budget or not batch.can_hold(engine, instance, blocks):
            break
        batch.admit(state, i, r)
        kv.grow(state, i, r, blocks)
        batch.schedule(request, instance, known)
        budget -= known
    instance["prefill_backlog"] = 1 if batch.num_eligible(instance) > 0 else 0


@kernel
def decode(state, i, budget):
    """One token for each running request, preempting from the tail when no block is free.

    Returns the token budget that is left.
    """
    instance = state.instances[i]
    k = 0
    while k < instance["num_running"] and budget > 0:
        r = state.running[i, k]
        if not make_slot(state, i, k):
            break
        append_slot(state, i, r)
        batch.schedule(state.requests[r], instance, 1)
        budget -= 1
        k += 1
    return budget


@kernel
def next_swapped(requests, links, instance):
    """The first swapped request that no policy holds, or NONE: V0 has a queue for them alone.

    While there is one no prompt is admitted, so a prompt with a better score must not be in its
    way. One that this pass swapped out counts, though this pass may not bring it back.
    """
    if instance["num_swapped"] == 0:
        return NONE
    r = queue.first(instance)
    while r != NONE:
        request = requests[r]
        held = request["held"] == 1 or request["waiting_score"] == -math.inf
        if request["other"] == HOST and (instance["ignores_holds"] or not held):
            return r
        r = queue.following(links, r)
    return NONE


@kernel
def swap_in(state, i, rules):
    """Bring swapped requests back while they fit; they go on in this batch.

    Returns the token budget that is left. `rules` = (budget, cap).
    """
    instance = state.instances[i]
    budget, cap = rules
    while budget > 0 and batch.has_seat(instance):
        r = next_swapped(state.requests, state.links, instance)
        if r == NONE:
            break
        tokens = batch.resume(state, i, r, budget, cap)
        if tokens == NONE:
            break
        budget -= tokens
    return budget


@kernel
def make_slot(state, i, k):
    """Preempt from the tail until a block is free; False if the k-th itself had to go."""
    requests, engine, instance = state.requests, state.engines[i], state.instances[i]
    while instance["free_blocks"] < 1:
        tail = instance["num_running"] - 1
        gone = batch.take_out(instance, state.running[i], tail)
        if (
            engine["former"] == batch.VLLM_V0 and requests[gone]["held"] == 0
        ):  # sarathi may admit it at once
            requests[gone]["held"] = 2
        batch.preempt(state, i, gone)
        if tail == k:
            return False
    return True


@kernel
def append_slot(state, i, r):
    """Take a new block if the next token needs one."""
    request = state.requests[r]
    if request["computed"] + 1 > request["blocks"] * state.engines[i]["block_size"]:
        kv.grow(state, i, r, 1)


@kernel
def form_chunked(state, i):
    """Running requests in their order, then new prompts with what is left of the budget.

    The running list is rebuilt: those the budget did not reach, decodes, prefills, new ones. A
    victim is not admitted in the pass that preempted it, but others behind it are.
    """
    requests, engine, instance = state.requests, state.engines[i], state.instances[i]
    running = state.running[i]
    budget = min(instance["token_budget"], engine["max_num_batched_tokens"])
    cap = batch.tighter(engine["long_prefill_token_threshold"], instance["chunk_cap"])
    defer = batch.holds_prefill(requests, instance, running)
    k = 0
    decodes = 0  # running[:decodes] decode, running[decodes:k] prefill
    while k < instance["num_running"] and budget > 0:
        r = running[k]
        request = requests[r]
        if not request["prefilling"]:
            if not make_slot(state, i, k):
                break
            append_slot(state, i, r)
            batch.schedule(request, instance, 1)
            budget -= 1
            move_forward(running, k, decodes)
            decodes += 1
        elif not defer:
            tokens = min(request["prompt"] + request["generated"] - request["computed"], budget)
            if cap > 0:
                tokens = min(tokens, cap)
            batch.schedule(request, instance, tokens)
            budget -= tokens
        k += 1
    for place in range(instance["num_running"] - k):
        move_forward(running, k + place, place)
    if instance["running_scored"]:
        instance["running_scored"] = 1  # perhaps not in the order of their scores any more
    if defer:
        return
    if instance["num_preempted"] == 0:
        budget = swap_in(state, i, (budget, cap))
    if next_swapped(requests, state.links, instance) == NONE:
        admit_chunks(state, i, (budget, cap))
    instance["prefill_backlog"] = 1 if batch.num_eligible(instance) > 0 else 0


@kernel
def move_forward(running, k, place):
    """Move the k-th running request forward to `place`, the others keeping their order."""
    r = running[k]
    for back in range(k, place, -1):
        running[back] = running[back - 1]
    running[place] = r


@kernel
def release_victims(requests, links, instance):
    """The requests that this pass has preempted may be admitted from the next one on."""
    if instance["num_preempted"] == 0:
        return
    r = queue.first(instance)
    while r != NONE:
        if requests[r]["held"] == 2:
            batch.let_go(instance, requests[r])
        r = queue.following(links, r)


@kernel
def admit_chunks(state, i, rules):
    """Admit in order: a chunk is computed, but the whole prompt's blocks are taken."""
    requests, engine, instance = state.requests, state.engines[i], state.instances[i]
    budget, cap = rules
    while budget > 0 and batch.has_seat(instance):
        r = batch.head(requests, state.links, instance)
        if r == NONE:
            break
        request = requests[r]
        known = request["prompt"] + request["generated"]
        if request["other"] != NONE:
            tokens = batch.resume(state, i, r, budget, cap)
            if tokens == NONE:
                break
            budget -= tokens
            continue
        tokens = min(known, budget)
        if cap > 0:
            tokens = min(tokens, cap)
        blocks = batch.blocks_for(known, engine["block_size"])
        if not batch.can_hold(engine, instance, blocks):
            break
        batch.admit(state, i, r)
        kv.grow(state, i, r, blocks)
        batch.schedule(request, instance, tokens)
        budget -= tokens
    instance["prefill_backlog"] = 1 if batch.num_eligible(instance) > 0 else 0
