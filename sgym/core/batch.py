"""What every batch former does alike: queue, allocate, admit, preempt, schedule.

Everywhere: REQUEST `requests` (n,), the records ENGINE `engine`, INSTANCE `instance`, CLUSTER
`cluster`, and the instance's row of `running`.
"""

import math

from sgym._jit import kernel
from sgym.core import metric, queue
from sgym.core.layout import NONE, RUNNING, WAITING


@kernel
def blocks_for(tokens, block_size):
    """Blocks that hold this many tokens."""
    return (tokens + block_size - 1) // block_size


@kernel
def is_held(request):
    """Whether a policy keeps this waiting request from being admitted."""
    return request["held"] > 0 or request["waiting_score"] == -math.inf


@kernel
def count_waiting(instance, request, sign):
    """Keep the counters of the waiting queue in step with one request that joins or leaves."""
    held = 1 if is_held(request) else 0
    instance["num_waiting"] += sign
    instance["num_held"] += sign * held
    instance["num_scored"] += sign * (1 if held or request["waiting_score"] != 0.0 else 0)
    instance["waiting_tokens"] += sign * (
        request["prompt"] + request["generated"] - request["computed"]
    )


@kernel
def enqueue(requests, engine, instance, r, at_front):
    """A request starts to wait: at the back on arrival, at the front when preempted.

    Under the priority policy, order is (priority, arrival), whatever the reason.
    """
    request = requests[r]
    if engine["by_priority"]:
        request["rank"] = (int(request["priority"]) << 32) + int(r)
    elif at_front:
        instance["front_rank"] -= 1
        request["rank"] = instance["front_rank"]
    else:
        instance["back_rank"] += 1
        request["rank"] = instance["back_rank"]
    request["phase"] = WAITING
    count_waiting(instance, request, 1)
    queue.insert(requests, instance, r)


@kernel
def dequeue(requests, instance, r):
    """A request leaves the waiting queue."""
    queue.remove(requests, instance, r)
    count_waiting(instance, requests[r], -1)


@kernel
def let_go(instance, request):
    """End the hold of a waiting request that was preempted; a score of -inf still holds it."""
    request["held"] = 0
    if request["waiting_score"] != -math.inf:
        instance["num_held"] -= 1
        if request["waiting_score"] == 0.0:
            instance["num_scored"] -= 1


@kernel
def open_pass(instance):
    """Start to form a batch: decide whether holds count in this pass.

    They do not where nothing runs and nothing else waits. It is decided once, as an adapter does
    that keeps held requests out of a real engine's queue during a call.
    """
    nothing_else = instance["num_held"] == instance["num_waiting"]
    instance["ignores_holds"] = 1 if nothing_else and instance["num_running"] == 0 else 0


@kernel
def num_eligible(instance):
    """Waiting requests that may be admitted."""
    if instance["ignores_holds"]:
        return instance["num_waiting"]
    return instance["num_waiting"] - instance["num_held"]


@kernel
def head(requests, instance):
    """The next request to admit, or NONE."""
    r = queue.first(requests, instance)
    if r == NONE or instance["num_held"] == 0 or instance["ignores_holds"]:
        return r
    if instance["num_held"] == instance["num_waiting"]:
        return NONE
    while is_held(requests[r]):
        r = queue.following(requests, r)
    return r


@kernel
def can_hold(engine, instance, blocks):
    """Whether so many blocks can be given away with the watermark and the reserve left free."""
    spare = engine["watermark_blocks"]
    if engine["former"] == 0 and instance["num_running"] == 0:  # vllm_v1: only beside others
        spare = 0
    if instance["num_running"] > 0:
        spare += instance["reserve"]
    return blocks + spare <= instance["free_blocks"]


@kernel
def grow(state, i, r, blocks):
    """Give a request more KV blocks."""
    state.requests[r]["blocks"] += blocks
    state.instances[i]["free_blocks"] -= blocks


@kernel
def admit(state, i, r):
    """Move a waiting request to the tail of the running ones."""
    instance, request = state.instances[i], state.requests[r]
    dequeue(state.requests, instance, r)
    request["phase"] = RUNNING
    if request["steering"] != instance["steerings"]:
        request["running_score"] = 0.0  # an earlier Steering's
    state.running[i, instance["num_running"]] = r
    instance["num_running"] += 1
    if request["running_score"] != 0.0:
        instance["running_scored"] = 1
    if math.isnan(request["first_scheduled"]):
        request["first_scheduled"] = state.cluster[0]["clock"]


@kernel
def schedule(request, instance, tokens):
    """Put this many tokens of a running request into the batch."""
    known = request["prompt"] + request["generated"]
    decode = request["generated"] > 0 and known - request["computed"] == 1
    request["scheduled"] = tokens
    request["computed"] += tokens
    instance["kv_tokens"] += request["computed"]
    if decode:
        instance["decode_seqs"] += 1
        instance["decode_kv"] += request["computed"]
        instance["num_sampled"] += 1
        request["prefilling"] = 0
        return
    instance["prefill_tokens"] += tokens
    instance["num_prefills"] += 1
    if request["computed"] == known:
        instance["num_sampled"] += 1
        request["prefilling"] = 0
    else:
        request["prefilling"] = 1


@kernel
def unschedule(request, instance):
    """Take a request out of the batch again; returns its tokens to the budget."""
    tokens = request["scheduled"]
    known = request["prompt"] + request["generated"]
    computed = request["computed"]
    instance["kv_tokens"] -= computed
    if computed == known:
        instance["num_sampled"] -= 1
    if request["generated"] > 0 and known - computed + tokens == 1:
        instance["decode_seqs"] -= 1
        instance["decode_kv"] -= computed
    else:
        instance["prefill_tokens"] -= tokens
        instance["num_prefills"] -= 1
    request["computed"] = computed - tokens
    request["scheduled"] = 0
    return tokens


@kernel
def take_out(instance, running, k):
    """Remove the k-th running request, keeping the order of the others; returns it."""
    r = running[k]
    for later in range(k + 1, instance["num_running"]):
        running[later - 1] = running[later]
    instance["num_running"] -= 1
    return r


@kernel
def preempt(state, i, r):
    """Free all KV of a request that was just taken out of the running ones; it waits in front.

    Its known tokens, generated ones included, are prefilled again later (recompute).
    Returns the tokens it gives back to the budget of the batch being formed.
    """
    instance, request = state.instances[i], state.requests[r]
    returned = 0
    if request["scheduled"] > 0:
        returned = unschedule(request, instance)
    instance["free_blocks"] += request["blocks"]
    request["blocks"] = 0
    request["recomputed"] += request["computed"]
    request["computed"] = 0
    request["prefilling"] = 0
    request["preemptions"] += 1
    instance["preemptions"] += 1
    instance["num_preempted"] += 1
    enqueue(state.requests, state.engines[i], instance, r, True)
    metric.track(state.requests, state.cluster[0], state.dry, r)
    if state.batches.size > 0:
        log_batched(state.batches, state.cluster[0], r, 0, 0)
    return returned


@kernel
def log_batched(batches, cluster, r, tokens, computed):
    """Append to the log of who was in which iteration."""
    entry = batches[cluster["num_batches_logged"]]
    entry["iteration"] = cluster["iterations"]
    entry["request"] = r
    entry["tokens"] = tokens
    entry["computed"] = computed
    cluster["num_batches_logged"] += 1


@kernel
def tighter(a, b):
    """The smaller of two caps, where 0 means none."""
    if a == 0:
        return b
    if b == 0:
        return a
    return min(a, b)


@kernel
def holds_prefill(requests, instance, running):
    """Whether prefill is deferred now: vLLM's `throttle_prefills`.

    Only while a running request decodes, and not while the last unheld pass left a backlog.
    """
    if instance["hold_prefill"] == 0 or instance["prefill_backlog"] == 1:
        return False
    for k in range(instance["num_running"]):
        if requests[running[k]]["prefilling"] == 0:
            return True
    return False


@kernel
def never_fits(engine, request):
    """Whether the engine could never serve this request to its end, even alone.

    A preempted request is prefilled again with what it has generated, so its last prefill may be
    as long as all but its last token.
    """
    prompt, last = request["prompt"], request["prompt"] + request["output"] - 1
    if prompt < 1 or prompt >= engine["max_model_len"]:
        return True
    blocks = blocks_for(last, engine["block_size"])
    if engine["former"] == 3:  # orca
        blocks = orca_blocks(engine, request)
    if engine["former"] != 0:
        blocks += engine["watermark_blocks"]
    whole = engine["former"] < 2 and engine["chunked_prefill"] == 0
    too_long = whole and last > engine["max_num_batched_tokens"]
    return too_long or blocks > engine["num_blocks"]


@kernel
def orca_blocks(engine, request):
    """KV blocks that Orca reserves: for the longest sequence, a power of 2, or the true length."""
    tokens = engine["max_model_len"]
    if engine["orca_reserve"] > 0:
        tokens = request["prompt"] + request["output"]
    if engine["orca_reserve"] == 1:
        power = 1
        while power < tokens:
            power *= 2
        tokens = min(power, engine["max_model_len"])
    return blocks_for(tokens, engine["block_size"])
