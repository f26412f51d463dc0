"""Mooncake (FAST 2025): the earliest first token, and no work for what would come too late.

After notes on Algorithm 1 and section 7 of the paper; its scheduler is not public. Loads are times
over their targets, so above 1 a request would miss them, and is refused at its arrival, before it
costs anything.
"""

from sgym._jit import kernel
from sgym.core import queue, steer
from sgym.core.layout import NONE, PREFILL, WAITING, Transfer
from sgym.policies import durations, estimate, loads
from sgym.policies.loads import ANYONE, ARRIVALS, HANDOFFS

NEVER_REJECT, EARLY, PREDICTED = range(3)
"""Parameter `rejection`: by the load of decoding now, or by that at the end of the prefill."""
HANDOFF = int(Transfer.HANDOFF)


@kernel
def fastest_prefill(state, policy, memory, r):
    """The prefill instance with the earliest first token; notes if the request is to be refused."""
    asked = ARRIVALS
    if loads.count_takers(state, r, asked) == 0:
        asked = ANYONE
    best, soonest, own = 0, -1.0, 0.0
    for i in range(state.instances.size):
        if not loads.takes(state, i, r, asked):
            continue
        hit, prompt = loads.hit_tokens(state, i, r), int(state.requests[r]["prompt"])
        alone = durations.prefill_time(state, i, prompt, hit)
        until = durations.queue_time(state, memory, i) + alone
        if soonest < 0.0 or until < soonest:
            best, soonest, own = i, until, alone
    memory.requests[r]["prefill_time"] = own
    load = soonest / policy["ttft_target"]
    if policy["rejection"] == EARLY:
        load = max(load, decode_load(state, policy, r))
    elif policy["rejection"] == PREDICTED:
        load = max(load, predicted_decode_load(state, policy, memory, (r, soonest)))
    memory.policy[0]["rejects"] = 1 if policy["rejection"] > 0.0 and load > 1.0 else 0
    return best


@kernel
def reject(state, i):
    """Refuse the request that was just routed to instance i."""
    r = state.cluster[0]["request"]
    if state.requests[r]["phase"] == WAITING:
        steer.reject(state, i, r)


@kernel
def decode_load(state, policy, r):
    """How near to its limits the least loaded decode instance would be with this request."""
    j = least_loaded_decode(state, r)
    tokens = durations.context(state, j) + int(state.requests[r]["prompt"])
    return load_with(state, policy, j, (loads.in_flight(state, j) + 1.0, tokens))


@kernel
def load_with(state, policy, j, work):
    """Time per token over its target, or share of memory, if that is more.

    `work`: requests, and tokens of context.
    """
    seqs, tokens = work
    engine = state.engines[j]
    time = durations.decode_time(state, j, seqs, tokens) / policy["tpot_target"]
    return max(time, tokens / (float(engine["num_blocks"]) * engine["block_size"]))


@kernel
def least_loaded_decode(state, r):
    """Of those that decode, the one whose iterations would be the shortest with request r."""
    best, least = NONE, 0.0
    prompt = int(state.requests[r]["prompt"])
    for j in range(state.instances.size):
        if not loads.takes(state, j, r, HANDOFFS):
            continue
        seqs, tokens = loads.in_flight(state, j) + 1.0, durations.context(state, j) + prompt
        time = durations.decode_time(state, j, seqs, tokens)
        if best == NONE or time < least:
            best, least = j, time
    return max(best, 0)


@kernel
def predicted_decode_load(state, policy, memory, question):
    """The decode instances' mean load when this request's prefill is done.

    Every request is taken to decode for `decode_time` seconds. `question`: the request, and the
    seconds until then.
    """
    r, until = question
    seqs, tokens = 1, int(state.requests[r]["prompt"])
    decoders = 0
    for i in range(state.instances.size):
        more, context = 0, 0
        if loads.takes(state, i, r, HANDOFFS):
            decoders += 1
            more, context = still_decoding(state, i, until - policy["decode_time"])
        elif state.instances[i]["role"] == PREFILL:
            more, context = newly_decoding(state, memory, i, (until, policy["decode_time"]))
        seqs += more
        tokens += context
    share = 1.0 / max(decoders, 1)
    return load_with(state, policy, least_loaded_decode(state, r), (seqs * share, tokens * share))


@kernel
def still_decoding(state, i, since):
    """How many requests of instance i got their first token later than `since` seconds from now.

    Also returns their tokens of context.
    """
    begun = state.cluster[0]["clock"] + since
    count, tokens = 0, 0
    for k in range(state.instances[i]["num_running"]):
        more, context = if_begun_after(state.requests[state.running[i, k]], begun)
        count += more
        tokens += context
    for k in range(state.cluster[0]["num_transfers"]):
        transfer = state.transfers[k]
        if transfer["kind"] == HANDOFF and transfer["target"] == i:
            more, context = if_begun_after(state.requests[transfer["request"]], begun)
            count += more
            tokens += context
    r = queue.first(state.instances[i])
    while r != NONE:
        more, context = if_begun_after(state.requests[r], begun)
        count += more
        tokens += context
        r = queue.following(state.links, r)
    return count, tokens


@kernel
def if_begun_after(request, begun):
    """1 and the tokens of a request whose first token came after `begun`, else 0 and 0."""
    if request["generated"] > 0 and request["first_token"] > begun:
        return 1, int(request["prompt"]) + int(request["generated"])
    return 0, 0


@kernel
def newly_decoding(state, memory, i, times):
    """How many requests of prefill instance i will be decoding in `until` seconds, and tokens.

    `times`: `until`, and how long each decodes. They are prefilled one after the other.
    """
    until, duration = times
    instance = state.instances[i]
    done = 0.0
    if instance["busy"]:
        done += max(estimate.busy_until(instance) - state.cluster[0]["clock"], 0.0)
    count, tokens = 0, 0
    for k in range(instance["num_running"]):
        request = state.requests[state.running[i, k]]
        known = int(request["prompt"]) + int(request["generated"])
        done += durations.prefill_time(state, i, known, int(request["computed"]))
        if until - duration < done <= until:
            count += 1
            tokens += known
    r = queue.first(instance)
    while r != NONE and done <= until:
        done += durations.expected_time(state, memory, i, r)
        if until - duration < done <= until:
            count += 1
            tokens += int(state.requests[r]["prompt"])
        r = queue.following(state.links, r)
    return count, tokens
