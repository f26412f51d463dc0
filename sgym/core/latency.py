"""How long an iteration takes: LATENCY's line plus its measured tables."""

import math

from sgym._jit import kernel
from sgym.core import random


@kernel
def segment(grid, count, x):
    """Index i of the interval grid[i] .. grid[i+1] that holds x, or the outermost one."""
    low, high = 0, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        if grid[middle] <= x:
            low = middle
        else:
            high = middle
    return low


@kernel
def curve(grid, values, count, x):
    """Piecewise linear; constant below the first point, the last slope beyond the last one."""
    if count == 0:
        return 0.0
    if count == 1 or x <= grid[0]:
        return values[0]
    i = segment(grid, count, x)
    share = (x - grid[i]) / (grid[i + 1] - grid[i])
    return values[i] + share * (values[i + 1] - values[i])


@kernel
def share_in(grid, i, x):
    """Where x lies in interval i: 0 at its start, 1 at its end; not below 0, perhaps above 1."""
    return max(0.0, (x - grid[i]) / (grid[i + 1] - grid[i]))


@kernel
def prefill_attention(latency, chunk, prefix):
    """Seconds of attention for `chunk` new tokens of one request behind `prefix` cached ones."""
    if latency["num_chunks"] == 0:
        return 0.0
    i = segment(latency["chunk"], latency["num_chunks"], chunk)
    j = segment(latency["prefix"], latency["num_prefixes"], prefix)
    table = latency["prefill_time"]
    u, v = share_in(latency["chunk"], i, chunk), share_in(latency["prefix"], j, prefix)
    near = table[i, j] + u * (table[i + 1, j] - table[i, j])
    far = table[i, j + 1] + u * (table[i + 1, j + 1] - table[i, j + 1])
    return near + v * (far - near)


@kernel
def decode_attention(latency, batch, kv):
    """Seconds of attention for `batch` decoding sequences with `kv` entries together."""
    if latency["num_batches"] == 0 or batch == 0:
        return 0.0
    context = kv / batch
    i = segment(latency["batch"], latency["num_batches"], batch)
    j = segment(latency["context"], latency["num_contexts"], context)
    table = latency["decode_time"]
    u, v = share_in(latency["batch"], i, batch), share_in(latency["context"], j, context)
    low = table[i, j] + v * (table[i, j + 1] - table[i, j])
    high = table[i + 1, j] + v * (table[i + 1, j + 1] - table[i + 1, j])
    return low + u * (high - low)


@kernel
def iteration_time(latency, instance, prefill_attention_time, cluster):
    """Seconds of the batch that INSTANCE describes."""
    tokens = instance["prefill_tokens"] + instance["decode_seqs"]
    seconds = (
        latency["base"]
        + latency["per_prefill_token"] * instance["prefill_tokens"]
        + latency["per_decode_seq"] * instance["decode_seqs"]
        + latency["per_kv_token"] * instance["kv_tokens"]
    )
    if latency["num_tokens"] > 0:
        seconds += (
            curve(latency["tokens"], latency["tokens_time"], latency["num_tokens"], tokens)
            + curve(
                latency["seqs"], latency["seqs_time"], latency["num_seqs"], instance["num_sampled"]
            )
            + prefill_attention_time
            + decode_attention(latency, instance["decode_seqs"], instance["decode_kv"])
        )
    if latency["noise"] > 0.0:
        cluster["noise_counter"] += 1
        seconds *= math.exp(latency["noise"] * random.normal(int(cluster["noise_counter"])))
    return seconds
