"""The figures of the paper's findings."""

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from curves import ALPHAS, Curve
from matplotlib.figure import Figure

from sgym.metrics import mean_interval

Panels = dict[str, tuple[str, dict[str, str]]]
COLOURS = {"chunked prefill": "C0", "prefill first": "C3"}


def grid(
    curves: dict[tuple[str, str, str], Curve],
) -> tuple[Figure, dict[tuple[str, str], plt.Axes]]:
    """A panel for each model and load."""
    models = list(dict.fromkeys(key[0] for key in curves))
    loads = list(dict.fromkeys(key[1] for key in curves))
    figure, axes = plt.subplots(
        len(models),
        len(loads),
        figsize=(4.2 * len(loads), 3.1 * len(models)),
        layout="constrained",
        squeeze=False,
    )
    panels = {}
    for i, model in enumerate(models):
        for j, load in enumerate(loads):
            axes[i][j].set_title(f"{model}, {load}", fontsize=10)
            axes[i][j].axhline(0.0, color="black", lw=0.6)
            panels[model, load] = axes[i][j]
        axes[i][0].set_ylabel("tokens/s")
    for j in range(len(loads)):
        axes[-1][j].set_xlabel("requests/s")
    return figure, panels


def band(axis: plt.Axes, rates: np.ndarray, values: np.ndarray, label: str, **style) -> None:
    """Means over seeds with their 95 % interval."""
    low, high = np.array([mean_interval(row)[1:] for row in values]).T
    axis.plot(rates, values.mean(axis=1), marker="o", ms=3, label=label, **style)
    axis.fill_between(rates, low, high, alpha=0.2, color=style.get("color"))


def draw_peaks(curves: dict[tuple[str, str, str], Curve]) -> Figure:
    """Findings (a), (c) and (d): smooth goodput has a peak, throughput has not."""
    figure, panels = grid(curves)
    for (model, load, engine), curve in curves.items():
        axis, colour = panels[model, load], COLOURS[engine]
        smooth = curve.smooth(2.5)
        band(axis, curve.rates, smooth, f"smooth goodput, {engine}", color=colour)
        band(
            axis,
            curve.rates,
            curve.tokens,
            f"throughput, {engine}",
            color=colour,
            ls=":",
            alpha=0.7,
        )
        axis.axvline(curve.rates[smooth.mean(axis=1).argmax()], color=colour, lw=0.8, ls="--")
        top = max(axis.get_ylim()[1], 1.1 * curve.tokens.mean(axis=1).max())
        axis.set_ylim(max(-0.6 * top, axis.get_ylim()[0]), top)
    handles, labels = next(iter(panels.values())).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def draw_alpha(curves: dict[tuple[str, str, str], Curve]) -> Figure:
    """Finding (b): the peak under each alpha, prompts split."""
    chosen = {key: curve for key, curve in curves.items() if key[2] == "chunked prefill"}
    figure, panels = grid(chosen)
    shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(ALPHAS)))
    for (model, load, _), curve in chosen.items():
        axis, top = panels[model, load], curve.tokens.mean(axis=1).max()
        for alpha, colour in zip(ALPHAS, shades, strict=True):
            mean = curve.smooth(alpha).mean(axis=1)
            axis.plot(curve.rates, mean, "-", color=colour, label=f"alpha {alpha:g}")
            axis.plot(curve.rates[mean.argmax()], mean.max(), "o", color=colour, ms=6)
        axis.set_ylim(-0.3 * top, 1.1 * top)
    handles, labels = next(iter(panels.values())).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)
    return figure


SENT = {"as_they_come": "as they come", "held_back": "held back"}
SERVED = {"served": "served", "refused": "refused"}
HOLDING = {
    "share of requests within 0.1 s\nbetween tokens": ("tbt_attainment", SENT),
    "smooth goodput, tokens/s": ("smooth_goodput", SENT),
}
DROPPING = {
    "cut off on paper:\nsmooth goodput, tokens/s": (
        "smooth_goodput",
        {"served": "served", "cut": "cut off"},
    ),
    "refused when late:\nSLO attainment": ("system_attainment", SERVED),
    "goodput, tokens/s": ("system_goodput", SERVED),
    "smooth goodput, tokens/s": ("system_smooth_goodput", SERVED),
}
"""Title of a panel -> prefix of the columns, and their endings with labels."""


def draw_pairs(rows: pd.DataFrame, panels: Panels, title: str) -> Figure:
    """Findings (e) and (f): bars with intervals over the rows, which are seeds."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.3 * len(panels), 3.2), layout="constrained", squeeze=False
    )
    for axis, (name, (prefix, ends)) in zip(axes[0], panels.items(), strict=True):
        for place, (end, label) in enumerate(ends.items()):
            mean, low, high = mean_interval(rows[f"{prefix}_{end}"])
            spread = [[mean - low], [high - mean]]
            axis.bar(place, mean, 0.6, yerr=spread, capsize=4, color=f"C{place}", label=label)
        axis.set_xticks(range(len(ends)), list(ends.values()), fontsize=9)
        axis.set_title(name, fontsize=10)
        axis.axhline(0.0, color="black", lw=0.6)
    figure.suptitle(title, fontsize=11)
    return figure


def draw_cross(table: pd.DataFrame) -> Figure:
    """Objective in the rows, measure in the columns, percent of what its own optimiser gets."""
    names = list(dict.fromkeys(table["optimised_for"]))
    cells = table.pivot(index="optimised_for", columns="measured_by", values="percent")
    values = cells.loc[names, names].to_numpy()
    figure, axis = plt.subplots(figsize=(6.6, 4.4), layout="constrained")
    image = axis.imshow(values, cmap="RdBu", vmin=-15, vmax=15)
    for i, j in np.ndindex(values.shape):
        shade = "white" if abs(values[i, j]) > 11 else "black"
        axis.text(j, i, f"{values[i, j]:+.1f} %", ha="center", va="center", fontsize=9, color=shade)
    axis.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names], fontsize=9)
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.set(xlabel="measured by", ylabel="optimised for")
    figure.colorbar(image, label="against who optimises the measure, %", extend="both")
    return figure
