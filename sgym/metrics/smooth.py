"""Smooth goodput by its definition, in plain numpy, from the rows of the request table.

After "Revisiting Service Level Objectives and System Level Metrics in LLM Serving"
(arXiv 2410.14257), equations 9 to 11. With A the idle latency of a request, which grows for as long
as its reader waits for an overdue token, and f the penalty,

    benefit = weight * n - alpha * weight * f(A)
    smooth goodput = sum of the benefits of all requests that have arrived / seconds

Rejected and refused requests stay in the sum and go on waiting, so abandoning one never pays.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sgym.config import Slo
from sgym.core import layout
from sgym.core.layout import NEVER

Floats = NDArray[np.float64]
PenaltyFunction = Callable[[Floats, NDArray[np.int32]], Floats]
"""From idle latency in seconds and delivered tokens to lost tokens, per unit of alpha."""


def idle_latency(requests: np.ndarray, at: float) -> Floats:
    """Idle latency A of every request at time `at`.

    Args:
        requests: REQUEST (num_requests,), as they stand at `at`.
        at: seconds.

    Returns:
        seconds, (num_requests,): the worst lateness of a token, the overdue one included. -inf
        where no token is due or delivered yet, and for requests that have not arrived.
    """
    waited = np.where(requests["phase"] == layout.FINISHED, -np.inf, at - requests["due"])
    latency = np.maximum(requests["lateness"], waited)
    unknown = ~has_arrived(requests, at) | (latency <= -0.5 * NEVER)
    return np.where(unknown, -np.inf, latency)


def has_arrived(requests: np.ndarray, at: float) -> NDArray[np.bool_]:
    """Which requests count at time `at`, (num_requests,)."""
    return (requests["phase"] != layout.PENDING) & (requests["arrival"] <= at)


def penalty(latency: Floats, num_tokens: NDArray[np.int32], slo: Slo) -> Floats:
    """f: the tokens that idle latency costs, per unit of alpha.

    Args:
        latency: seconds, (num_requests,); negative only without `slo.clamp`.
        num_tokens: tokens delivered, (num_requests,).
        slo: chooses the form.

    Returns:
        (num_requests,), nondecreasing in `latency` and 0 at 0 seconds.
    """
    if slo.penalty == "capped":
        cost = np.minimum(latency, slo.penalty_cap)
    elif slo.penalty == "quadratic":
        cost = latency * latency
    else:
        cost = latency
    return cost * num_tokens.astype(np.float64) if slo.scale_by_tokens else cost


def benefit(
    requests: np.ndarray, at: float, slo: Slo, form: PenaltyFunction | None = None
) -> Floats:
    """Benefit of every request at time `at` (equation 10, accruing).

    Args:
        requests: REQUEST (num_requests,), as they stand at `at`.
        at: seconds.
        slo: chooses f.
        form: another f instead, of (idle latency in seconds, delivered tokens).

    Returns:
        weighted tokens, (num_requests,); 0 for requests that have not arrived.
    """
    latency = idle_latency(requests, at)
    counted = np.isfinite(latency)
    known = np.where(counted, latency, 0.0)
    tokens = requests["generated"]
    cost = form(known, tokens) if form is not None else penalty(known, tokens, slo)
    return requests["weight"] * tokens - requests["alpha"] * np.where(counted, cost, 0.0)


def smooth_goodput(
    requests: np.ndarray, horizon: float, slo: Slo, form: PenaltyFunction | None = None
) -> float:
    """Sum of the benefits at `horizon` over `horizon` seconds (equation 11), weighted tokens/s."""
    return float(benefit(requests, horizon, slo, form).sum() / horizon)
