"""The batch former of vLLM's V1 engine as of 0.33.0 (`vllm/v1/core/sched/scheduler.py`)."""

from sgym._jit import inlined, kernel
from sgym.core import batch, kv
from sgym.core.layout import MOVING, NONE


@inlined
def form(state, i):
    """Fill the batch: running requests in their order, then waiting ones while they fit."""
    engine, instance = state.engines[i], state.instances[i]
    budget = min(instance["token_budget"], engine["max_num_batched_tokens"])
    threshold = batch.tighter(engine["long_prefill_token_threshold"], instance["chunk_cap"])
    if threshold > 0 and instance["num_running"] + batch.num_eligible(instance) <= 1:
        threshold = 0  # nobody to protect from a long prefill
    defer = batch.holds_prefill(state.requests, instance, state.running[i])
    budget = continue_running(state, i, (budget, threshold, defer))
    if instance["num_preempted"] == 0:
        admit_waiting(state, i, (budget, threshold, defer))
        if not defer:
            backlog = batch.num_eligible(instance) > 0
            instance["prefill_backlog"] = 1 if backlog else 0


@inlined
def continue_running(state, i, rules):
    """One decode token or prefill chunk for each running request; preempts to make room.

    Returns the token budget that is left. `rules` = (budget, threshold, defer).
    """
    requests, engine, instance = state.requests, state.engines[i], state.instances[i]
    running = state.running[i]
    budget, threshold, defer = rules
    size = engine["block_size"]
    k = 0
    while k < instance["num_running"] and budget > 0:
        r = running[k]
        request = requests[r]
        if defer and request["prefilling"]:
            k += 1
            continue
        tokens = request["prompt"] + request["generated"] - request["computed"]
        if tokens > 1:
            if 0 < threshold < tokens:
                tokens = threshold
            tokens = min(tokens, budget)
        after = request["computed"] + tokens
        if after > request["blocks"] * size:
            missing = batch.blocks_for(after, size) - request["blocks"]
            stays = True
            while missing > instance["free_blocks"]:
                v = victim(requests, engine, instance, running)
                gone = batch.take_out(instance, running, v)
                budget += batch.preempt(state, i, gone)
                if gone == r:
                    stays = False
                    break
                if v < k:
                    k -= 1
            if not stays:
                if engine["by_priority"]:
                    continue  # the next one moved to place k
                break
            kv.grow(state, i, r, missing)
        batch.schedule(request, instance, tokens)
        budget -= tokens
        k += 1
    return budget


@kernel
def victim(requests, engine, instance, running):
    """Place of the request to preempt: the tail, or the least urgent under the priority policy."""
    worst = instance["num_running"] - 1
    if engine["by_priority"]:
        worst = 0
        for k in range(1, instance["num_running"]):
            a, b = requests[running[k]], requests[running[worst]]
            if a["priority"] > b["priority"] or (
                a["priority"] == b["priority"] and a["arrival"] > b["arrival"]
            ):
                worst = k
    return worst


@inlined
def admit_waiting(state, i, rules):
    """Admit from the head of the queue; stop at the first request that does not fit."""
    requests, engine, instance = state.requests, state.engines[i], state.instances[i]
    budget, threshold, defer = rules
    size = engine["block_size"]
    while budget > 0 and batch.has_seat(instance):
        r = batch.head(requests, instance)
        if r == NONE:
            break
        request = requests[r]
        known = request["prompt"] + request["generated"]
        if defer and known > 1:
            break
        if request["other"] != NONE:
            if not batch.load(state, i, r):
                break
            if request["phase"] == MOVING:
                continue
            tokens = min(known - request["computed"], budget)
            if threshold > 0:
                tokens = min(tokens, threshold)
            batch.schedule(request, instance, tokens)
            budget -= tokens
            continue
        tokens = known
        if 0 < threshold < tokens:
            tokens = threshold
        if tokens > budget and not engine["chunked_prefill"]:
            break
        tokens = min(tokens, budget)
        checked = known if engine["reserve_full_isl"] else tokens
        if not batch.can_hold(engine, instance, batch.blocks_for(checked, size)):
            break
        batch.admit(state, i, r)
        kv.grow(state, i, r, batch.blocks_for(tokens, size))
        batch.schedule(request, instance, tokens)
        budget -= tokens
