"""The sentences and the table of the paper's findings, from what was measured."""

from itertools import pairwise

import curves
import loads
import objectives
import pandas as pd

from sgym.metrics import paired_difference

HOLD_RATE, DROP_RATE = 18.0, 22.0
"""Requests per second of findings (e) and (f): about at the peak of chats on the 8B, and beyond."""


def sentences(
    table: pd.DataFrame, found: dict, holding: pd.DataFrame, dropping: pd.DataFrame
) -> str:
    """What was measured, a paragraph for each finding."""
    seeds = int(table["seeds"].iloc[0])
    lines = [f"{seeds} seeds, 95 % intervals; rates in requests/s, smooth goodput in tokens/s.\n"]
    for _, row in table.iterrows():
        held = row["interior"] and row["one_peak"]
        lines.append(
            f"- (a) {_where(row)}: one interior peak {'found' if held else 'NOT found'}, "
            f"{row['peak']:.0f} at {_rate(row, 'peak_rate', 'peak')}."
        )
    for _, row in table.iterrows():
        rates = [row[f"peak_rate_{alpha:g}"] for alpha in curves.ALPHAS]
        held = all(a >= b for a, b in pairwise(rates)) and rates[0] > rates[-1]
        shown = ", ".join(
            f"{rate:g} at alpha {alpha:g}" for alpha, rate in zip(curves.ALPHAS, rates, strict=True)
        )
        lines.append(
            f"- (b) {_where(row)}: peak at {shown}; "
            f"{'it moves down' if held else 'it does NOT move down at every step'}."
        )
    for (model, load), (first, second) in _pairs(found).items():
        moved, gain = curves.shift(first, second), curves.gain_at_peak(first, second)
        verdict = "higher" if moved.low > 0 else "NOT surely higher" if moved.high >= 0 else "LOWER"
        lines.append(
            f"- (c) {model}, {load}: with chunked prefill the peak lies {moved.text(2)} higher "
            f"than with prefill first ({verdict}), and is worth {gain.text(2)} % more."
        )
    for _, row in table.iterrows():
        held = row["throughput_beyond_low"] > -1.0 and row["smooth_beyond_high"] < 0.0
        lines.append(
            f"- (d) {_where(row)}: from the peak to {row['beyond_rate']:g}, smooth goodput changes "
            f"by {row['smooth_beyond']:+.0f} % ({row['smooth_beyond_low']:+.0f} to "
            f"{row['smooth_beyond_high']:+.0f}), throughput by {row['throughput_beyond']:+.1f} % "
            f"({row['throughput_beyond_low']:+.1f} to {row['throughput_beyond_high']:+.1f}): "
            f"throughput {'hides the peak' if held else 'does NOT hide the peak'}."
        )
    better = paired_difference(
        holding["tbt_attainment_held_back"], holding["tbt_attainment_as_they_come"]
    )
    worse = paired_difference(
        holding["smooth_goodput_held_back"], holding["smooth_goodput_as_they_come"]
    )
    each = holding["smooth_goodput_held_back"] - holding["smooth_goodput_as_they_come"]
    held = better[1] > 0 and each.max() <= 1e-9
    lines.append(
        f"- (e) Chats on the 8B at {HOLD_RATE:g}: tokens held back to {loads.HARD_TBT:g} s apart "
        f"change attainment of that time between tokens by {100 * better[0]:+.0f} points "
        f"({100 * better[1]:+.0f} to {100 * better[2]:+.0f}) and smooth goodput by {worse[0]:+.0f} "
        f"({worse[1]:+.0f} to {worse[2]:+.0f}): {'holds' if held else 'does NOT hold'}."
    )
    one_by_one = dropping["smooth_goodput_cut"] - dropping["smooth_goodput_served"]
    cut = paired_difference(dropping["smooth_goodput_cut"], dropping["smooth_goodput_served"])
    lines.append(
        f"- (f) Chats on the 8B at {DROP_RATE:g}, every request cut off where it first misses a "
        f"deadline and nothing else changed: who meets all deadlines stays the same, smooth "
        f"goodput changes by {cut[0]:+.0f} ({cut[1]:+.0f} to {cut[2]:+.0f}), on no seed upwards: "
        f"{'holds' if one_by_one.max() <= 1e-9 else 'does NOT hold'}."
    )
    texts = []
    for name, unit, scale in (
        ("attainment", " points", 100.0),
        ("goodput", "", 1.0),
        ("smooth_goodput", "", 1.0),
    ):
        pair = [dropping[f"system_{name}_{how}"] for how in ("refused", "served")]
        mean, low, high = (scale * value for value in paired_difference(*pair))
        texts.append(f"{name.replace('_', ' ')} {mean:+.0f}{unit} ({low:+.0f} to {high:+.0f})")
    lines.append(
        f"- (f) The same, where refused requests free the GPU for others: {', '.join(texts)}."
    )
    return "\n".join(lines) + "\n"


def _where(row: pd.Series) -> str:
    return f"{row['model']}, {row['load']}, {row['engine']}"


def _rate(row: pd.Series, name: str, prefix: str) -> str:
    return f"{row[name]:g} ({row[f'{prefix}_low']:g} to {row[f'{prefix}_high']:g})"


def _pairs(found: dict) -> dict:
    keys = dict.fromkeys(key[:2] for key in found)
    return {key: tuple(found[*key, engine] for engine in loads.ENGINES) for key in keys}


def objectives_table(table: pd.DataFrame) -> str:
    """Objective by measure, in Markdown."""
    names = list(objectives.METRICS)
    lines = ["| optimised for | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for objective in names:
        row = table[table["optimised_for"] == objective].set_index("measured_by")
        found = [
            f"{row.loc[n, 'mean']:.4g} ({row.loc[n, 'percent']:+.1f} %, "
            f"{row.loc[n, 'percent_low']:+.1f} to {row.loc[n, 'percent_high']:+.1f})"
            for n in names
        ]
        lines.append("| " + " | ".join([objective, *found]) + " |")
    return "\n".join(lines) + "\n"
