"""Andes (arXiv 2404.16283): under memory pressure, a knapsack of whom to serve.

An item is a request, its weight the KV blocks of its context, its value what serving it rather
than letting it wait is worth: in Andes' own estimate of QoE, or in smooth goodput.
"""

import math

from sgym._jit import kernel
from sgym.core import batch, metric, queue
from sgym.core.layout import NONE, RUNNING
from sgym.policies import acting, estimate
from sgym.policies.kinds import ANDES

LONG = 500  # output tokens beyond which Andes no longer computes the value
CERTAIN = 10.0  # value of those, and of running requests that were preempted before


@kernel
def weight(engine, request):
    """KV blocks as Andes counts them: max(1, round(tokens / block size + 0.5)), half to even."""
    size = engine["block_size"]
    tokens = request["prompt"] + request["generated"]
    whole = tokens // size
    if tokens % size != 0 or whole % 2 == 1:
        whole += 1
    return max(1, whole)


@kernel
def value(state, policy, i, r, pace):
    """What serving request r is worth; `pace` = seconds of a token on this instance."""
    if policy["kind"] == ANDES:
        return qoe_gain(policy, state.requests[r], state.cluster[0]["clock"])
    return benefit_gain(state, policy, i, r, pace)


@kernel
def qoe_gain(policy, request, now):
    """QoE after `horizon` seconds with service less that without (Andes' AvgQoEOptimizer)."""
    running = request["phase"] == RUNNING
    if request["generated"] > LONG or (running and request["preemptions"] > 0):
        return CERTAIN
    passed = now - request["arrival"]
    pace, tokens = request["token_time"], request["generated"]
    first = request["first_delay"] + pace
    expected = (passed + policy["horizon"]) / pace
    served = 1.0
    if passed >= first + (tokens + 1) * pace or policy["token_latency"] > pace:
        missing = expected - tokens - policy["horizon"] / max(policy["token_latency"], 1e-9)
        served = 1.0 - (missing / expected) ** 2
    waits = 1.0 - ((expected - tokens) / expected) ** 2
    if tokens == 0:
        waits = 1.0 if passed + policy["horizon"] <= first else 0.0
    return served - waits


@kernel
def benefit_gain(state, policy, i, r, pace):
    """Benefit after the next `horizon` tokens with service less that without.

    Served, a request that has to be prefilled gets fewer tokens, and late ones; waiting, its reader
    gets none, and the idle latency grows as soon as it runs dry. Evicting a running one has a price
    besides: while its KV is computed or copied again, all others get no token.
    """
    request, cluster = state.requests[r], state.cluster[0]
    now, until = cluster["clock"], cluster["clock"] + policy["horizon"] * pace
    first = now + pace
    left = request["prompt"] + request["generated"] - request["computed"]
    if request["generated"] == 0 or left > 1:
        first += estimate.prefill_time(state, i, left)
    tokens = max(0.0, math.floor((until - first) / pace + 1.0))
    if not math.isnan(request["predicted"]):
        tokens = min(tokens, max(1.0, request["predicted"] - request["generated"]))
    waiting = max(request["lateness"], until - request["due"])
    served = waiting
    if tokens >= 1.0:
        behind = max(0.0, (tokens - 1.0) * (pace - request["token_time"]))
        served = max(request["lateness"], first - request["due"] + behind)
    lost = metric.penalty(cluster, waiting) - metric.penalty(cluster, served)
    gain = request["weight"] * tokens + metric.slope(cluster, request) * lost
    if request["phase"] == RUNNING:  # evicted, it would cost the others time as well
        gain += delay(state, i, r) / pace * state.instances[i]["num_running"]
    return gain


@kernel
def delay(state, i, r):
    """Seconds that instance i would lose, were request r evicted and brought back."""
    request, engine = state.requests[r], state.engines[i]
    if engine["swap"] == 0:
        return estimate.prefill_time(state, i, request["prompt"] + request["generated"])
    if engine["swap_overlap"]:
        return 0.0
    size = state.cluster[0]["kv_bytes"] * request["computed"]
    return 2.0 * size / engine["swap_bandwidth"]


@kernel
def before_batch(state, policy, memory, i):
    """Every `period` iterations, if memory is short, choose whom to serve; else V0's own way."""
    memo, engine, instance = memory.instances[i], state.engines[i], state.instances[i]
    acting.release(state, i)
    if memo["solved"] > 0:
        forget(state, i)
        memo["solved"] = 0
    memo["iterations"] += 1
    free = max(0, instance["free_blocks"] - instance["num_running"])
    used = (engine["num_blocks"] - free) / engine["num_blocks"]
    if memo["iterations"] % max(1, int(policy["period"])) == 0 and used >= policy["pressure"]:
        memo["solved"] = 1
        solve(state, policy, memory, i)


@kernel
def forget(state, i):
    """Take back the scores of the last choice: waiting requests stand in their old order again."""
    r = queue.first(state.instances[i])
    while r != NONE:
        state.requests[r]["running_score"] = 0.0
        r = queue.following(state.links, r)
    acting.reorder_waiting(state, i)
    for k in range(state.instances[i]["num_running"]):
        state.requests[state.running[i, k]]["waiting_score"] = 0.0


@kernel
def solve(state, policy, memory, i):
    """Fill the memory greedily by value per block; evict and hold who is not in it."""
    pace = present_pace(state, i)
    if not rate_all(state, policy, memory, i, pace):
        return  # there is room for all
    total, w = fill(state, memory, i)
    if total <= 0.0:  # nobody gains: leave the running ones alone, let nobody in
        hold_from(state, i, acting.first_waiting(state, i))
        return
    hold_from(state, i, w)
    k = 0
    while k < state.instances[i]["num_running"]:
        r = state.running[i, k]
        if memory.requests[r]["picked"]:
            k += 1
            continue
        acting.preempt(state, i, k)
        batch.to_back(state.requests, state.links, state.engines[i], state.instances[i], r)


@kernel
def present_pace(state, i):
    """Seconds of an iteration in which everybody who runs decodes."""
    latency = state.latency[state.engines[i]["latency"]]
    decodes, kv = estimate.decode_load(state, i)
    return estimate.batch_time(latency, 0, 0, max(decodes, 1), kv)


@kernel
def rate_all(state, policy, memory, i, pace):
    """Score everybody by value per block; False if all fit into memory, and nothing is to do."""
    engine = state.engines[i]
    blocks = 0
    for k in range(state.instances[i]["num_running"]):
        blocks += weight(engine, state.requests[state.running[i, k]])
    r = queue.first(state.instances[i])
    while r != NONE:
        blocks += weight(engine, state.requests[r])
        r = queue.following(state.links, r)
    if blocks <= engine["num_blocks"]:
        return False
    for k in range(state.instances[i]["num_running"]):
        r = state.running[i, k]
        state.requests[r]["waiting_score"] = rating(state, policy, i, r, pace)
        memory.requests[r]["picked"] = 0
    r = queue.first(state.instances[i])
    while r != NONE:  # kept apart first, as scoring moves them
        state.requests[r]["running_score"] = rating(state, policy, i, r, pace)
        r = queue.following(state.links, r)
    acting.reorder_waiting(state, i)
    return True


@kernel
def rating(state, policy, i, r, pace):
    """Value per block."""
    return value(state, policy, i, r, pace) / weight(state.engines[i], state.requests[r])


@kernel
def fill(state, memory, i):
    """Pick by rating until the first that does not fit.

    Returns the value of those picked, and the first waiting request that is not among them.
    """
    engine = state.engines[i]
    room, total = engine["num_blocks"], 0.0
    w = acting.first_waiting(state, i)
    while True:
        best = NONE  # the best running request that is not picked yet
        for k in range(state.instances[i]["num_running"]):
            r = state.running[i, k]
            if memory.requests[r]["picked"] == 0 and (
                best == NONE
                or state.requests[r]["waiting_score"] > state.requests[best]["waiting_score"]
            ):
                best = r
        if best == NONE and w == NONE:
            break
        r = best
        if best == NONE or (
            w != NONE and state.requests[w]["waiting_score"] > state.requests[best]["waiting_score"]
        ):
            r = w
        size = weight(engine, state.requests[r])
        if size > room:
            break
        room -= size
        total += state.requests[r]["waiting_score"] * size
        memory.requests[r]["picked"] = 1
        if r == w:
            w = queue.following(state.links, w)
    return total, w


@kernel
def hold_from(state, i, r):
    """Hold waiting request r and all behind it."""
    while r != NONE:
        acting.hold(state, i, r)
        r = queue.following(state.links, r)
