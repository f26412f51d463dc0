"""What a window was worth, in one walk along the request table: compiled, as learners ask often.

The numbers are those of `smooth` and `experience`, to the last bit.
"""

from typing import NamedTuple

import numpy as np

from sgym.config import Slo
from sgym.core.gains import sum_up
from sgym.core.layout import Penalty
from sgym.metrics.smooth import Floats


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
    sums = sum_up(requests, *window, form, cap, by_tokens, benefit, ttft, tpot)
    first, paced, *counts = map(int, sums)
    return Gains(benefit, ttft[:first], tpot[:paced], *counts)
