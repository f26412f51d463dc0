"""The figures: what migration gains, what was noticed of it, and one request told in full."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from noticed import READERS, TBT

LOADS = {"low": ("#56B4E9", "v"), "middle": ("#000000", "o"), "high": ("#D55E00", "^")}
NAMES = {"paper": "0.2 s per token", "strict": "0.05 s per token after 0.5 s"}
NOTICED = {
    "neither": ("#CCCCCC", "", "neither"),
    "hard": ("#E69F00", "//", "only the hard threshold is broken; the reader does not notice"),
    "both": ("#0072B2", "", "threshold broken, and the reader runs dry"),
    "dry": ("#CC79A7", "..", "only the reader runs dry"),
}
"""Okabe and Ito's colours; hatched where grey prints alike."""
STORY_STYLES = (("#D55E00", "-"), ("#0072B2", "-"), ("#009E73", "--"), ("#CC79A7", "-."))


def draw_gains(table: pd.DataFrame, reference: str) -> Figure:
    """Smooth goodput against no migration: a panel per model and reader."""
    models = list(dict.fromkeys(table["model"]))
    variants = [name for name in dict.fromkeys(table["variant"]) if name != reference]
    figure = Figure(figsize=(11.0, 3.9 * len(models) + 0.8), layout="constrained")
    axes = figure.subplots(len(models), len(READERS), squeeze=False, sharey="row")
    for line, model in zip(axes, models, strict=True):
        for place, reader in zip(line, READERS, strict=True):
            part = table[table["model"] == model]
            _gains(place, part, f"smooth_goodput_{reader}", variants, reference)
            place.set_title(f"{model}, reader: {NAMES[reader]}", fontsize=10)
        line[0].invert_yaxis()
        line[-1].legend(fontsize=8, loc="lower left")
    for place in axes[-1]:
        place.set_xlabel("change of smooth goodput against no migration (%)", fontsize=9)
    figure.suptitle(
        "4 colocated A100-80GB with 4,000 KV blocks each: routing and migration "
        f"({int(table['seeds'].max())} paired seeds, 95 % intervals)",
        fontsize=11,
    )
    return figure


def _gains(place, table: pd.DataFrame, column: str, variants: list[str], reference: str) -> None:
    for shift, (load, (colour, marker)) in zip((-0.22, 0.0, 0.22), LOADS.items(), strict=True):
        part = table[table["load"] == load].set_index("variant")
        scale = 100.0 / abs(float(part.loc[reference, column]))
        part = part.loc[variants]
        gain, low, high = (part[f"{column}_gain{end}"] * scale for end in ("", "_low", "_high"))
        place.errorbar(
            gain,
            np.arange(len(variants)) + shift,
            xerr=[gain - low, high - gain],
            fmt=marker,
            color=colour,
            markersize=4,
            linewidth=1.2,
            label=f"{load} load, {part['rate'].iloc[0]:g} requests/s",
        )
    place.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
    place.set_yticks(range(len(variants)), variants, fontsize=9)
    place.grid(axis="x", color="0.92")
    place.set_axisbelow(True)


def draw_events(table: pd.DataFrame, load: str = "high") -> Figure:
    """What was noticed of migrations and of preemptions, per run."""
    models = list(dict.fromkeys(table["model"]))
    panels = [(kind, reader) for kind in ("migration", "preemption") for reader in READERS]
    figure = Figure(figsize=(12.0, 3.6 * len(models) + 1.0), layout="constrained")
    axes = figure.subplots(len(models), len(panels), squeeze=False, sharey="row")
    for line, model in zip(axes, models, strict=True):
        part = table[(table["model"] == model) & (table["load"] == load)]
        for place, (kind, reader) in zip(line, panels, strict=True):
            left = np.zeros(len(part))
            for outcome, (colour, hatch, label) in NOTICED.items():
                width = part[f"{kind}_{reader}_{outcome}"].to_numpy()
                place.barh(
                    np.arange(len(part)),
                    width,
                    left=left,
                    color=colour,
                    hatch=hatch,
                    edgecolor="white",
                    linewidth=0.3,
                    label=label,
                )
                left += width
            place.set_xlim(0, 1.05 * float(part[f"{kind}_num"].max()))
            place.set_yticks(range(len(part)), part["variant"], fontsize=8)
            place.set_title(f"{model}, {kind}s\nreader: {NAMES[reader]}", fontsize=8)
        line[0].invert_yaxis()
    for place in axes[-1]:
        place.set_xlabel("per run of 120 s", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(
        f"What is noticed of answers that were interrupted, at {load} load: "
        f"a hard limit of {TBT:g} s between tokens against the reader's buffer",
        fontsize=11,
    )
    return figure


def draw_example(told: dict[str, np.ndarray]) -> Figure:
    """One request: its tokens against the readers' deadlines, and the gaps between its tokens."""
    figure = Figure(figsize=(11.0, 4.8), layout="constrained")
    whole, gaps = figure.subplots(1, 2)
    for (name, times), (colour, dash) in zip(told.items(), STORY_STYLES, strict=True):
        count = np.arange(1, len(times) + 1)
        whole.step(times, count, where="post", color=colour, linestyle=dash, label=name)
        between = np.diff(times)
        longest = int(between.argmax())
        gaps.plot(times[1:], between, ".", color=colour, markersize=1.5)
        gaps.plot(times[longest + 1], between[longest], "o", color=colour, markersize=5)
        gaps.annotate(
            f"{name}: {between[longest]:.2g} s",
            (times[longest + 1], between[longest]),
            textcoords="offset points",
            xytext=(6, 4),
            fontsize=8,
            color=colour,
        )
    last = max(float(times[-1]) for times in told.values())
    most = max(len(times) for times in told.values())
    count = np.arange(1, most + 1)
    for (name, reader), dash in zip(READERS.items(), (":", (0, (4, 2))), strict=True):
        deadline = reader.first_delay + reader.token_time * count
        label = f"due for a reader of {NAMES[name]}"
        whole.plot(deadline, count, color="0.4", linestyle=dash, label=label)
    _shade(whole, next(iter(told.values())), most)
    whole.set(xlim=(0, 1.05 * last), ylim=(0, 1.05 * most))
    whole.set_xlabel("seconds since the arrival")
    whole.set_ylabel("tokens delivered")
    whole.set_title("Tokens of the request that has to give way", fontsize=10)
    figure.legend(fontsize=8, loc="outside lower center", ncols=3, frameon=False)
    gaps.axhline(TBT, color="0.4", linestyle=":", linewidth=1.2)
    gaps.text(0.9 * last, TBT * 1.1, f"hard threshold: {TBT:g} s", fontsize=8, color="0.3")
    gaps.set(yscale="log", xlim=(0, 1.35 * last))
    gaps.set_xlabel("seconds since the arrival")
    gaps.set_ylabel("seconds since the token before")
    gaps.set_title("Time between its tokens, and the longest gap", fontsize=10)
    return figure


def _shade(place, stays: np.ndarray, most: int) -> None:
    """Mark when the strict reader of the request that was preempted has nothing to read."""
    reader = READERS["strict"]
    pause = int(np.diff(stays).argmax())
    dry, resumed = reader.first_delay + reader.token_time * (pause + 2), float(stays[pause + 1])
    if dry < resumed:
        place.axvspan(dry, resumed, color="#D55E00", alpha=0.12)
        place.text(
            (dry + resumed) / 2,
            0.6 * most,
            "the strict reader\nof the preempted\nrequest waits",
            ha="center",
            fontsize=8,
            color="#D55E00",
        )
