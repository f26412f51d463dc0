"""The batch former of Sarathi-Serve (`sarathi_scheduler.py`, OSDI 2024): chunks, no stalls.

Decodes first, then unfinished prefills, then new prompts, all within one chunk of tokens. A whole
prompt's blocks are allocated at admission.
"""

from sgym._jit import kernel
from sgym.core import batch, vllm_v0


@kernel
def form(state, i):
    """Fill the batch up to `max_num_batched_tokens`, Sarathi's chunk size."""
    requests, engine, instance = state.requests, state.engines[i], state.instances[i]
    running = state.running[i]
    budget = min(instance["token_budget"], engine["max_num_batched_tokens"])
    cap = batch.tighter(engine["long_prefill_token_threshold"], instance["chunk_cap"])
    defer = batch.holds_prefill(requests, instance, running)
    sort_by_arrival(requests, instance, running)
    budget = decode(state, i, budget)
    if not defer:
        budget = continue_prefills(requests, instance, running, budget, cap)
        vllm_v0.admit_chunks(state, i, (budget, cap))


@kernel
def sort_by_arrival(requests, instance, running):
    """Oldest first, among equal running scores; cheap, as they are nearly sorted before.

    Requests are numbered in order of arrival.
    """
    for k in range(1, instance["num_running"]):
        r = running[k]
        place = k
        while place > 0 and runs_before(requests, r, running[place - 1]):
            running[place] = running[place - 1]
            place -= 1
        running[place] = r


@kernel
def runs_before(requests, a, b):
    """Whether running request `a` is ahead of `b`."""
    first, second = requests[a]["running_score"], requests[b]["running_score"]
    return first > second or (first == second and a < b)


@kernel
def decode(state, i, budget):
    """One token for each decoding request; the youngest gives way when no block is free."""
    instance, running = state.instances[i], state.running[i]
    k = 0
    while k < instance["num_running"]:
        r = running[k]
        request = state.requests[r]
        if request["prefilling"]:
            k += 1
            continue
        if budget <= 0:
            break
        if not vllm_v0.make_slot(state, i, k):
            break
        vllm_v0.append_slot(state, i, r)
        batch.schedule(request, instance, 1)
        budget -= 1
        k += 1
    return budget


@kernel
def continue_prefills(requests, instance, running, budget, cap):
    """The next chunk of each unfinished prefill; returns the budget that is left."""
    for k in range(instance["num_running"]):
        request = requests[running[k]]
        if budget <= 0:
            break
        if request["prefilling"] and request["scheduled"] == 0:
            tokens = min(request["prompt"] + request["generated"] - request["computed"], budget)
            if cap > 0:
                tokens = min(tokens, cap)
            batch.schedule(request, instance, tokens)
            budget -= tokens
    return budget
