"""Slack-bounded chunking: as much prefill as the most urgent reader can wait for.

After Niyama (arXiv 2503.22562), SOLA (MLSys 2025) and SLOs-Serve (arXiv 2504.08784). Deadlines are
those of the metric: when a reader would wait longer than ever before.
"""

import math

from sgym._jit import kernel
from sgym.core import queue
from sgym.core.layout import NEVER, NONE
from sgym.policies import acting, estimate

HOPELESS = -1e9  # added to the score of a request that can no longer meet its deadline
DECODING = 1e9  # score of decodes less their deadline: they come before all prefills


@kernel
def deadline(request):
    """Seconds; before this moment the request loses no benefit."""
    if request["due"] >= NEVER:  # counted from the first token, which is not there yet
        return request["arrival"] + request["first_delay"] + request["token_time"]
    return request["due"] + max(request["lateness"], 0.0)


@kernel
def score(state, policy, i, r, computed):
    """Highest for the most urgent: deadline and work to do; the hopeless behind all others."""
    request = state.requests[r]
    work = estimate.prefill_time(state, i, request["prompt"] + request["generated"] - computed)
    own = -(deadline(request) + policy["prompt_weight"] * work)
    if state.cluster[0]["clock"] + work > deadline(request):
        own += HOPELESS
    return own


@kernel
def on_arrival(state, policy, i):
    """Score a request that joins the queue of instance i."""
    r = state.cluster[0]["request"]
    state.requests[r]["waiting_score"] = score(state, policy, i, r, state.requests[r]["computed"])


@kernel
def before_batch(state, policy, i):
    """Relegate who has become hopeless, order the running ones, and set the token budget."""
    r = queue.first(state.instances[i])
    while r != NONE and state.requests[r]["waiting_score"] > HOPELESS / 2:
        following = queue.following(state.links, r)
        acting.rescore(state, i, r, score(state, policy, i, r, state.requests[r]["computed"]))
        r = following
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        request["waiting_score"] = score(state, policy, i, state.running[i, k], 0)
        if request["prefilling"]:
            own = score(state, policy, i, state.running[i, k], request["computed"])
            request["running_score"] = own
        else:
            request["running_score"] = DECODING - deadline(request)
    acting.sort_running(state, i)
    set_budget(state, policy, i)


@kernel
def set_budget(state, policy, i):
    """Let the iteration be as long as the least slack of a decode that can still be met."""
    engine, instance = state.engines[i], state.instances[i]
    latency = state.latency[engine["latency"]]
    decodes, kv = estimate.decode_load(state, i)
    most = engine["max_num_batched_tokens"] - decodes
    slack = least_slack(state, i, estimate.batch_time(latency, 0, 0, decodes, kv))
    chunk = largest_chunk(latency, (next_prefix(state, i), decodes, kv), most, slack)
    chunk = min(max(chunk, int(policy["floor"])), most)
    instance["token_budget"] = max(1, decodes + chunk)


@kernel
def least_slack(state, i, soonest):
    """Seconds until the first deadline of a decode, of those that `soonest` seconds can meet."""
    least = math.inf
    now = state.cluster[0]["clock"]
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"] == 0:
            slack = deadline(request) - now
            if slack >= soonest:
                least = min(least, slack)
    return least


@kernel
def next_prefix(state, i):
    """KV entries in front of the chunk that is next: of an unfinished prefill, if there is one."""
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"]:
            return int(request["computed"])
    return 0


@kernel
def largest_chunk(latency, load, most, slack):
    """Most prefill tokens, up to `most`, whose iteration takes at most `slack` seconds.

    `load` = (prefix of the chunk, decoding sequences, their KV entries).
    """
    prefix, decodes, kv = load
    if most <= 0 or estimate.batch_time(latency, most, prefix, decodes, kv) <= slack:
        return most
    fits, too_long = 0, most
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if estimate.batch_time(latency, middle, prefix, decodes, kv) <= slack:
            fits = middle
        else:
            too_long = middle
    return fits
