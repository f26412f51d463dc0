"""The best a request can get if machine time has a price: a kernel, called once per set of prices.

Time is cut into buckets of equal length, and a price holds throughout a bucket. A plan of a request
is its lateness, and for every token the bucket that is paid for it; see `bound` for what a plan may
ignore. Places are (bucket, pool) as bucket * pools + pool.
"""

import numpy as np

from sgym._jit import kernel
from sgym.core import metric
from sgym.core.layout import NONE

DEMAND = np.dtype(
    [
        ("start", np.float64),  # seconds; nothing of it can be computed before
        ("first", np.float64),  # seconds from there until its next token, at least
        ("step", np.float64),  # seconds from then on per token, at least
        ("due", np.float64),  # seconds; of its next token
        ("token_time", np.float64),  # seconds: V
        ("weight", np.float64),
        ("alpha", np.float64),  # tokens lost per second, times weight
        ("lateness", np.float64),  # seconds, at least
        ("given", np.int32),  # tokens delivered already
        ("tokens", np.int32),  # tokens that can still be delivered before the end
        ("compute", np.int32),  # tokens to compute for the next one
        ("pairs", np.float64),  # of these and the KV entries they attend to; 0: it is a decode
        ("context", np.int32),  # KV entries then
        ("shared", np.int32),  # KV entries that may be others' too
    ],
    align=True,
)

GROUP = np.dtype(  # neighbouring tokens of a request that are paid in the same bucket
    [
        ("behind", np.int32),  # buckets after that of the next token
        ("tokens", np.int32),
        ("context", np.int32),  # KV entries at the first of them
        ("seen", np.int32),  # bucket up to which `cost` is known
        ("cost", np.float64),  # least price of one of them so far
        ("place", np.int32),  # where that is; NONE = nowhere yet
        ("chosen", np.int32),  # place in the best plan so far; NONE = not delivered
        ("until", np.int32),  # last bucket that it may have in that plan
        ("paid", np.float64),  # its price in that plan
    ],
    align=True,
)

GRID = np.dtype(
    [
        ("begin", np.float64),  # seconds; of the first bucket
        ("bucket", np.float64),  # seconds
        ("blur", np.float64),  # tokens' worth by which places may be dearer and still share the use
        ("buckets", np.int32),
    ],
    align=True,
)


@kernel
def bucket_of(grid, time):
    """The bucket that holds this time, or the nearest one."""
    k = int((time - grid["begin"]) / grid["bucket"])
    return max(0, min(grid["buckets"], k))


@kernel
def blocks_of(demand, machine, context):
    """KV blocks of its own that the request needs for so many entries, at least."""
    size = machine["block_size"]
    return (context + size - 1) // size - demand["shared"] // size


@kernel
def own_seconds(demand, machine, context, first):
    """Seconds of a token besides what the rules of the charges share out."""
    if first and demand["pairs"] > 0.0:
        return (
            machine["per_prompt_token"] * demand["compute"]
            + machine["per_pair"] * demand["pairs"]
            + machine["per_context"] * context
        )
    return machine["per_decode"] + machine["per_kv"] * context


@kernel
def cut(demand, groups, grid):
    """Cut the tokens of a request into groups; returns how many. The first token is one alone."""
    count, size = 0, 16
    for j in range(demand["tokens"]):
        context = demand["context"] + j
        behind = int(j * demand["token_time"] / grid["bucket"])
        if count > 1:
            group = groups[count - 1]
            same = (context - 1) // size == (group["context"] - 1) // size
            if same and (behind == group["behind"] or behind > grid["buckets"]):
                group["tokens"] += 1
                continue
        group = groups[count]
        group["behind"] = behind
        group["tokens"] = 1
        group["context"] = context
        begins = demand["start"]
        if j > 0:
            begins += demand["first"] + (j - 1) * demand["step"]
        group["seen"] = bucket_of(grid, begins) - 1
        group["place"] = NONE
        group["cost"] = 1e300
        group["chosen"] = NONE
        count += 1
    return count


@kernel
def cost_of(price, share, tokens, blocks, seconds):
    """What a token costs at prices per token, KV block, sequence, iteration and second."""
    fixed = price[0] * tokens + price[1] * blocks + price[2] + price[3] * share
    return fixed + price[4] * seconds


@kernel
def look(demand, group, first, until, market, shares, grid):
    """Find the cheapest place of a group up to this bucket, where that is not known yet."""
    machines, prices, serves = market[0], market[1], market[2]
    until = min(until, grid["buckets"] - 1)
    for g in range(machines.size):
        if not serves[g, 0 if first else 1]:
            continue
        machine = machines[g]
        context = group["context"]
        tokens = demand["compute"] if first else 1
        blocks = blocks_of(demand, machine, context)
        seconds = own_seconds(demand, machine, context, first)
        for k in range(group["seen"] + 1, until + 1):
            cost = cost_of(prices[k, g], shares[k], tokens, blocks, seconds)
            if cost < group["cost"]:
                group["cost"] = cost
                group["place"] = k * machines.size + g
    group["seen"] = max(group["seen"], until)


@kernel
def most_gain(demand, groups, count, worth, market):
    """More than all tokens can be worth after their prices, however late they may be."""
    machines, serves, floors = market[0], market[2], market[3]
    total = 0.0
    for n in range(count):
        group, first = groups[n], n == 0
        context, tokens, least = group["context"], demand["compute"] if first else 1, 1e300
        for g in range(machines.size):
            if serves[g, 0 if first else 1]:
                price = floors[group["seen"] + 1, g]
                blocks = blocks_of(demand, machines[g], context)
                seconds = own_seconds(demand, machines[g], context, first)
                least = min(least, cost_of(price, 0.0, tokens, blocks, seconds))
        gain = (worth - least) * group["tokens"]
        if first or gain > 0.0:
            total += gain
    return max(total, 0.0)


@kernel
def best_plan(demand, groups, market, shares, usage, used, cluster, grid):
    """Most that a request can gain, its price taken off; adds what it uses to `usage`."""
    count, end = cut(demand, groups, grid), grid["buckets"]
    lateness = demand["lateness"]
    horizon = grid["begin"] + end * grid["bucket"]
    best, prefilled = -1e300, False
    k = bucket_of(grid, demand["due"] + lateness)
    if count == 0:
        k = end
    late = lateness
    worth = demand["weight"]
    if cluster["scale_by_tokens"]:
        worth -= demand["alpha"] * metric.penalty(cluster, lateness)
    most = most_gain(demand, groups, count, worth, market)
    while True:
        if k == end:  # so late that nothing is owed before the end
            late = max(lateness, horizon - demand["due"])
        loss = demand["alpha"] * metric.penalty(cluster, late)
        worth, total = demand["weight"], -loss
        if cluster["scale_by_tokens"]:
            worth, total = worth - loss, -loss * demand["given"]
        if total + most <= best:
            break
        feasible = True
        for n in range(count):
            group = groups[n]
            until = k + group["behind"] + (1 if n > 0 else 0)
            look(demand, group, n == 0, until, market, shares, grid)
            owed = k < end if n == 0 else k + group["behind"] + 2 <= end
            if group["place"] == NONE:
                feasible = feasible and not owed
                continue
            gain = (worth - group["cost"]) * group["tokens"]
            if owed or gain > 0.0 or n == 0:
                total += gain
        nothing = -loss * (demand["given"] if cluster["scale_by_tokens"] else 1)
        stays = k == end and total <= nothing
        if stays:
            total = nothing
        if feasible and total > best:
            best, prefilled = total, not stays and count > 0
            for n in range(count):
                group = groups[n]
                owed = k < end if n == 0 else k + group["behind"] + 2 <= end
                group["chosen"] = NONE
                if prefilled and (owed or n == 0 or worth > group["cost"]):
                    group["chosen"] = group["place"]
                    group["paid"] = group["cost"]
                    group["until"] = min(end - 1, group["seen"])
        if k == end:
            break
        k += 1
        late = max(lateness, grid["begin"] + k * grid["bucket"] - demand["due"])
    if prefilled:
        for n in range(count):
            if groups[n]["chosen"] != NONE:
                use(demand, groups[n], n == 0, market, shares, usage, used, grid)
    return best


@kernel
def use(demand, group, first, market, shares, usage, used, grid):
    """Add what a group of the chosen plan pays for to `usage`, shared by its cheapest places."""
    machines, prices = market[0], market[1]
    g = group["chosen"] % machines.size
    context, tokens = group["context"], demand["compute"] if first else 1
    blocks = blocks_of(demand, machines[g], context)
    seconds = own_seconds(demand, machines[g], context, first)
    limit = group["paid"] + grid["blur"] * demand["weight"] * tokens_at_stake(demand, first)
    begins = demand["start"]
    if not first:
        begins += demand["first"] + (context - demand["context"] - 1) * demand["step"]
    begin, places = bucket_of(grid, begins), 0
    for again in range(2):
        for k in range(begin, group["until"] + 1):
            cost = cost_of(prices[k, g], shares[k], tokens, blocks, seconds)
            if cost > limit:
                continue
            if again == 0:
                places += 1
                continue
            share = group["tokens"] / places
            row = usage[k, g]
            row[0] += tokens * share
            row[1] += blocks * share
            row[2] += share
            row[3] += shares[k] * share
            row[4] += seconds * share
            used[k] += share


@kernel
def tokens_at_stake(demand, first):
    """What `blur` is relative to: the whole answer for a prefill, else one token."""
    return demand["tokens"] if first else 1


@kernel
def best_plans(demands, groups, market, shares, usage, used, cluster, grid):
    """Sum of `best_plan` over DEMAND (n,), with the weight of what was delivered before.

    Args: GROUP `groups` for scratch; `market` = MACHINE (pools,), prices (buckets, pools, 5) per
    token, KV block, sequence, iteration and second, serves (pools, 2): prefill, decode, and floors
    (buckets + 1, pools, 5), the least price from a bucket on; `shares` (n, buckets), of an
    iteration, summing up to 1 at most in a bucket; `usage` (buckets, pools, 5) and `used` (n,
    buckets), iterations of each request, are overwritten; GRID record `grid`.
    """
    usage[:] = 0.0
    used[:] = 0.0
    total = 0.0
    for r in range(demands.size):
        demand = demands[r]
        total += demand["weight"] * demand["given"]
        total += best_plan(demand, groups, market, shares[r], usage, used[r], cluster, grid)
    return total
