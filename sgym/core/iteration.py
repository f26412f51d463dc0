"""One iteration of an instance: form a batch, compute it, deliver its tokens."""

import math

from sgym._jit import fetch, kernel
from sgym.core import (
    ahead,
    batch,
    events,
    handoff,
    kv,
    log,
    metric,
    migration,
    network,
    orca,
    sarathi,
    sglang,
    steer,
    swap,
    vllm_v0,
    vllm_v1,
)
from sgym.core.latency import iteration_time, prefill_attention
from sgym.core.layout import FINISHED, GAP_BINS, GAP_MIN, GAP_RATIO, NEVER, NONE, Former

VLLM_V0, SARATHI, ORCA = int(Former.VLLM_V0), int(Former.SARATHI), int(Former.ORCA)
SGLANG = int(Former.SGLANG)
INVERSE_LOG_RATIO = 1.0 / math.log(GAP_RATIO)


@kernel
def iterate(state):
    """Answer SCHEDULE: form a batch under the Steering in force and start its iteration."""
    cluster = state.cluster[0]
    i = cluster["instance"]
    instance, engine, running = state.instances[i], state.engines[i], state.running[i]
    kv.count_up(state, i)
    clear_batch(instance)
    batch.open_pass(instance)
    steer.sort_running(state.requests, instance, running)
    form(state, i)
    instance["starved"] = 0
    if instance["prefill_tokens"] + instance["decode_seqs"] == 0:
        instance["stalled"] = instance["busy"]
        if not instance["busy"]:
            starve(state, instance, running)
        if instance["num_preempted"] > 0 or events.is_empty(instance):
            events.ask(state, i)  # room was made that nobody could use; or it may change its role
        elif instance["num_running"] + instance["num_loading"] == 0:
            handoff.resolve_stall(state, i)
        return
    attention = 0.0
    if instance["num_prefills"] > 0:
        latency = state.latency[engine["latency"]]
        attention = total_prefill_attention(state.requests, instance, latency, running)
    duration = iteration_time(state.latency[engine["latency"]], instance, attention, cluster)
    if engine["swap"]:
        duration += swap.wait(state, i)
    start = cluster["clock"]
    if instance["busy"]:  # async scheduling: it starts when the one under way ends
        start = instance["start"] + instance["duration"]
        instance["next_duration"] = duration
    else:
        instance["start"] = start
        instance["duration"] = duration
        metric.track_running(state.requests, cluster, state.dry, running, instance)
    events.push(state, start + duration, events.ITERATION_ENDS, i)
    if state.iterations.size > 0:
        log.iteration(state, i, start, duration)
    if state.batches.size > 0:
        log.batch(state, i)
    if engine["async_scheduling"]:
        ahead.launch(state, i)
    else:
        instance["busy"] = 1
    instance["iterations"] += 1
    instance["batched_tokens"] += instance["prefill_tokens"] + instance["decode_seqs"]
    cluster["iterations"] += 1
    if engine["async_scheduling"]:
        events.ask(state, i)


@kernel
def starve(state, instance, running):
    """No iteration starts that `track_running` would look at: keep track of all who run."""
    instance["starved"] = 1
    for k in range(instance["num_running"]):
        metric.track(state.requests, state.cluster[0], state.dry, running[k])


@kernel
def form(state, i):
    """Form a batch the way this engine does."""
    former = state.engines[i]["former"]
    if former == VLLM_V0:
        vllm_v0.form(state, i)
    elif former == SARATHI:
        sarathi.form(state, i)
    elif former == ORCA:
        orca.form(state, i)
    elif former == SGLANG:
        sglang.form(state, i)
    else:
        vllm_v1.form(state, i)


@kernel
def clear_batch(instance):
    """Forget the previous batch."""
    instance["prefill_tokens"] = 0
    instance["decode_seqs"] = 0
    instance["num_prefills"] = 0
    instance["num_sampled"] = 0
    instance["num_preempted"] = 0
    instance["kv_tokens"] = 0
    instance["decode_kv"] = 0


@kernel
def total_prefill_attention(requests, instance, latency, running):
    """Seconds of attention of all prefill chunks in the batch."""
    total = 0.0
    for k in range(instance["num_running"]):
        request = requests[running[k]]
        tokens = request["scheduled"]
        if tokens > 0 and (request["generated"] == 0 or request["prefilling"] or tokens > 1):
            total += prefill_attention(latency, tokens, request["computed"] - tokens)
    return total


@kernel
def complete(state, instance, cluster, i):
    """End an iteration: deliver its tokens, let finished requests go."""
    requests, running = state.requests, state.running[i]
    now = cluster["clock"]
    kv.count_up(state, i)
    kept = 0
    next_dry = NEVER
    for k in range(instance["num_running"]):
        r = running[k]
        request = requests[r]
        if request["scheduled"] > 0:
            prefill = request["generated"] == 0 or request["scheduled"] > 1
            if request["prefilling"] or prefill:
                request["streamed"] += instance["duration"]
            request["scheduled"] = 0
            if request["prefilling"] == 0:
                deliver(requests, cluster, state.tokens, r, now)
                if request["generated"] >= request["output"]:
                    finish(state, i, r)
                    continue
                if handoff.leaves(instance, request):
                    handoff.leave(state, i, r)
                    continue
        if migration.wants_to_stop(request) and migration.stop(state, r):
            continue
        next_dry = min(next_dry, metric.dry_time(request))
        running[kept] = r
        kept += 1
    instance["busy_time"] += instance["duration"]
    instance["num_running"] = kept
    instance["next_dry"] = next_dry
    instance["busy"] = 0


@kernel
def deliver(requests, cluster, tokens, r, now):
    """One token of request r is out."""
    request = requests[r]
    if request["generated"] == 0:
        request["first_token"] = now
    else:
        gap = now - request["last_token"]
        if gap > request["longest_gap"]:
            request["longest_gap"] = gap
        if gap != cluster["last_gap"]:
            book_gaps(cluster, gap_bin(gap))
            cluster["last_gap"] = gap
        cluster["last_count"] += 1
    request["last_token"] = now
    metric.deliver(cluster, request, now)
    if tokens.size > 0:
        log.token(tokens, cluster, r, request["generated"], now)


@kernel
def book_gaps(cluster, place):
    """Count from now on gaps in another bin; the last ones go to the histogram."""
    if place != cluster["last_bin"]:
        cluster["gaps"][cluster["last_bin"]] += cluster["last_count"]
        cluster["last_bin"] = place
        cluster["last_count"] = 0
        fetch(cluster["gaps"], place, 1)


@kernel
def gap_bin(gap):
    """Bin of the histogram of times between tokens."""
    if gap <= GAP_MIN:
        return 0
    return min(GAP_BINS - 1, int(math.log(gap / GAP_MIN) * INVERSE_LOG_RATIO))


@kernel
def finish(state, i, r):
    """The last token is out: memory is free again."""
    request, cluster = state.requests[r], state.cluster[0]
    if request["other"] != NONE:
        network.abort(state, r)
    kv.release(state, i, r)
    request["phase"] = FINISHED
    request["finish"] = cluster["clock"]
    request["computed"] = 0
    cluster["num_unfinished"] -= 1
    metric.finish(cluster, request)
