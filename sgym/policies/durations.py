"""How long an instance will take for what it has to do, by its own latency tables."""

from sgym._jit import kernel
from sgym.core import queue
from sgym.core.layout import NONE, Former
from sgym.policies import estimate, loads

WHOLE = int(Former.VLLM_V0)
HALVINGS = 24  # of the interval in which `most_context` looks


@kernel
def prefill_time(state, i, tokens, computed):
    """Seconds in which instance i, doing nothing else, prefills one request of so many tokens.

    `computed` of them have their KV already; the rest is cut into chunks of its token budget.
    """
    engine = state.engines[i]
    latency = state.latency[engine["latency"]]
    most = int(engine["max_num_batched_tokens"])
    if engine["former"] == WHOLE and engine["chunked_prefill"] == 0:
        most = max(most, int(tokens))
    seconds, done = 0.0, int(computed)
    while done < tokens:
        chunk = min(most, tokens - done)
        seconds += estimate.batch_time(latency, chunk, done, 0, 0)
        done += chunk
    return seconds


@kernel
def token_time(state, i):
    """Seconds per token that instance i needs for a full batch of prefill."""
    budget = int(state.engines[i]["max_num_batched_tokens"])
    return prefill_time(state, i, budget, 0) / budget


@kernel
def queue_time(state, memory, i):
    """Seconds until instance i has prefilled all it was given, one request after the other.

    A waiting request counts with what was estimated when it was routed there, if anything was.
    """
    instance = state.instances[i]
    seconds = 0.0
    if instance["busy"]:
        seconds += max(estimate.busy_until(instance) - state.cluster[0]["clock"], 0.0)
    for k in range(instance["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"]:
            known = int(request["prompt"]) + int(request["generated"])
            seconds += prefill_time(state, i, known, int(request["computed"]))
    r = queue.first(instance)
    while r != NONE:
        if state.requests[r]["other"] == NONE:
            seconds += expected_time(state, memory, i, r)
        r = queue.following(state.links, r)
    return seconds


@kernel
def expected_time(state, memory, i, r):
    """Seconds in which instance i prefills a waiting request: its estimate at arrival, or new."""
    seconds = memory.requests[r]["prefill_time"]
    if seconds > 0.0:
        return seconds
    request = state.requests[r]
    return prefill_time(state, i, int(request["prompt"]) + int(request["generated"]), 0)


@kernel
def decode_time(state, i, seqs, tokens):
    """Seconds of an iteration of instance i that decodes `seqs` requests with so many tokens."""
    latency = state.latency[state.engines[i]["latency"]]
    return estimate.batch_time(latency, 0, 0, float(seqs), float(tokens))


@kernel
def most_context(state, i, seqs, seconds):
    """Most tokens of context with which `seqs` requests decode in `seconds` an iteration.

    Never more than memory holds; 0 if even none is too slow.
    """
    engine = state.engines[i]
    low, high = 0.0, float(engine["num_blocks"]) * engine["block_size"]
    if decode_time(state, i, seqs, high) <= seconds:
        return high
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if decode_time(state, i, seqs, middle) <= seconds:
            low = middle
        else:
            high = middle
    return low


@kernel
def context(state, i):
    """Tokens of context that instance i holds or will hold once what waits there is in."""
    return loads.committed_blocks(state, i) * int(state.engines[i]["block_size"])
