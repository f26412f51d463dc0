"""Learning to rank (NeurIPS 2024, vllm-ltr): whoever is predicted to be shorter goes first.

A request is scored once, when it arrives. In each iteration all requests stand in one order, and
as many from its head as fit are picked; running ones behind them lose seat and memory where a
picked one needs it. Who has not run for long goes before all others for some iterations.
"""

from sgym._jit import kernel
from sgym.core import batch, queue
from sgym.core.layout import NONE
from sgym.policies import acting, orders

AHEAD = 1e9  # score by which a starved request goes before all others


@kernel
def score(policy, memo, request):
    """Higher for shorter predictions, highest for the starved."""
    rank = -orders.expected_output(policy, request)
    return rank + AHEAD if memo["boosted"] > 0 else rank


@kernel
def on_arrival(state, policy, memory, i):
    """Score a request that joins the queue of instance i."""
    r = state.cluster[0]["request"]
    memory.requests[r]["ran"] = memory.instances[i]["iterations"]
    state.requests[r]["waiting_score"] = score(policy, memory.requests[r], state.requests[r])


@kernel
def before_batch(state, policy, memory, i):
    """Order everybody, pick from the head, and make room for those picked."""
    acting.release(state, i)
    rescue_starved(state, policy, memory, i)
    for k in range(state.instances[i]["num_running"]):
        r = state.running[i, k]
        own = score(policy, memory.requests[r], state.requests[r])
        state.requests[r]["running_score"] = own
        state.requests[r]["waiting_score"] = own
    acting.sort_running(state, i)
    if state.instances[i]["num_waiting"] > 0:
        make_room(state, i)


@kernel
def rescue_starved(state, policy, memory, i):
    """Boost those that have not run for `starvation` iterations, waiting or running."""
    now = memory.instances[i]["iterations"]
    r = queue.first(state.instances[i])
    while r != NONE:
        following = queue.following(state.links, r)
        if boost(policy, memory.requests[r], now):
            acting.rescore(state, i, r, score(policy, memory.requests[r], state.requests[r]))
        r = following
    for k in range(state.instances[i]["num_running"]):
        boost(policy, memory.requests[state.running[i, k]], now)


@kernel
def boost(policy, memo, now):
    """Let a starved request run `period` iterations before others; False if it is not starved."""
    if now - memo["ran"] < policy["starvation"]:
        return False
    memo["ran"] = now
    memo["boosted"] = int(policy["period"])
    return True


@kernel
def make_room(state, i):
    """Preempt running requests behind the picked ones, the last first, until these fit."""
    engine, instance = state.engines[i], state.instances[i]
    kept, newcomers, needed = pick(state, i)
    if newcomers == 0:
        return
    short = needed + engine["watermark_blocks"] - instance["free_blocks"]
    while instance["num_running"] > kept:
        seats = instance["num_running"] + instance["num_loading"] + newcomers
        if short <= 0 and seats <= instance["active_cap"]:
            break
        last = instance["num_running"] - 1
        short -= state.requests[state.running[i, last]]["blocks"]
        acting.preempt(state, i, last)


@kernel
def pick(state, i):
    """How many running and waiting requests from the head of the common order fit together.

    Into the token budget, the seats and the memory. Also returns the KV blocks they lack.
    """
    engine, instance = state.engines[i], state.instances[i]
    tokens = engine["max_num_batched_tokens"]
    room = engine["num_blocks"] - engine["watermark_blocks"]
    kept, newcomers, needed = 0, 0, 0
    w = acting.first_waiting(state, i)
    while True:
        is_running = acting.runs_next(state, i, kept, w)
        if not is_running and w == NONE:
            break
        r = state.running[i, kept] if is_running else w
        request = state.requests[r]
        known = request["prompt"] + request["generated"]
        share = min(known - request["computed"], tokens)
        if share <= 0 or kept + newcomers + instance["num_loading"] >= instance["active_cap"]:
            break
        missing = acting.blocks_needed(state, i, r, share)
        if not is_running:
            missing = batch.blocks_for(known, engine["block_size"])
        if request["blocks"] + missing > room:
            break
        room -= request["blocks"] + missing
        tokens -= share
        needed += missing
        if is_running:
            kept += 1
        else:
            newcomers += 1
            w = queue.following(state.links, w)
    return kept, newcomers, needed


@kernel
def after_batch(state, memory, i):
    """Note who runs in the iteration that begins."""
    memo = memory.instances[i]
    memo["iterations"] += 1
    for k in range(state.instances[i]["num_running"]):
        r = state.running[i, k]
        if state.requests[r]["scheduled"] > 0:
            memory.requests[r]["ran"] = memo["iterations"]
            memory.requests[r]["boosted"] = max(0, memory.requests[r]["boosted"] - 1)
