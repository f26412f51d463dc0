"""Findings (e) and (f): holding tokens back, and dropping requests that missed a deadline."""

from typing import Any

import loads
import numpy as np
import pandas as pd

import sgym
from sgym.metrics import score_log
from sgym.simulator import Result

PLACE = ("Llama-3.1-8B", "ShareGPT", "chunked prefill")
"""Model, load and engine of both findings."""


class DropMissed:
    """Refuse every waiting request whose first token is overdue already."""

    def schedule(self, view: Any) -> sgym.Steering:
        """Its Steering; neutral but for the refusals."""
        return sgym.Steering(reject=[one.id for one in view.waiting if one.slack < 0.0])


def deliveries(result: Result) -> pd.DataFrame:
    """A row per token, as `score_log` reads it; a request without one has an empty time."""
    start, end = result.window
    requests = result.requests
    tokens = result.tokens[["request", "time"]]
    rows = pd.DataFrame(
        {
            "request": requests["request"],
            "arrival": requests["arrival_s"] - start,
            "output": requests["output_tokens"],
        }
    )
    rows = rows[rows["arrival"] <= end - start]
    log = rows.merge(tokens, on="request", how="left")
    log["time"] -= start
    return log


def held_back(log: pd.DataFrame, least: float) -> pd.DataFrame:
    """Tokens of a request no closer together than so many seconds; none earlier than it was."""
    log = log.sort_values(["request", "time"], kind="stable").copy()
    number = log.groupby("request").cumcount()
    # sent[j] = max(time[j], sent[j - 1] + least), which is a running maximum of time[j] - j * least
    ahead = (log["time"] - number * least).groupby(log["request"]).cummax()
    log["time"] = ahead + number * least
    return log


def cut_off(log: pd.DataFrame, token_time: float) -> pd.DataFrame:
    """Requests end where they first miss a deadline."""
    log = log.sort_values(["request", "time"], kind="stable")
    number = log.groupby("request").cumcount()
    due = log["arrival"] + token_time * (number + 1)
    missed = (log["time"] > due) | log["time"].isna()
    late = missed.groupby(log["request"]).cummax()
    kept = log[~late]
    gone = log[~log["request"].isin(kept["request"])].drop_duplicates("request").copy()
    gone["time"] = np.nan
    return pd.concat([kept, gone])


def holding(seed: int, duration: float, rate: float) -> dict[str, float]:
    """Finding (e) on one workload: the same run, tokens sent as they come and held back."""
    scenario = loads.scenario_of(*PLACE, duration, **{"workload.rate": rate})
    result = sgym.simulate(scenario, "stock", seed, log=("tokens",))
    log, row = deliveries(result), {}
    for name, shown in (("as_they_come", log), ("held_back", held_back(log, loads.HARD_TBT))):
        score = score_log(shown, scenario.slo, duration)
        within = shown[shown["time"] <= duration]
        gaps = within.groupby("request")["time"].diff()
        longest = gaps.groupby(within["request"]).max().fillna(0.0)
        row[f"tbt_attainment_{name}"] = float((longest <= loads.HARD_TBT + 1e-9).mean())
        row[f"smooth_goodput_{name}"] = score["smooth_goodput"]
    return {"seed": seed, **row}


def dropping(seed: int, duration: float, rate: float) -> dict[str, float]:
    """Finding (f) on one workload: as served; late ones cut off on paper; late ones refused."""
    scenario = loads.scenario_of(*PLACE, duration, **{"workload.rate": rate})
    result = sgym.simulate(scenario, "stock", seed, log=("tokens",))
    log = deliveries(result)
    token_time = scenario.slo.classes[0].token_time
    row: dict[str, float] = {"seed": seed}
    cut = cut_off(log, token_time)
    row["smooth_goodput_served"] = score_log(log, scenario.slo, duration)["smooth_goodput"]
    row["smooth_goodput_cut"] = score_log(cut, scenario.slo, duration)["smooth_goodput"]
    for name, policy in (("served", "stock"), ("refused", DropMissed)):
        summary = sgym.simulate(scenario, policy, seed).summary
        row[f"system_attainment_{name}"] = summary["slo_attainment"]
        row[f"system_goodput_{name}"] = summary["goodput_tok_s"]
        row[f"system_smooth_goodput_{name}"] = summary["smooth_goodput"]
    return row
