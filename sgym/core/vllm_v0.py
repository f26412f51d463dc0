"""The batch former of vLLM's V0 engine, as of 0.6.6 (`vllm/core/scheduler.py`), recompute mode.

Prefill-only or decode-only iterations; with chunked prefill, both in one. A whole prompt's blocks are
allocated at admission, and a decode asks for a free block whether or not its last one has room.
"""

from sgym._jit import kernel
from sgym.core import batch
from sgym.core.layout import NONE


@kernel
def form(requests, engine, instance, cluster, running, dry, batches):
    """Fill the batch."""
    if engine["chunked_prefill"]:
        form_chunked(requests, engine, instance, cluster, running, dry, batches)
        return
    budget = min(instance["token_budget"], engine["max_num_batched_tokens"])
    if not batch.holds_prefill(requests, instance, running):
        admit_whole(requests, engine, instance, cluster, running, budget)
    if instance["num_prefills"] == 0:
        decode(requests, engine, instance, cluster, running, dry, batches, budget)


@kernel
def admit_whole(requests, engine, instance, cluster, running, budget):
    """Admit whole prompts in order while tokens, sequences and blocks last."""
    while budget > 0 and instance["num_running"] < instance["active_cap"]:
        r = batch.head(requests, instance)
        if r == NONE:
            break
        request = requests[r]
        known = request["prompt"] + request["generated"]
        blocks = batch.blocks_for(known, engine["block_size"])
        if known > budget or not batch.can_hold(engine, instance, blocks):
            break
        batch.admit(requests, instance, cluster, running, r)
        batch.grow(request, instance, blocks)
        batch.schedule(request, instance, known)
        budget -= known
    instance["prefill_backlog"] = 1 if batch.num_eligible(instance) > 0 else 0


@kernel
def decode(requests, engine, instance, cluster, running, dry, batches, budget):
    """One token for each running request, preempting from the tail when no block is free."""
    k = 0
    while k < instance["num_running"] and budget > 0:
        request = requests[running[k]]
        if not make_slot(requests, engine, instance, cluster, running, dry, batches, k):
            break
        append_slot(request, engine, instance)
        batch.schedule(request, instance, 1)
        budget -= 1
        k += 1


@kernel
def make_slot(requests, engine, instance, cluster, running, dry, batches, k):
    """Preempt from the tail until a block is free; False if the k-th itself had to go."""
    while instance["free_blocks"] < 1:
        tail = instance["num_running"] - 1
        gone = batch.take_out(instance, running, tail)
        batch.preempt(requests, engine, instance, cluster, dry, batches, gone)
        if tail == k:
            return False
    return True


@kernel
def append_slot(request, engine, instance):
    """Take a new block if the next token needs one."""
    if request["computed"] + 1 > request["blocks"] * engine["block_size"]:
        batch.grow(request, instance, 1)


@kernel
def form_chunked(requests, engine, instance, cluster, running, dry, batches):
    """Decodes and unfinished prefills first, then new prompts with what is left of the budget."""
    budget = min(instance["token_budget"], engine["max_num_batched_tokens"])
    cap = batch.tighter(engine["long_prefill_token_threshold"], instance["chunk_cap"])
    defer = batch.holds_prefill(requests, instance, running)
    k = 0
    while k < instance["num_running"] and budget > 0:
        request = requests[running[k]]
        tokens = request["prompt"] + request["generated"] - request["computed"]
        if request["prefilling"]:
            if defer:
                k += 1
                continue
            tokens = min(tokens, budget)
            if cap > 0:
                tokens = min(tokens, cap)
        else:
            if not make_slot(requests, engine, instance, cluster, running, dry, batches, k):
                break
            append_slot(request, engine, instance)
        batch.schedule(request, instance, tokens)
        budget -= tokens
        k += 1
    decodes_first(requests, instance, running)
    if instance["num_preempted"] == 0 and not defer:
        admit_chunks(requests, engine, instance, cluster, running, (budget, cap))


@kernel
def decodes_first(requests, instance, running):
    """Order the running list: requests that decode, then unfinished prefills; stable."""
    place = 0
    for k in range(instance["num_running"]):
        r = running[k]
        if requests[r]["prefilling"] == 0:
            for back in range(k, place, -1):
                running[back] = running[back - 1]
            running[place] = r
            place += 1


@kernel
def admit_chunks(requests, engine, instance, cluster, running, rules):
    """Admit in order: a chunk is computed, but the whole prompt's blocks are taken."""
    budget, cap = rules
    while budget > 0 and instance["num_running"] < instance["active_cap"]:
        r = batch.head(requests, instance)
        if r == NONE:
            break
        request = requests[r]
        known = request["prompt"] + request["generated"]
        tokens = min(known, budget)
        if cap > 0:
            tokens = min(tokens, cap)
        blocks = batch.blocks_for(known, engine["block_size"])
        if not batch.can_hold(engine, instance, blocks):
            break
        batch.admit(requests, instance, cluster, running, r)
        batch.grow(request, instance, blocks)
        batch.schedule(request, instance, tokens)
        budget -= tokens
    instance["prefill_backlog"] = 1 if batch.num_eligible(instance) > 0 else 0
