"""What a window was worth, in one walk along the request table: compiled, as learners ask often.

The numbers are those of `smooth` and `experience`, to the last bit.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from sgym._jit import kernel
from sgym.config import Slo
from sgym.core.layout import FINISHED, MOVING, NEVER, PENDING, RUNNING, WAITING, Penalty
from sgym.metrics.smooth import Floats

CAPPED, QUADRATIC = int(Penalty.CAPPED), int(Penalty.QUADRATIC)


class Gains(NamedTuple):
    """Sums over requests."""

    benefit: Floats  # weighted tokens at the window's end per class, over all requests
    ttft: Floats  # seconds to the first token, of those counted that have one
    tpot: Floats  # seconds per token after it, of those counted that have finished with several
    tokens: int  # delivered, over all requests
    counted: int  # requests that count in the window; the others below are some of these
    decided: int  # of which it is certain whether they meet the token SLO
    on_time: int  # which have met it
    on_time_tokens: int  # delivered to these


def gains(requests: np.ndarray, window: tuple[float, float], slo: Slo) -> Gains:
    """Sum up what a window was worth.

    Args:
        requests: REQUEST (num_requests,), as they stand at the end of the window.
        window: start and end, seconds.
        slo: the metric.
    """
    benefit, (ttft, tpot) = np.zeros(len(slo.classes)), np.empty((2, len(requests)))
    form, cap, by_tokens = int(Penalty[slo.penalty.upper()]), slo.penalty_cap, slo.scale_by_tokens
    sums = _sum_up(requests, *window, form, cap, by_tokens, benefit, ttft, tpot)
    first, paced, *counts = sums
    return Gains(benefit, ttft[:first], tpot[:paced], *counts)


@kernel
def _sum_up(
    requests: np.ndarray,
    start: float,
    end: float,
    form: int,
    cap: float,
    by_tokens: bool,
    benefit: np.ndarray,
    ttft: np.ndarray,
    tpot: np.ndarray,
) -> tuple[int, int, int, int, int, int, int]:
    first = paced = tokens = counted = decided = on_time = on_time_tokens = 0
    for request in requests:
        arrived = request["phase"] != PENDING and request["arrival"] <= end
        latency = _idle_latency(request, arrived, end)
        cost = 0.0
        if latency > -math.inf:
            cost = _penalty(latency, form, cap)
            if by_tokens:
                cost *= request["generated"]
        gained = request["weight"] * request["generated"] - request["alpha"] * cost
        benefit[request["user_class"]] += gained
        tokens += request["generated"]
        if not arrived or request["finish"] < start:
            continue
        counted += 1
        phase = request["phase"]
        if latency > 0.0 or phase not in (WAITING, RUNNING, MOVING):
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
def _idle_latency(request: Any, arrived: bool, at: float) -> float:
    latency = request["lateness"]
    if request["phase"] != FINISHED:
        latency = max(latency, at - request["due"])
    return latency if arrived and latency > -0.5 * NEVER else -math.inf


@kernel
def _penalty(latency: float, form: int, cap: float) -> float:
    if form == CAPPED:
        return min(latency, cap)
    return latency * latency if form == QUADRATIC else latency
