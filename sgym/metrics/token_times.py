"""Request rows from the times of their tokens, straight from the definitions of the metric.

It serves to score the log of a real engine and to check the simulator, which keeps the same
quantities incrementally.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sgym.config import Slo
from sgym.core import layout
from sgym.core.layout import NEVER
from sgym.errors import TraceError
from sgym.metrics.summary import request_columns, time_between_tokens

if TYPE_CHECKING:
    import pandas as pd


def from_token_times(
    arrival: ArrayLike,
    token_times: Sequence[ArrayLike],
    slo: Slo,
    at: float = np.inf,
    *,
    output: ArrayLike | None = None,
    prompt: ArrayLike = 0,
    user_class: ArrayLike = 0,
) -> np.ndarray:
    """The request table at time `at`, from when every token was delivered.

    Args:
        arrival: seconds, (num_requests,).
        token_times: per request the ascending delivery times of its tokens, seconds.
        slo: the metric and the classes of users.
        at: seconds; later tokens and arrivals have not happened.
        output: true length of every request, tokens, (num_requests,); None = as many as
            `token_times` has, so that every request finishes.
        prompt: prompt tokens, (num_requests,) or one for all.
        user_class: index into `slo.classes`, (num_requests,) or one for all.

    Returns:
        REQUEST (num_requests,); what token times do not tell is 0 or NONE.

    Raises:
        TraceError: `user_class` is no index into `slo.classes`.
    """
    arrival = np.asarray(arrival, np.float64)
    requests = np.zeros(len(arrival), layout.REQUEST)
    requests["arrival"] = arrival
    requests["prompt"] = prompt
    requests["user_class"] = user_class
    used, last = requests["user_class"], len(slo.classes) - 1
    wrong = used[(used < 0) | (used > last)]
    if wrong.size:
        raise TraceError(
            f"user_class must be an index into slo.classes, a whole number from 0 to {last}, got "
            f"{wrong[0]}: use one of these, or add a class"
        )
    requests["output"] = [np.size(times) for times in token_times] if output is None else output
    requests["instance"] = layout.NONE
    requests["predicted"] = np.nan
    for row, times in zip(requests, token_times, strict=True):
        _fill(row, np.asarray(times, np.float64), slo, at)
    return requests


def _fill(row: np.void, times: np.ndarray, slo: Slo, at: float) -> None:
    user = slo.classes[row["user_class"]]
    times = times[times <= at]
    count = len(times)
    row["token_time"], row["weight"] = user.token_time, user.weight
    row["alpha"] = user.alpha * user.weight
    row["first_delay"] = user.first_delay + user.first_delay_per_prompt_token * row["prompt"]
    row["generated"] = count
    row["first_token"] = times[0] if count else np.nan
    row["last_token"] = times[-1] if count else np.nan
    row["first_scheduled"] = np.nan
    row["longest_gap"] = np.diff(times).max() if count > 1 else 0.0
    finished = count > 0 and count >= row["output"]
    row["finish"] = times[-1] if finished else np.nan
    row["phase"] = layout.FINISHED if finished else layout.RUNNING if count else layout.WAITING
    if row["arrival"] > at:
        row["phase"] = layout.PENDING
    deadlines = _deadlines(row, slo, count + 1)
    floor = 0.0 if slo.clamp else -NEVER
    worst = np.maximum.accumulate(np.append(floor, times - deadlines[:-1]))
    row["due"], row["lateness"] = deadlines[-1], worst[-1]
    row["late_sum"] = np.maximum(worst[1:], 0.0).sum()


def _deadlines(row: np.void, slo: Slo, count: int) -> np.ndarray:
    """When the first `count` tokens are due, in seconds.

    d_i = D0 + V*i from the arrival, or V*(i - 1) from the first token, itself never late then.
    """
    steps = row["token_time"] * np.arange(1, count + 1)
    if slo.origin == "commit":
        return row["arrival"] + row["first_delay"] + steps
    if row["generated"] == 0:
        return np.full(count, NEVER)
    return row["first_token"] + steps - row["token_time"]


def score_log(log: "pd.DataFrame", slo: Slo, horizon: float) -> dict[str, float]:
    """Score what a real engine did.

    Args:
        log: a row per token. Columns: `request` (any label), `arrival` (seconds since the start of
            the window) and `time` (seconds, delivery of the token). A request without a token has
            one row with an empty `time`. Optional: `prompt` and `output` (tokens; a request with
            fewer tokens than `output` is unfinished; without the column only a request without a
            token is) and `user_class` (name of a class of `slo`).
        slo: the metric.
        horizon: seconds; tokens and arrivals after it do not count.

    Returns:
        The columns of `summarize` that follow from token times.

    Raises:
        TraceError: a column is missing, or a class unknown.
    """
    missing = [name for name in ("request", "arrival", "time") if name not in log.columns]
    if missing:
        raise TraceError(
            f"the log lacks the columns {missing}; it needs request, arrival and time, "
            f"a row per token; it has {list(log.columns)}"
        )
    if not len(log):
        raise TraceError("the log is empty; it needs a row per token")
    groups = log.sort_values("time").groupby("request", sort=False)
    times = [np.asarray(group.dropna()) for _, group in groups["time"]]
    counts = np.array([max(len(item), 1) for item in times])
    requests = from_token_times(
        groups["arrival"].first(),
        times,
        slo,
        horizon,
        output=groups["output"].first() if "output" in log.columns else counts,
        prompt=groups["prompt"].first() if "prompt" in log.columns else 0,
        user_class=_class_indexes(groups, slo) if "user_class" in log.columns else 0,
    )
    gaps = np.concatenate([np.diff(item[item <= horizon]) for item in times])
    window = (0.0, horizon)
    return request_columns(requests, slo, window) | time_between_tokens(gaps, np.ones(len(gaps)))


def _class_indexes(groups: "pd.api.typing.DataFrameGroupBy[Any, Any]", slo: Slo) -> list[int]:
    names = [user.name for user in slo.classes]
    given = list(groups["user_class"].first())
    unknown = sorted({str(name) for name in given if name not in names})
    if unknown:
        raise TraceError(f"the log has user_class {unknown}, but slo.classes has {names}")
    return [names.index(name) for name in given]
