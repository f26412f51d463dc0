"""The batch former of SGLang 0.5.23 (`sglang/srt/managers/`), first come first served.

A prefill batch runs if one can be formed, else all running requests decode. A prompt that does not
fit into the chunk is the one request that may be unfinished; it goes on in the next batch. The
share of future output for which memory is set aside falls with each decode step, and rises when
requests had to be retracted.
"""

from sgym._jit import kernel
from sgym.core import batch, kv
from sgym.core.layout import NONE
from sgym.core.sglang_prefill import has_batch, may_generate, prefill

FIRST_RATIO = 0.7  # SGLANG_INIT_NEW_TOKEN_RATIO times schedule_conservativeness 1.0
LAST_RATIO = 0.14 * FIRST_RATIO  # SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR
DECAY = (FIRST_RATIO - LAST_RATIO) / 600.0  # SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS
STEPS_AFTER_RETRACTION = 20.0  # SGLANG_RETRACT_DECODE_STEPS


@kernel
def form(state, i):
    """Fill the batch: prompts alone if any can be computed, else a token for all running."""
    instance = state.instances[i]
    pending = unfinished(state, i)
    open_batch(state, i, pending)
    if not batch.holds_prefill(state.requests, instance, state.running[i]):
        prefill(state, i, pending)
        instance["prefill_backlog"] = 1 if batch.num_eligible(instance) > 0 else 0
    if not has_batch(instance):
        decode(state, i, pending)
    instance["num_seated"] = instance["num_running"]


@kernel
def unfinished(state, i):
    """The running request whose prompt is not computed to its end, or NONE."""
    for k in range(state.instances[i]["num_running"]):
        if state.requests[state.running[i, k]]["prefilling"]:
            return state.running[i, k]
    return NONE


@kernel
def open_batch(state, i, pending):
    """An engine that was idle starts with the first ratio; who left made room for others."""
    instance = state.instances[i]
    if instance["start"] + instance["duration"] < state.cluster[0]["clock"]:
        instance["new_token_ratio"] = FIRST_RATIO
    if instance["new_token_ratio"] == 0.0:  # nothing ever ran
        instance["new_token_ratio"] = FIRST_RATIO
    decoding = instance["num_running"] - (0 if pending == NONE else 1)
    if pending != NONE or decoding == 0 or instance["num_running"] < instance["num_seated"]:
        instance["batch_is_full"] = 0


@kernel
def decode(state, i, pending):
    """One token for each request that decodes; retract some if their blocks are not free."""
    engine, instance = state.engines[i], state.instances[i]
    budget = instance["num_running"]
    if instance["token_budget"] < engine["max_num_batched_tokens"]:  # the engine itself has none
        budget = min(budget, instance["token_budget"])
    count, missing = to_decode(state, i, budget)
    if count == 0:
        return
    if missing > instance["free_blocks"]:
        retract(state, i, pending, budget)
    else:
        ratio = instance["new_token_ratio"] - DECAY
        instance["new_token_ratio"] = max(ratio, LAST_RATIO)
    for k in range(instance["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"] or budget <= 0:
            continue
        lacks = block_for_next(engine, request)
        if lacks > instance["free_blocks"]:
            continue
        kv.grow(state, i, state.running[i, k], lacks)
        batch.schedule(request, instance, 1)
        budget -= 1


@kernel
def block_for_next(engine, request):
    """Blocks that a decoding request lacks for its next token: 0 or 1."""
    return max(
        0, batch.blocks_for(request["computed"] + 1, engine["block_size"]) - request["blocks"]
    )


@kernel
def to_decode(state, i, budget):
    """How many requests decode next, and the blocks that they lack."""
    count, missing = 0, 0
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"] == 0 and count < budget:
            count += 1
            missing += block_for_next(state.engines[i], request)
    return count, missing


@kernel
def retract(state, i, pending, budget):
    """Preempt decoding requests until the others fit, all but one; they wait at the back."""
    engine, instance = state.engines[i], state.instances[i]
    count, missing = to_decode(state, i, budget)
    while missing > instance["free_blocks"] and count_decoding(state, i) > 1:
        k = victim(state, i)
        put_off(state, i, k)
        count, missing = to_decode(state, i, budget)
    if missing > instance["free_blocks"] and pending != NONE:
        for k in range(instance["num_running"]):
            if state.running[i, k] == pending:
                put_off(state, i, k)
                break
    output, longest, count = 0, 0, 0
    for k in range(instance["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"] == 0:
            output += request["generated"]
            longest += may_generate(engine, request) + request["generated"]
            count += 1
    ratio = (output + STEPS_AFTER_RETRACTION * count) / (longest + 1)
    instance["new_token_ratio"] = min(1.0, ratio)
    instance["batch_is_full"] = 0


@kernel
def put_off(state, i, k):
    """Preempt the k-th running request; it waits at the back of the queue."""
    instance = state.instances[i]
    r = batch.take_out(instance, state.running[i], k)
    batch.preempt(state, i, r)
    batch.to_back(state.requests, state.links, state.engines[i], instance, r)


@kernel
def count_decoding(state, i):
    """Running requests whose prompts are computed."""
    count = 0
    for k in range(state.instances[i]["num_running"]):
        if state.requests[state.running[i, k]]["prefilling"] == 0:
            count += 1
    return count


@kernel
def victim(state, i):
    """Place of the decoding request with the fewest output tokens, then the longest prompt.

    A Steering's running score goes before that: lowest first. The last one if all are equal.
    """
    worst = NONE
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"]:
            continue
        if worst == NONE or not goes_later(request, state.requests[state.running[i, worst]]):
            worst = k
    return worst


@kernel
def goes_later(a, b):
    """Whether request `a` is retracted strictly after `b`."""
    if a["running_score"] != b["running_score"]:
        return a["running_score"] > b["running_score"]
    if a["generated"] != b["generated"]:
        return a["generated"] > b["generated"]
    return a["prompt"] < b["prompt"]
