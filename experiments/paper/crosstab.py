"""Policies that were tuned for one metric, measured by all of them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cells
import numpy as np
import pandas as pd
from optimise import METRICS, RUNNING, SETTINGS, SIZE, WAITING, Judge, Trial
from words import markdown, spans

from agents.search import HELD_OUT
from agents.statistics import bootstrap_ratio
from sgym.envs.actions import INDEX_KNOBS

REFERENCES = {"vllm": "not tuned: first come first served", "spf": "not tuned: shortest prompt"}
WEIGHTS = ("waiting slack", "waiting lateness", "waiting prompt", "running slack")  # that are told
PARAMETERS = (
    *(f"waiting {name}" for name in WAITING),
    *(f"running {name}" for name in RUNNING),
    *INDEX_KNOBS,
)


def best_of(trials: Sequence[Trial], found: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A row per setting and objective: the restart that validates best, and the worst one's score.

    Its last columns are the parameters.
    """
    rows = []
    for key in dict.fromkeys((trial.setting, trial.objective) for trial in trials):
        own = [
            one
            for trial, one in zip(trials, found, strict=True)
            if (trial.setting, trial.objective) == key
        ]
        best, worst = (choose(own, key=lambda one: one["score"]) for choose in (max, min))
        row = {"setting": key[0], "objective": key[1]}
        row |= {"validation": best["score"], "worst_restart": worst["score"]}
        rows.append(row | dict(zip(PARAMETERS, best["best"], strict=True)))
    return pd.DataFrame(rows)


def measured(
    best: pd.DataFrame, searches: Sequence[Path], duration: float, seeds: int
) -> pd.DataFrame:
    """Every policy on held-out workloads: a row per setting, policy, rate and seed, as kept.

    Args:
        best: of `best_of`.
        searches: files that it comes from; their names tell all that the rows depend on.
        duration: seconds of an episode.
        seeds: of workloads that no search saw.
    """
    basis = (*(path.name for path in searches), duration, seeds)
    digest = hashlib.sha256(repr(basis).encode()).hexdigest()[:12]
    path = searches[0].with_name(f"held-out_{digest}.csv")
    if not path.is_file():
        cells.save(_played(best, duration, seeds), path)
    return pd.read_csv(path)


def _played(best: pd.DataFrame, duration: float, seeds: int) -> pd.DataFrame:
    workloads, parts = range(HELD_OUT, HELD_OUT + seeds), []
    for setting, policies in best.groupby("setting", sort=False):
        judge = Judge(str(setting), duration)
        own = {
            str(row["objective"]): judge.rows(row.iloc[-SIZE:].to_numpy(np.float64), workloads)
            for _, row in policies.iterrows()
        }
        own |= {name: judge.reference(name, workloads) for name in REFERENCES}
        parts += [rows.assign(setting=setting, objective=name) for name, rows in own.items()]
    return pd.concat(parts, ignore_index=True)


def cross(rows: pd.DataFrame) -> pd.DataFrame:
    """Optimised for, by measured by: means, and shares of the best row with 95 % intervals."""
    table = []
    for setting, part in rows.groupby("setting", sort=False):
        by_seed = part.groupby(["objective", "seed"], sort=False).mean(numeric_only=True)
        objectives = list(dict.fromkeys(part["objective"]))
        for metric in METRICS:
            column = by_seed[metric]
            values = {name: column.loc[name].sort_index().to_numpy() for name in objectives}
            best = max(values.values(), key=np.mean)
            for name, own in values.items():
                share, low, high = bootstrap_ratio(own, best)
                cell = {"setting": setting, "objective": name, "metric": metric}
                cell |= {"seeds": len(own), "mean": own.mean()}
                table.append({**cell, "share": share, "low": low, "high": high})
    return pd.DataFrame(table)


def beside(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per setting and policy: means of all that was kept."""
    means = rows.drop(columns=["rate", "seed"]).groupby(["setting", "objective"], sort=False).mean()
    return means.reset_index()


def objective_name(name: str) -> str:
    """A row of the cross table."""
    return METRICS.get(name) or REFERENCES[name]


def leads(table: pd.DataFrame, means: pd.DataFrame, policies: pd.DataFrame) -> list[str]:
    """The cross table, what each optimum costs by the other metrics, and what it does."""
    lines = ["# Where each metric leads"]
    for setting, part in table.groupby("setting", sort=False):
        best, own = (rows[rows["setting"] == setting] for rows in (policies, means))
        apart = 100 * (1 - best["worst_restart"] / best["validation"]).max()
        shares = part.rename(columns={"low": "share_low", "high": "share_high"})
        columns = {
            METRICS[str(metric)]: spans(rows, "share", ".1f", 100)
            for metric, rows in shares.groupby("metric", sort=False)
        }
        objectives = [objective_name(name) for name in dict.fromkeys(part["objective"])]
        lines += [
            "",
            (
                f"**{str(setting).capitalize()}**: {SETTINGS[str(setting)]['about']}; "
                f"{part['seeds'].iloc[0]} held-out seeds. Restarts of a search are at most "
                f"{apart:.1f} % apart on validation."
            ),
            "",
            *markdown("optimised for, in % of the best by", objectives, columns),
            "",
            *costs(part),
        ]
        columns = {
            "idle latency, mean (s)": [f"{value:.1f}" for value in own["idle_latency_mean"]],
            "p99 (s)": [f"{value:.0f}" for value in own["idle_latency_p99"]],
            "TTFT p99 (s)": [f"{value:.0f}" for value in own["ttft_p99"]],
            "no token at the end (%)": [f"{100 * value:.1f}" for value in own["unserved"]],
        }
        lines += ["", *markdown("optimised for", objectives, columns)]
        columns = {f"weight: {name}": [f"{value:+.2f}" for value in best[name]] for name in WEIGHTS}
        lines += ["", *markdown("optimised for", objectives[: len(best)], columns)]
    return lines


def costs(part: pd.DataFrame) -> list[str]:
    """For each objective, by which metric its policy is worst."""
    lines = []
    for name, rows in part[part["objective"].isin(METRICS)].groupby("objective", sort=False):
        worst = rows.sort_values("share").iloc[0]
        lines.append(
            f"- {METRICS[str(name)]}: worst by {METRICS[str(worst['metric'])]}, "
            f"{100 * worst['share']:.0f} % ({100 * worst['low']:.0f} to {100 * worst['high']:.0f})."
        )
    return lines
