"""The figures: curves over the rate, and a map of who wins where."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

STYLES = {
    "colocated": ("#000000", "-", "o"),
    "colocated-512": ("#7F7F7F", "--", "s"),
    "1P1D": ("#0072B2", "-", "D"),
    "2P2D": ("#0072B2", "-", "D"),
    "4P4D": ("#0072B2", "-", "D"),
    "1P3D": ("#E69F00", "-.", "^"),
    "3P1D": ("#009E73", "-.", "v"),
}
"""Okabe and Ito's colours, and a dash and a marker each."""
NAMES = {
    "colocated": "colocated, 2,048 tokens per iteration",
    "colocated-512": "colocated, 512 tokens",
    "1P1D": "1 prefill + 1 decode",
    "2P2D": "2 prefill + 2 decode",
    "4P4D": "4 prefill + 4 decode",
    "1P3D": "1 prefill + 3 decode",
    "3P1D": "3 prefill + 1 decode",
}
READERS = {"paper": "0.2 s per token", "strict": "0.05 s per token after 0.5 s"}
SHORT = {"Llama-3.1-8B": "8B", "Qwen2.5-14B": "14B"}
BELOW = 0.1  # how far under 0 a panel reaches, relative to its highest value


def draw_curves(table: pd.DataFrame, gpus: int, arrangements: tuple[str, ...]) -> Figure:
    """Smooth goodput over the rate: a row per model and reader, a column per workload."""
    table = table[table["gpus"] == gpus]
    models, workloads = list(dict.fromkeys(table["model"])), list(dict.fromkeys(table["workload"]))
    rows = [(model, reader) for model in models for reader in READERS]
    figure = Figure(figsize=(11.0, 2.6 * len(rows) + 0.8), layout="constrained")
    axes = figure.subplots(len(rows), len(workloads), squeeze=False)
    for line, (model, reader) in zip(axes, rows, strict=True):
        for place, workload in zip(line, workloads, strict=True):
            part = table[
                (table["model"] == model)
                & (table["reader"] == reader)
                & (table["workload"] == workload)
            ]
            for arrangement in arrangements:
                _curve(place, part[part["arrangement"] == arrangement], arrangement)
            top = float(part["smooth_goodput_high"].max())
            place.set_ylim(-BELOW * top, 1.06 * top)
            place.axhline(0.0, color="0.75", linewidth=0.7, zorder=0)
            place.set_title(f"{model}, {workload}\nreader: {READERS[reader]}", fontsize=8)
            place.tick_params(labelsize=8)
        line[0].set_ylabel("smooth goodput\n(tokens/s per GPU)", fontsize=8)
    for place in axes[-1]:
        place.set_xlabel("requests per second and GPU", fontsize=8)
    lines, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(
        f"{gpus} A100-80GB: prefill and decode together or apart "
        f"({int(table['seeds'].max())} seeds, bands: 95 % intervals)",
        fontsize=11,
    )
    return figure


def _curve(place, part: pd.DataFrame, arrangement: str) -> None:
    colour, dash, marker = STYLES[arrangement]
    rate = part["rate_per_gpu"]
    place.plot(
        rate,
        part["smooth_goodput"],
        color=colour,
        linestyle=dash,
        marker=marker,
        markersize=3.5,
        linewidth=1.3,
        label=NAMES[arrangement],
    )
    place.fill_between(
        rate,
        part["smooth_goodput_low"],
        part["smooth_goodput_high"],
        color=colour,
        alpha=0.2,
        linewidth=0,
    )


def draw_map(table: pd.DataFrame) -> Figure:
    """What each arrangement has more or less than colocated, under each workload and reader."""
    panels = (
        ("peak", "Peak smooth goodput over the rate, against colocated (%)", True),
        ("attainment", "Requests with every token on time at half load (percentage points)", False),
        (
            "attainment_ttft_tbt",
            "Requests that meet hard thresholds of TTFT and TBT at half load (percentage points)",
            False,
        ),
        ("throughput", "Throughput in overload, against colocated (%)", True),
    )
    figure = Figure(figsize=(11.0, 14.0), layout="constrained")
    axes = figure.subplots(len(panels), 1)
    for place, (name, title, relative) in zip(axes, panels, strict=True):
        _panel(place, table, name, relative)
        place.set_title(title, fontsize=10)
    figure.suptitle(
        "More (purple) or less (orange) than colocated with 2,048 tokens per iteration; "
        "grey figures: the 95 % interval holds 0",
        fontsize=11,
    )
    return figure


def _panel(place, table: pd.DataFrame, name: str, relative: bool) -> None:
    others = table[table["arrangement"] != "colocated"]
    rows = list(dict.fromkeys(zip(others["gpus"], others["arrangement"], strict=True)))
    columns = list(
        dict.fromkeys(zip(others["model"], others["reader"], others["workload"], strict=True))
    )
    columns.sort(key=lambda one: (list(SHORT).index(one[0]), one[1]))
    values = np.full((len(rows), len(columns)), np.nan)
    for _, row in others.iterrows():
        y = rows.index((row["gpus"], row["arrangement"]))
        x = columns.index((row["model"], row["reader"], row["workload"]))
        scale = 100.0 / abs(row[f"{name}_colocated"]) if relative else 100.0
        values[y, x] = row[f"{name}_gain"] * scale
        known = row[f"{name}_gain_low"] > 0 or row[f"{name}_gain_high"] < 0
        text = f"{values[y, x]:+.0f}".replace("+0", "0").replace("-0", "0")
        light = abs(values[y, x]) > 60 and known
        colour = "white" if light else ("black" if known else "0.45")
        place.text(x, y, text, ha="center", va="center", fontsize=9, color=colour)
    place.imshow(values, cmap="PuOr", vmin=-100.0, vmax=100.0, aspect="auto")
    place.set_yticks(range(len(rows)), [f"{gpus} GPUs: {name}" for gpus, name in rows], fontsize=9)
    place.set_xticks(
        range(len(columns)),
        [f"{SHORT[model]}\n{reader}\n{workload}" for model, reader, workload in columns],
        fontsize=8,
    )
    for x in range(3, len(columns), 3):
        place.axvline(x - 0.5, color="white", linewidth=3)
    for y in range(1, len(rows)):
        if rows[y][0] != rows[y - 1][0]:
            place.axhline(y - 0.5, color="white", linewidth=3)
