"""Writing to the optional logs; each is empty where it is not wanted."""

from sgym._jit import kernel


@kernel
def token(tokens, cluster, r, index, now):
    """Token `index`, counted from 1, of request r was delivered."""
    entry = tokens[cluster["num_tokens_logged"]]
    entry["request"] = r
    entry["index"] = index
    entry["time"] = now
    cluster["num_tokens_logged"] += 1


@kernel
def move(state, kind, r, source, target, tokens, start, end):
    """Something happened to request r outside of a batch."""
    if state.moves.size == 0:
        return
    cluster = state.cluster[0]
    entry = state.moves[cluster["num_moves_logged"]]
    entry["kind"] = kind
    entry["request"] = r
    entry["source"] = source
    entry["target"] = target
    entry["tokens"] = tokens
    entry["start"] = start
    entry["end"] = end
    cluster["num_moves_logged"] += 1


@kernel
def batched(state, r, tokens, computed):
    """Request r is in the iteration being formed; tokens = 0: it was preempted."""
    if state.batches.size == 0:
        return
    cluster = state.cluster[0]
    entry = state.batches[cluster["num_batches_logged"]]
    entry["iteration"] = cluster["iterations"]
    entry["request"] = r
    entry["tokens"] = tokens
    entry["computed"] = computed
    cluster["num_batches_logged"] += 1


@kernel
def batch(state, i):
    """The members of the batch of instance `i`, in running order."""
    if state.batches.size == 0:
        return
    for k in range(state.instances[i]["num_running"]):
        r = state.running[i, k]
        tokens = state.requests[r]["scheduled"]
        if tokens > 0:
            batched(state, r, tokens, state.requests[r]["computed"] - tokens)


@kernel
def iteration(state, i, start, duration):
    """An iteration of instance `i` was formed."""
    if state.iterations.size == 0:
        return
    cluster, instance = state.cluster[0], state.instances[i]
    entry = state.iterations[cluster["num_iterations_logged"]]
    entry["instance"] = i
    entry["prefill_tokens"] = instance["prefill_tokens"]
    entry["decode_seqs"] = instance["decode_seqs"]
    entry["num_running"] = instance["num_running"]
    entry["num_waiting"] = instance["num_waiting"]
    entry["free_blocks"] = instance["free_blocks"]
    entry["kv_tokens"] = instance["kv_tokens"]
    entry["start"] = start
    entry["duration"] = duration
    cluster["num_iterations_logged"] += 1
