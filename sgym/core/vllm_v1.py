"""The batch former of vLLM's V1 engine as of 0.33.0 (`vllm/v1/core/sched/scheduler.py`)."""

from sgym._jit import kernel
from sgym.core import ahead, batch, kv, prefix
from sgym.core.layout import NONE


@kernel
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
            backlog = batch.num_eligible(instance) > ahead.num_passed_over(state, i)
            instance["prefill_backlog"] = 1 if backlog else 0


@kernel
def continue_running(state, i, rules):
    """One decode token or prefill chunk for each running request; preempts to make room.

    Returns the token budget that is left. `rules` = (budget, threshold, defer).
    """
    requests, engine, instance = state.requests, state.engines[i], state.instances[i]
    running = state.running[i]
    budget, threshold, defer = rules
    size, caches = engine["block_size"], engine["prefix_caching"]
    is_async = engine["async_scheduling"]
    k = 0
    while k < instance["num_running"] and budget > 0:
        r = running[k]
        request = requests[r]
        if defer and request["prefilling"]:
            k += 1
            continue
        known = request["prompt"] + request["generated"]
        tokens = known - request["computed"]
        if is_async:
            if ahead.is_complete(request):
                k += 1
                continue
            tokens += request["placeholders"]
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
        if caches:
            prefix.register(state, i, r, min(int(after), int(known)))
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


@kernel
def admit_waiting(state, i, rules):
    """Admit from the head of the queue; stop at the first request that does not fit."""
    requests, engine, instance = state.requests, state.engines[i], state.instances[i]
    budget, threshold, defer = rules
    size, caches = engine["block_size"], engine["prefix_caching"]
    while budget > 0 and batch.has_seat(instance):
        r = batch.head(requests, state.links, instance)
        if instance["busy"]:
            r = ahead.pass_over_stale(state, i, r)
        if r == NONE:
            break
        request = requests[r]
        known = request["prompt"] + request["generated"]
        found, idle = 0, 0
        if caches and request["other"] == NONE:
            found, idle = prefix.find(state, i, r)
        before = request["computed"] + found * size
        if defer and before < known - 1:
            break
        if request["other"] != NONE:
            tokens = batch.resume(state, i, r, budget, threshold)
            if tokens == NONE:
                break
            budget -= tokens
            continue
        tokens = known - before
        if 0 < threshold < tokens:
            tokens = threshold
        if tokens > budget and not engine["chunked_prefill"]:
            break
        tokens = min(tokens, budget)
        after = before + tokens
        checked = known if engine["reserve_full_isl"] else after
        if not batch.can_hold(engine, instance, batch.blocks_for(checked, size) - found + idle):
            break
        batch.admit(state, i, r)
        ahead.end_deferral(instance, request)
        if caches:
            kv.reuse(state, i, r, found)
        kv.grow(state, i, r, batch.blocks_for(after, size) - found)
        batch.schedule(request, instance, tokens)
        if caches:
            prefix.register(state, i, r, int(after))
        budget -= tokens
