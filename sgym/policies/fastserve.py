"""FastServe: a skip-join multi-level feedback queue (arXiv 2305.05920, LLMServe/FastServe).

A request joins the level whose quantum its prefill would use up, goes down a level each time it
has used up the quantum of its own, and is served from the highest level that is not empty. Those
that are not served keep their KV on the GPU until memory is short, then the last of the lowest
level loses it first.
"""

from sgym._jit import kernel
from sgym.core import batch, queue
from sgym.core.layout import HOST, NONE
from sgym.policies import acting, estimate

LEVEL = float(1 << 40)  # score between two levels; places within one are far less
SHORT_OF_HOST = 0.1  # share of free host memory below which no prompt is started


@kernel
def score(memo):
    """Highest for the highest level, and its first place."""
    return -(memo["level"] * LEVEL + memo["place"])


@kernel
def on_arrival(state, policy, memory, i):
    """A request joins the back of the level that its prefill time says."""
    r = state.cluster[0]["request"]
    request, memo = state.requests[r], memory.requests[r]
    seconds = estimate.prefill_time(state, i, int(request["prompt"]))
    memo["level"] = 0
    while policy["quantum"] * (1 << int(memo["level"])) < seconds and memo["level"] < 62:
        memo["level"] += 1
    memory.instances[i]["back"] += 1
    memo["place"] = memory.instances[i]["back"]
    memo["used"] = 0.0
    memo["served"] = state.cluster[0]["clock"]
    request["waiting_score"] = score(memo)


@kernel
def to_front(memory, i, r):
    """Put a request at the front of its level."""
    memory.instances[i]["front"] -= 1
    memory.requests[r]["place"] = memory.instances[i]["front"]


@kernel
def before_batch(state, policy, memory, i):
    """Pick whom to serve, make room for them, and let nobody else in."""
    acting.release(state, i)
    memo = memory.instances[i]
    if memo["iterations"] > 0 and memo["iterations"] % max(1, int(policy["period"])) == 0:
        promote_starved(state, policy, memory, i)
    memo["iterations"] += 1
    for k in range(state.instances[i]["num_running"]):
        r = state.running[i, k]
        state.requests[r]["running_score"] = score(memory.requests[r])
        state.requests[r]["waiting_score"] = score(memory.requests[r])
    acting.sort_running(state, i)
    picked = pick(state, policy, i)
    evicts = make_room(state, policy, i, picked)
    admit_only(state, policy, i, picked, evicts)


@kernel
def promote_starved(state, policy, memory, i):
    """Those not served for `starvation` seconds go to the front of the highest level."""
    now = state.cluster[0]["clock"]
    r = queue.first(state.instances[i])
    while r != NONE:
        following = queue.following(state.links, r)
        if now - memory.requests[r]["served"] >= policy["starvation"]:
            memory.requests[r]["level"] = 0
            to_front(memory, i, r)
            acting.rescore(state, i, r, score(memory.requests[r]))
        r = following
    for k in range(state.instances[i]["num_running"]):
        r = state.running[i, k]
        if now - memory.requests[r]["served"] >= policy["starvation"]:
            memory.requests[r]["level"] = 0
            to_front(memory, i, r)


@kernel
def pick(state, policy, i):
    """From the head of the common order, a batch of so many requests and prompt tokens.

    Returns the number of running requests, of swapped ones and of prompts in it, the tokens of
    these prompts, and the KV blocks that they all lack.
    """
    engine, instance = state.engines[i], state.instances[i]
    host_is_short = instance["free_host_blocks"] < SHORT_OF_HOST * engine["host_blocks"]
    kept, swapped, prompts, tokens, needed = 0, 0, 0, 0, 0
    w = acting.first_waiting(state, i)
    while kept + swapped + prompts < policy["batch"]:
        is_running = acting.runs_next(state, i, kept, w)
        if not is_running and w == NONE:
            break
        r = state.running[i, kept] if is_running else w
        request = state.requests[r]
        known = request["prompt"] + request["generated"]
        if not is_running:
            w = queue.following(state.links, w)
        is_prompt = not is_running and request["other"] == NONE
        if is_prompt and engine["swap"] and host_is_short:
            acting.hold(state, i, r)
            continue
        share = known if is_prompt else 1
        if tokens + share > policy["prompt_tokens"] and tokens > 0:
            break
        if is_running:
            kept += 1
            needed += acting.blocks_needed(state, i, r, 1)
            continue
        needed += batch.blocks_for(known, engine["block_size"])
        if is_prompt:
            prompts += 1
            tokens += known
        else:
            swapped += 1
    return kept, swapped, prompts, tokens, needed


@kernel
def make_room(state, policy, i, picked):
    """Evict the last of the lowest level while those picked do not fit; True if anybody went."""
    kept, _, _, _, needed = picked
    instance = state.instances[i]
    short = needed + int(policy["batch"]) - instance["free_blocks"]
    evicts = short > 0
    while short > 0 and instance["num_running"] > kept:
        last = instance["num_running"] - 1
        short -= state.requests[state.running[i, last]]["blocks"]
        acting.preempt(state, i, last)
    return evicts


@kernel
def admit_only(state, policy, i, picked, evicts):
    """Open as many seats and tokens as those picked need: prompts alone, or decodes alone."""
    instance = state.instances[i]
    kept, swapped, prompts, tokens, needed = picked
    if swapped > 0 or prompts == 0:  # V0 brings back who is swapped before it starts prompts
        if instance["num_swapped"] > 0:
            swapped = hold_others(state, policy, i, (swapped, needed, evicts))
        instance["token_budget"] = max(1, kept + swapped)
        prompts = 0
    else:
        if instance["num_swapped"] > 0:
            hold_swapped(state, i)
        swapped = 0
        instance["token_budget"] = tokens
    seats = instance["num_running"] + instance["num_loading"] + swapped + prompts
    instance["active_cap"] = max(1, min(seats, state.engines[i]["max_num_seqs"]))


@kernel
def hold_swapped(state, i):
    """Keep all that are swapped on the host."""
    r = queue.first(state.instances[i])
    while r != NONE:
        if state.requests[r]["other"] == HOST:
            acting.hold(state, i, r)
        r = queue.following(state.links, r)


@kernel
def hold_others(state, policy, i, rules):
    """Hold all prompts, and those swapped ones that are neither picked nor brought in ahead.

    Ahead of their turn come the first `batch` of the order while memory lasts, if nobody had to be
    evicted. `rules` = (swapped requests picked, blocks that those picked lack, evicts). Returns how
    many may come.
    """
    engine, instance = state.engines[i], state.instances[i]
    picked, needed, evicts = rules
    room = instance["free_blocks"] - needed - int(policy["batch"])
    come, looked = 0, 0
    r = queue.first(instance)
    while r != NONE:
        request = state.requests[r]
        if request["other"] != HOST:
            acting.hold(state, i, r)
        elif come < picked:
            come += 1
        else:
            blocks = batch.blocks_for(
                request["prompt"] + request["generated"], engine["block_size"]
            )
            if evicts or looked >= policy["batch"] or blocks > room:
                acting.hold(state, i, r)
            else:
                room -= blocks
                come += 1
        looked += 1
        r = queue.following(state.links, r)
    return come


@kernel
def after_batch(state, policy, memory, i):
    """Charge the iteration that begins to those in it; who used up a quantum goes down a level."""
    instance = state.instances[i]
    for k in range(instance["num_running"]):
        r = state.running[i, k]
        if state.requests[r]["scheduled"] == 0:
            continue
        memo = memory.requests[r]
        memo["used"] += estimate.newest_duration(instance)
        memo["served"] = estimate.busy_until(instance)
        if memo["used"] > policy["quantum"] * (1 << int(memo["level"])):
            memo["level"] = min(memo["level"] + 1, 62)
            memo["used"] = 0.0
        to_front(memory, i, r)
