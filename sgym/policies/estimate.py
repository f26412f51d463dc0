"""What a batch would take, as the instance's latency tables say; without noise."""

from sgym._jit import kernel
from sgym.core.latency import curve, decode_attention, prefill_attention


@kernel
def batch_time(latency, chunk, prefix, decodes, kv):
    """Seconds of an iteration.

    Args:
        latency: LATENCY record.
        chunk: prefill tokens of one request, 0 = none.
        prefix: its KV entries before.
        decodes: decoding sequences.
        kv: their KV entries, after the iteration.
    """
    entries = kv + (prefix + chunk if chunk > 0 else 0)
    seconds = (
        latency["base"]
        + latency["per_prefill_token"] * chunk
        + latency["per_decode_seq"] * decodes
        + latency["per_kv_token"] * entries
    )
    if latency["num_tokens"] > 0:
        sampled = decodes + (1 if chunk > 0 else 0)
        seconds += curve(
            latency["tokens"], latency["tokens_time"], latency["num_tokens"], chunk + decodes
        )
        seconds += curve(latency["seqs"], latency["seqs_time"], latency["num_seqs"], sampled)
        seconds += decode_attention(latency, decodes, kv)
        if chunk > 0:
            seconds += prefill_attention(latency, chunk, prefix)
    return seconds


@kernel
def newest_duration(instance):
    """Seconds that the batch formed last takes; with async scheduling, one may be ahead of it."""
    return instance["next_duration"] if instance["busy"] > 1 else instance["duration"]


@kernel
def busy_until(instance):
    """When the last of the iterations under way ends, of which there is one, in seconds."""
    ends = instance["start"] + instance["duration"]
    return ends + instance["next_duration"] if instance["busy"] > 1 else ends


@kernel
def prefill_time(state, i, tokens):
    """Seconds that a prompt of so many tokens would take on instance i, alone and in one piece."""
    return batch_time(state.latency[state.engines[i]["latency"]], tokens, 0, 0, 0)


@kernel
def decode_load(state, i):
    """Number of decoding requests of instance i, and their KV entries after one more token."""
    count, kv = 0, 0
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"] == 0:
            count += 1
            kv += request["computed"] + 1
    return count, kv
