"""The table of a comparison: means over seeds, their intervals, differences paired by seed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgym.metrics import mean_interval, paired_difference

if TYPE_CHECKING:
    import pandas as pd

MEANS = (
    "goodput_tok_s",
    "ttft_p50",
    "ttft_p99",
    "tpot_p50",
    "tpot_p99",
    "tbt_p99",
    "idle_latency_mean",
    "num_preemptions",
    "recomputed_tokens",
    "num_refused",
    "kv_utilisation",
    "fairness_jain",
)
"""Columns of which the table holds the mean over seeds alone."""

BANDS = ("smooth_goodput", "slo_attainment", "throughput_tok_s")
"""Columns with an interval, `<name>_low` and `<name>_high`."""


def summary_table(rows: "pd.DataFrame", policies: Sequence[str], level: float) -> "pd.DataFrame":
    """A row per (rate, policy).

    Args:
        rows: a row per run: policy, rate, seed and all metrics.
        policies: in the order of the table; the first is the one that others are compared with.
        level: probability that an interval covers the mean.

    Returns:
        DataFrame; `difference` is smooth goodput minus that of the first policy on the same seeds,
        and `significant` says that its interval does not hold 0. No correction is made for
        comparing many policies.
    """
    import pandas as pd

    table: list[dict[str, Any]] = []
    for rate in sorted(set(rows["rate"])):
        at_rate = rows[rows["rate"] == rate]
        reference = _of(at_rate, policies[0])["smooth_goodput"].to_numpy()
        table += [_row(policy, rate, _of(at_rate, policy), reference, level) for policy in policies]
    return pd.DataFrame(table)


def _of(rows: Any, policy: str) -> Any:
    return rows[rows["policy"] == policy].sort_values("seed")


def _row(
    policy: str, rate: float, runs: Any, reference: np.ndarray, level: float
) -> dict[str, Any]:
    row: dict[str, Any] = {"rate": rate, "policy": policy, "seeds": len(runs)}
    for name in BANDS:
        row[name], row[f"{name}_low"], row[f"{name}_high"] = mean_interval(runs[name], level)
    gain = paired_difference(runs["smooth_goodput"], reference, level)
    row["difference"], row["difference_low"], row["difference_high"] = gain
    row["significant"] = bool(gain.low > 0 or gain.high < 0)
    for name in MEANS:
        values = runs[name].to_numpy()
        known = values[np.isfinite(values)]
        row[name] = float(known.mean()) if len(known) else float("nan")
    return row
