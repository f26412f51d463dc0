"""The request table as a DataFrame that a person can read."""

from typing import TYPE_CHECKING

import numpy as np

from sgym.config import Slo
from sgym.core import layout
from sgym.metrics import experience
from sgym.metrics.smooth import benefit, idle_latency

if TYPE_CHECKING:
    import pandas as pd

PHASES = np.array([phase.name.lower() for phase in layout.Phase])


def requests_frame(state: layout.State, slo: Slo, at: float | None = None) -> "pd.DataFrame":
    """A row per request, in order of arrival; NaN where something has not happened.

    Args:
        state: the simulation.
        slo: the metric, and the names of the classes.
        at: seconds, the moment of `state`; None = its clock.
    """
    import pandas as pd  # late: takes longer than the rest of sgym

    requests = state.requests
    at = float(state.cluster[0]["clock"]) if at is None else at
    latency = idle_latency(requests, at)
    names = np.array([user.name for user in slo.classes])
    columns = {
        "request": np.arange(len(requests)),
        "user_class": names[requests["user_class"]],
        "tenant": requests["tenant"],
        "priority": requests["priority"],
        "phase": PHASES[requests["phase"]],
        "instance": requests["instance"],
        "arrival_s": requests["arrival"],
        "prompt_tokens": requests["prompt"],
        "output_tokens": requests["output"],
        "predicted_tokens": requests["predicted"],
        "generated_tokens": requests["generated"],
        "queue_s": requests["first_scheduled"] - requests["arrival"],
        "ttft_s": experience.time_to_first_token(requests),
        "tpot_s": experience.time_per_output_token(requests),
        "longest_gap_s": requests["longest_gap"],
        "e2e_s": experience.end_to_end(requests),
        "finish_s": requests["finish"],
        "idle_latency_s": np.where(np.isfinite(latency), np.maximum(latency, 0.0), np.nan),
        "benefit_tokens": benefit(requests, at, slo),
        "on_time": experience.is_on_time(requests),
        "qoe": np.where(np.isfinite(latency), experience.quality(requests, at), np.nan),
        "preemptions": requests["preemptions"],
        "migrations": requests["migrations"],
        "swaps": requests["swaps"],
        "recomputed_tokens": requests["recomputed"],
        "cached_tokens": requests["cached"],
    }
    return pd.DataFrame({name: np.array(column) for name, column in columns.items()})
