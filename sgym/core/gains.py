"""What a window was worth, in one walk along the request table: `metrics.gains`, compiled."""

import math

from sgym._jit import kernel
from sgym.core import metric
from sgym.core.layout import FINISHED, MOVING, NEVER, PENDING, RUNNING, WAITING


@kernel
def sum_up(requests, start, end, form, cap, by_tokens, benefit, ttft, tpot):
    """Add to `benefit` (classes,), and write `ttft` and `tpot` (num_requests,) from the start on.

    Returns how many of the latter two there are, and the counts of `metrics.gains.Gains` in order.
    """
    first = paced = tokens = counted = decided = on_time = on_time_tokens = 0
    for request in requests:
        arrived = request["phase"] != PENDING and request["arrival"] <= end
        latency = idle_latency(request, arrived, end)
        cost = 0.0
        if latency > -math.inf:
            cost = metric.penalty_by(form, cap, latency)
            if by_tokens:
                cost *= request["generated"]
        gained = request["weight"] * request["generated"] - request["alpha"] * cost
        benefit[request["user_class"]] += gained
        tokens += request["generated"]
        if not arrived or request["finish"] < start:
            continue
        counted += 1
        phase = request["phase"]
        under_way = phase == WAITING or phase == RUNNING or phase == MOVING
        if latency > 0.0 or not under_way:
            decided += 1
        if phase == FINISHED and request["lateness"] <= 0.0:
            on_time += 1
            on_time_tokens += request["generated"]
        if not math.isnan(request["first_token"]):
            ttft[first] = request["first_token"] - request["arrival"]
            first += 1
        if not math.isnan(request["finish"]) and request["output"] > 1:
            steps = request["output"] - 1.0
            tpot[paced] = (request["finish"] - request["first_token"]) / steps
            paced += 1
    return first, paced, tokens, counted, decided, on_time, on_time_tokens


@kernel
def idle_latency(request, arrived, at):
    """The idle latency of `metrics.smooth`, of one request."""
    latency = request["lateness"]
    if request["phase"] != FINISHED:
        latency = max(latency, at - request["due"])
    return latency if arrived and latency > -0.5 * NEVER else -math.inf
