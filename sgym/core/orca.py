"""The batch former of Orca (OSDI 2022): iteration-level FCFS with reserved KV, no preemption."""

from sgym._jit import kernel
from sgym.core import batch, kv
from sgym.core.layout import MOVING, NONE


@kernel
def form(state, i):
    """All running requests decode; whole prompts join while sequences and reservations last."""
    requests, engine, instance = state.requests, state.engines[i], state.instances[i]
    running = state.running[i]
    budget = instance["token_budget"]
    limited = budget < engine["max_num_batched_tokens"]  # the engine itself has no budget
    for k in range(instance["num_running"]):
        if limited and budget <= 0:
            break
        batch.schedule(requests[running[k]], instance, 1)
        budget -= 1
    if batch.holds_prefill(requests, instance, running):
        return
    while batch.has_seat(instance) and not (limited and budget <= 0):
        r = batch.head(requests, state.links, instance)
        if r == NONE:
            break
        request = requests[r]
        if request["other"] != NONE:
            if not batch.load(state, i, r):
                break
            if request["phase"] != MOVING:
                batch.schedule(request, instance, 1)
                budget -= 1
            continue
        known = request["prompt"] + request["generated"]
        blocks = batch.orca_blocks(engine, request)
        if (limited and known > budget) or not batch.can_hold(engine, instance, blocks):
            break
        batch.admit(state, i, r)
        kv.grow(state, i, r, blocks)
        batch.schedule(request, instance, known)
        budget -= known
    instance["prefill_backlog"] = 1 if batch.num_eligible(instance) > 0 else 0
