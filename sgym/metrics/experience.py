"""What single requests experienced: latencies, conventional SLOs, quality of experience."""

import numpy as np
from numpy.typing import NDArray

from sgym.config import Slo
from sgym.core import layout
from sgym.metrics.smooth import Floats, idle_latency

Flags = NDArray[np.bool_]


def time_to_first_token(requests: np.ndarray) -> Floats:
    """Seconds from arrival to the first token, (num_requests,); NaN without one."""
    return requests["first_token"] - requests["arrival"]


def end_to_end(requests: np.ndarray) -> Floats:
    """Seconds from arrival to the last token, (num_requests,); NaN if unfinished."""
    return requests["finish"] - requests["arrival"]


def time_per_output_token(requests: np.ndarray) -> Floats:
    """Mean seconds between tokens, (num_requests,); NaN if unfinished or of one token."""
    steps = np.where(requests["output"] > 1, requests["output"] - 1.0, np.nan)
    return (requests["finish"] - requests["first_token"]) / steps


def is_on_time(requests: np.ndarray) -> Flags:
    """Which requests met the token SLO, (num_requests,): finished, and no token was late."""
    return (requests["phase"] == layout.FINISHED) & (requests["lateness"] <= 0)


def meets_ttft_tbt(requests: np.ndarray, slo: Slo) -> Flags:
    """Equations 1 and 2: first token in time, then no gap too long, (num_requests,)."""
    return (
        (requests["phase"] == layout.FINISHED)
        & (time_to_first_token(requests) <= slo.ttft)
        & (requests["longest_gap"] <= slo.tbt)
    )


def meets_ttft_tpot(requests: np.ndarray, slo: Slo) -> Flags:
    """Equations 1 and 3, at the last token: mean gap not too long, (num_requests,)."""
    allowed = slo.tpot * (requests["output"] - 1)
    return (
        (requests["phase"] == layout.FINISHED)
        & (time_to_first_token(requests) <= slo.ttft)
        & (requests["finish"] - requests["first_token"] <= allowed)
    )


def meets_e2e(requests: np.ndarray, slo: Slo) -> Flags:
    """Equations 1 and 4: the last token in time, (num_requests,)."""
    return (requests["phase"] == layout.FINISHED) & (end_to_end(requests) <= slo.e2e)


def quality(requests: np.ndarray, at: float) -> Floats:
    """Quality of experience after Andes (arXiv 2404.16283): 1 - S_delay / S_whole.

    S_whole is the area below the curve of a reader who is never kept waiting, until the real reader
    is through; S_delay the area between that curve and the real reader's. A reader of one token per
    V seconds gets through token i late by the worst lateness so far, so with n tokens and a worst
    lateness L these are `late_sum` and V*n*n/2 + n*L. A token that the reader waits for at `at`
    counts as if it came then.

    Returns:
        0 to 1, (num_requests,); 1 where nothing was due yet.
    """
    worst = np.maximum(requests["lateness"], 0.0)
    latency = np.maximum(idle_latency(requests, at), worst)
    waiting = latency > worst
    count = requests["generated"] + waiting
    delay = requests["late_sum"] + np.where(waiting, latency, 0.0)
    whole = requests["token_time"] * count * count / 2 + count * latency
    return 1.0 - np.divide(delay, whole, out=np.zeros(len(requests)), where=whole > 0)
