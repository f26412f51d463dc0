"""From episodes to a table with intervals, and a figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from agents.contenders import BOUND, LOOK_AHEAD
from agents.search import write_whole
from agents.statistics import bootstrap_mean, bootstrap_ratio

GROUP = ["entry", "workload", "rate", "seconds"]
MEASURE = "smooth_goodput"
HELD_OUT_SEEDS = "held-out seeds"
"""The workload that needs no name of its own in a table."""


def entry_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each learned policy, workload and rate: against the best heuristic and the bound.

    The best heuristic is the one with the highest mean on these very workloads, which flatters it.
    """
    found: list[dict[str, Any]] = []
    for key, group in rows.groupby(GROUP, sort=False, dropna=False):
        earned = group.pivot_table(index="seed", columns="policy", values=MEASURE)
        kinds = group.drop_duplicates("policy").set_index("policy")["kind"]
        heuristics = [name for name in kinds.index if kinds[name] == "heuristic"]
        if not heuristics:
            continue
        best = earned[heuristics].mean().idxmax()
        base = earned[best].to_numpy()
        bound = earned[BOUND].to_numpy() if BOUND in earned else None
        for name in kinds.index[kinds == "learned"]:
            gain = earned[name].to_numpy() - base
            row = dict(zip(GROUP, key, strict=True))
            row |= {"policy": name, "seeds": len(gain), "learned": float(earned[name].mean())}
            row |= {"best_heuristic": best, "heuristic": float(base.mean())}
            row |= _spread("gain", bootstrap_mean(gain))
            row |= _spread("gain_percent", bootstrap_ratio(100.0 * gain, np.abs(base)))
            row["look_ahead"] = float(earned[LOOK_AHEAD].mean()) if LOOK_AHEAD in earned else np.nan
            if bound is not None:
                row["bound"] = float(bound.mean())
                row |= _spread("gap_closed_percent", bootstrap_ratio(100.0 * gain, bound - base))
            found.append(row)
    return pd.DataFrame(found)


def _spread(name: str, estimate: Any) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def print_rows(table: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Show the comparison on the terminal."""
    console = Console(width=150)
    if table.empty:
        means = rows.groupby([*GROUP, "policy"], sort=False, dropna=False)[MEASURE]
        shown = Table("entry", "rate", "policy", "smooth goodput, tokens/s", "seeds")
        for key, values in means:
            estimate = bootstrap_mean(values.to_numpy())
            shown.add_row(
                str(key[0]), f"{key[2]:g}", str(key[4]), estimate.text(sign=False), str(len(values))
            )
        console.print(shown)
        return
    shown = Table(
        "entry",
        "workload",
        "rate",
        "learned",
        "best heuristic, tuned",
        "known future",
        "bound",
        "gain, %",
        "gap closed, %",
    )
    for row in table.to_dict("records"):
        shown.add_row(
            row["entry"],
            row["workload"],
            f"{row['rate']:g}",
            f"{row['learned']:.1f}",
            f"{row['heuristic']:.1f} {row['best_heuristic']}",
            "" if np.isnan(row["look_ahead"]) else f"{row['look_ahead']:.1f}",
            f"{row['bound']:.1f}" if "bound" in row else "",
            _text(row, "gain_percent"),
            _text(row, "gap_closed_percent") if "bound" in row else "",
        )
    console.print(shown)
    console.print(
        "95 % bootstrap intervals over seeds, paired; * excludes zero. Known future: look-ahead "
        "over knobs that sees what comes; a reference, neither a policy nor a bound"
    )


def _text(row: Mapping[Any, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    star = "*" if low > 0 or high < 0 else ""
    return f"{row[name]:+.1f} ({low:+.1f} to {high:+.1f}){star}"


def markdown(table: pd.DataFrame) -> str:
    """The comparison as a table of Markdown, for a README."""
    names = ("entry", "rate, 1/s", "learned", "best tuned heuristic", "known future", "bound")
    heads = [*names, "gain, %", "gap closed, %"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    shown = ""
    for row in table.to_dict("records"):
        own = "" if row["workload"] == HELD_OUT_SEEDS else f", {row['workload']}"
        name = f"{row['entry']}{own}"
        cells = [
            name if name != shown else "",
            f"{row['rate']:g}",
            f"{row['learned']:.0f}",
            f"{row['heuristic']:.0f} {row['best_heuristic']}",
            "" if np.isnan(row["look_ahead"]) else f"{row['look_ahead']:.0f}",
            f"{row['bound']:.0f}",
            _text(row, "gain_percent").rstrip("*"),
            _text(row, "gap_closed_percent").rstrip("*"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
        shown = name
    return "\n".join(lines) + "\n"


def write_report(out: Path, rows: pd.DataFrame, table: pd.DataFrame, suffix: str) -> None:
    """`table.csv`, `.md` and `.png`, and `metrics.csv` (means by policy of all metrics)."""
    numbers = rows.select_dtypes("number").columns.difference([*GROUP, "seed"])
    groups = rows.groupby([*GROUP, "policy", "kind"], sort=False, dropna=False)
    means = groups[list(numbers)].mean()
    _save(out / f"metrics{suffix}.csv", means.reset_index())
    if table.empty:
        return
    _save(out / f"table{suffix}.csv", table)
    if "bound" in table:
        kept = pd.read_csv(out / f"table{suffix}.csv")  # rounded as what is kept
        write_whole(out / f"table{suffix}.md", markdown(kept).encode())
    mpl.use("Agg")
    labels = [f"{row.entry}\n{row.workload}, {row.rate:g}/s" for row in table.itertuples()]
    panels = [("gain_percent", "gain over the best tuned heuristic, %")]
    if "gap_closed_percent" in table:
        panels.append(("gap_closed_percent", "share of its gap to the bound that is closed, %"))
    height = 0.8 + 0.42 * len(table)
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(5.2 * len(panels), height),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    places = np.arange(len(table))[::-1]
    for axis, (name, title) in zip(axes[0], panels, strict=True):
        middle = table[name].to_numpy()
        spread = np.abs(np.stack([table[f"{name}_low"], table[f"{name}_high"]]) - middle)
        axis.errorbar(middle, places, xerr=spread, fmt="o", ms=5, capsize=3)
        axis.axvline(0.0, color="black", lw=0.8)
        axis.set_title(title, fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    axes[0][0].set_yticks(places, labels, fontsize=8)
    part = out / f"table{suffix}.part.png"
    figure.savefig(part, dpi=110)
    plt.close(figure)
    part.replace(out / f"table{suffix}.png")


def _save(path: Path, frame: pd.DataFrame) -> None:
    write_whole(path, frame.to_csv(index=False, float_format="%.6g").encode())
