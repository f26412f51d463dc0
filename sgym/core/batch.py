"""What every batch former does alike: queue, allocate, admit, preempt, schedule.

Everywhere: REQUEST `requests` (n,), the records ENGINE `engine`, INSTANCE `instance`, CLUSTER
`cluster`, and the instance's row of `running`.
"""

import math

from sgym._jit import kernel
from sgym.core import kv, log, metric, network, queue, swap
from sgym.core.layout import HOST, MOVING, NONE, RUNNING, WAITING, Former, Move, Transfer

HANDOFF, PREEMPTION = int(Transfer.HANDOFF), int(Move.PREEMPTION)
VLLM_V1, VLLM_V0 = int(Former.VLLM_V1), int(Former.VLLM_V0)
ORCA = int(Former.ORCA)
SWAPPED_FIRST = -(1 << 62)  # rank ahead of all that are not swapped


@kernel
def blocks_for(tokens, block_size):
    """Blocks that hold this many tokens."""
    return (tokens + block_size - 1) // block_size


@kernel
def is_held(request):
    """Whether a policy keeps this waiting request from being admitted."""
    return request["held"] > 0 or request["waiting_score"] == -math.inf


@kernel
def count_scored(instance, request, sign):
    """What `count_waiting` does with those that are held or have a score."""
    held = 1 if is_held(request) else 0
    instance["num_held"] += sign * held
    instance["num_scored"] += sign * (1 if held or request["waiting_score"] != 0.0 else 0)


@kernel
def count_waiting(instance, request, sign):
    """Keep the counters of the waiting queue in step with one request that joins or leaves."""
    count_scored(instance, request, sign)
    instance["num_waiting"] += sign
    instance["waiting_tokens"] += sign * (
        request["prompt"] + request["generated"] - request["computed"]
    )


@kernel
def enqueue(requests, links, engine, instance, r, at_front):
    """A request starts to wait: at the back on arrival, at the front when preempted.

    Under the priority policy, order is (priority, arrival), whatever the reason.
    """
    request = requests[r]
    if engine["by_priority"]:
        request["rank"] = (int(request["priority"]) << 32) + int(r)
    elif request["other"] == HOST:  # swapped: first out, first in
        instance["back_rank"] += 1
        request["rank"] = SWAPPED_FIRST + instance["back_rank"]
    elif at_front:
        instance["front_rank"] -= 1
        request["rank"] = instance["front_rank"]
    else:
        instance["back_rank"] += 1
        request["rank"] = instance["back_rank"]
    request["phase"] = WAITING
    count_waiting(instance, request, 1)
    queue.insert(requests, links, instance, r)


@kernel
def dequeue(requests, links, instance, r):
    """A request leaves the waiting queue."""
    queue.remove(requests, links, instance, r)
    count_waiting(instance, requests[r], -1)


@kernel
def to_back(requests, links, engine, instance, r):
    """Put a waiting request where an arrival would stand; swapped ones keep their own order."""
    if engine["by_priority"] or requests[r]["other"] == HOST:
        return
    queue.remove(requests, links, instance, r)
    instance["back_rank"] += 1
    requests[r]["rank"] = instance["back_rank"]
    queue.insert(requests, links, instance, r)


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
def head(requests, links, instance):
    """The next request to admit, or NONE."""
    r = queue.first(instance)
    if r == NONE or instance["num_held"] == 0 or instance["ignores_holds"]:
        return r
    if instance["num_held"] == instance["num_waiting"]:
        return NONE
    while is_held(requests[r]):
        r = queue.following(links, r)
    return r


@kernel
def can_hold(engine, instance, blocks):
    """Whether so many blocks can be given away with the watermark and the reserve left free."""
    spare = engine["watermark_blocks"]
    if engine["former"] == VLLM_V1 and instance["num_running"] == 0:  # only beside others
        spare = 0
    if instance["num_running"] > 0:
        spare += instance["reserve"]
    return blocks + spare <= instance["free_blocks"]


@kernel
def has_seat(instance):
    """Whether another request may run; those whose KV is on its way here have their seats."""
    return instance["num_running"] + instance["num_loading"] < instance["active_cap"]


@kernel
def blocks_to_resume(engine, request):
    """Blocks that a request takes where it comes with its KV."""
    if engine["former"] == ORCA:
        return orca_blocks(engine, request)
    return blocks_for(request["prompt"] + request["generated"], engine["block_size"])


@kernel
def load(state, i, r):
    """Let a waiting request in whose KV lies elsewhere, if it fits; False if it does not.

    It runs once its KV is here: at once if swapped in without overlap, else later.
    """
    request, engine, instance = state.requests[r], state.engines[i], state.instances[i]
    blocks = blocks_to_resume(engine, request)
    if not can_hold(engine, instance, blocks):
        return False
    dequeue(state.requests, state.links, instance, r)
    kv.grow(state, i, r, blocks)
    if request["other"] == HOST:
        instance["num_swapped"] -= 1
        request["streamed"] = 0.0
        swap.copy_in(state, i, r)
        return True
    request["phase"] = MOVING
    instance["num_loading"] += 1
    network.start(state, r, HANDOFF, request["other"], i, bytes_to_send(state, r))
    request["streamed"] = 0.0
    return True


@kernel
def resume(state, i, r, budget, cap):
    """`load`, then put into the batch what the request may compute at once, with its KV here.

    Returns its tokens, 0 while its KV is on its way, or NONE if it does not fit. `cap` is the most
    prefill tokens, 0 = no cap.
    """
    if not load(state, i, r):
        return NONE
    request = state.requests[r]
    if request["phase"] == MOVING:
        return 0
    left = request["prompt"] + request["generated"] - request["computed"]
    tokens = min(left, tighter(budget, cap))
    schedule(request, state.instances[i], tokens)
    return tokens


@kernel
def bytes_to_send(state, r):
    """Bytes of a handed-off request's KV that are still to be sent once it is let in.

    Layer by layer, what its prefill had time to send is gone, but for the last layer.
    """
    request, cluster = state.requests[r], state.cluster[0]
    size = cluster["kv_bytes"] * request["computed"]
    if not cluster["layerwise"]:
        return size
    source, target = state.engines[request["other"]], state.engines[request["instance"]]
    sent = request["streamed"] * min(source["link_bandwidth"], target["link_bandwidth"])
    return max(size / cluster["num_layers"], size - sent)


@kernel
def admit(state, i, r):
    """Move a waiting request to the tail of the running ones."""
    instance, request = state.instances[i], state.requests[r]
    dequeue(state.requests, state.links, instance, r)
    request["phase"] = RUNNING
    request["streamed"] = 0.0
    if request["steering"] != instance["steerings"]:
        request["running_score"] = 0.0  # an earlier Steering's
    state.running[i, instance["num_running"]] = r
    instance["num_running"] += 1
    instance["next_dry"] = min(instance["next_dry"], metric.dry_time(request))
    if request["running_score"] != 0.0 or instance["running_scored"]:
        instance["running_scored"] = 1
    if math.isnan(request["first_scheduled"]):
        request["first_scheduled"] = state.cluster[0]["clock"]


@kernel
def schedule(request, instance, tokens):
    """Put this many tokens of a running request into the batch."""
    promised = request["generated"] + request["placeholders"]
    known = request["prompt"] + promised
    decode = promised > 0 and known - request["computed"] == 1
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
    promised = request["generated"] + request["placeholders"]
    known = request["prompt"] + promised
    computed = request["computed"]
    instance["kv_tokens"] -= computed
    if computed == known:
        instance["num_sampled"] -= 1
    if promised > 0 and known - computed + tokens == 1:
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
    """A request that was just taken out of the running ones loses its place; it waits in front.

    Its KV goes to the host, or is dropped: then its known tokens are prefilled again later.
    Returns the tokens it gives back to the budget of the batch being formed.
    """
    instance, request = state.instances[i], state.requests[r]
    returned = 0
    if request["scheduled"] > 0:
        returned = unschedule(request, instance)
    if request["other"] != NONE:
        network.abort(state, r)
    if swap.can_leave(state, i, r):
        swap.copy_out(state, i, r)
    else:
        drop(state, i, r)
    request["prefilling"] = 0
    request["placeholders"] = 0
    request["stale"] = request["in_flight"]
    request["stays"] = 0
    request["preemptions"] += 1
    instance["preemptions"] += 1
    instance["num_preempted"] += 1
    enqueue(state.requests, state.links, state.engines[i], instance, r, True)
    metric.track(state.requests, state.cluster[0], state.dry, r)
    log.batched(state, r, 0, 0)
    return returned


@kernel
def drop(state, i, r):
    """Free the KV of a request; its known tokens will be computed again."""
    request, now = state.requests[r], state.cluster[0]["clock"]
    log.move(state, PREEMPTION, r, i, i, request["computed"], now, now)
    kv.release(state, i, r)
    request["recomputed"] += request["computed"]
    request["lost"] = request["computed"]
    request["computed"] = 0


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
    """Whether the engine could never serve this request to its end, even alone."""
    return not can_serve(engine, request, request["output"])


@kernel
def fits_so_far(engine, request):
    """Whether the engine could serve this request if its next token were its last.

    That is all a policy may know, as the true length is hidden from it.
    """
    return can_serve(engine, request, request["generated"] + 1)


@kernel
def can_serve(engine, request, output):
    """Whether the engine could serve this request, alone, up to so many tokens of output.

    A preempted request is prefilled again with what it has generated, so its last prefill may be
    as long as all but its last token.
    """
    prompt, last = request["prompt"], request["prompt"] + output - 1
    if prompt < 1 or prompt >= engine["max_model_len"]:
        return False
    blocks = blocks_for(last, engine["block_size"])
    if engine["former"] == ORCA:
        blocks = reserved_blocks(engine, prompt + output)
    if engine["former"] != VLLM_V1:
        blocks += engine["watermark_blocks"]
    splits = engine["former"] != VLLM_V1 and engine["former"] != VLLM_V0
    whole = not splits and engine["chunked_prefill"] == 0
    too_long = whole and last > engine["max_num_batched_tokens"]
    return not too_long and blocks <= engine["num_blocks"]


@kernel
def orca_blocks(engine, request):
    """KV blocks that Orca reserves for a request."""
    return reserved_blocks(engine, request["prompt"] + request["output"])


@kernel
def reserved_blocks(engine, length):
    """What Orca reserves: for the longest sequence, a power of 2, or the true length."""
    tokens = engine["max_model_len"]
    if engine["orca_reserve"] > 0:
        tokens = length
    if engine["orca_reserve"] == 1:
        power = 1
        while power < tokens:
            power *= 2
        tokens = min(power, engine["max_model_len"])
    return blocks_for(tokens, engine["block_size"])
