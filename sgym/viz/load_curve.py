"""The figure of a comparison: what each policy earns over the request rate."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sgym.errors import SgymError

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = "#000000"
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F")
"""Okabe and Ito's colours for all kinds of colour vision, without the pale yellow."""
MARKERS = "osD^vPX*<>ph"
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
SUFFIXES = (".png", ".pdf", ".svg")
BELOW = 0.15  # how far under 0 a panel reaches, relative to its highest value
MARGIN = 0.05  # of a panel's height, above what it shows
LEGEND_COLUMNS = 6
TITLE_WIDTH = 125  # characters of a line
SHARE = "slo_attainment"  # between 0 and 1, though its interval may reach beyond


class Panel(NamedTuple):
    """One set of axes."""

    column: str
    title: str
    label: str


def panels(reference: str) -> tuple[Panel, ...]:
    """What the figure shows, row by row."""
    return (
        Panel("smooth_goodput", "Smooth goodput", "tokens/s"),
        Panel("difference", f"Smooth goodput less that of {reference}, same seeds", "tokens/s"),
        Panel(SHARE, "Requests with every token on time", "share"),
        Panel("throughput_tok_s", "Throughput", "tokens/s"),
    )


def draw_load_curve(table: "pd.DataFrame", policies: Sequence[str], title: str, path: Path) -> Path:
    """Draw means as lines and their intervals as bands; write the file in one piece.

    Args:
        table: a row per (rate, policy), as `Comparison.table`.
        policies: in the order of the legend; the first is the reference.
        title: above all panels.
        path: ends in .png, .pdf or .svg.
    """
    from matplotlib.figure import Figure  # late, and without pyplot: no global state

    if path.suffix not in SUFFIXES:
        raise SgymError(f"figure {path.name!r} must end in one of {', '.join(SUFFIXES)}")
    figure = Figure(figsize=(11.0, 8.0), dpi=150, layout="constrained")
    axes = figure.subplots(2, 2)
    for panel, place in zip(panels(policies[0]), axes.flat, strict=True):
        for index, policy in enumerate(policies):
            _draw_line(place, table[table["policy"] == policy], panel.column, policy, index)
        _finish_panel(place, panel, sorted(set(table["rate"])))
    lines, names = axes.flat[0].get_legend_handles_labels()
    columns = min(LEGEND_COLUMNS, len(names))
    figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False)
    figure.suptitle(textwrap.fill(title, TITLE_WIDTH), fontsize=11, parse_math=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.tmp{path.suffix}")
    figure.savefig(draft)
    os.replace(draft, path)
    return path


def _draw_line(axes: Any, rows: Any, column: str, policy: str, index: int) -> None:
    """One policy; the first stands out in black, then those that are not built in."""
    rate, other = rows["rate"], max(index - 1, 0)
    colour = COLOURS[other % len(COLOURS)] if index else REFERENCE
    axes.plot(
        rate,
        rows[column],
        label=policy,
        color=colour,
        marker=MARKERS[index % len(MARKERS)],
        linestyle=DASHES[other // len(COLOURS) % len(DASHES)],
        linewidth=2.2 if index == 0 or ":" in policy else 1.5,
        markersize=5,
    )
    low, high = rows[f"{column}_low"], rows[f"{column}_high"]
    if column == SHARE:
        low, high = low.clip(0, 1), high.clip(0, 1)
    axes.fill_between(rate, low, high, color=colour, alpha=0.07, linewidth=0)


def _finish_panel(axes: Any, panel: Panel, rates: list[float]) -> None:
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_xlabel("requests per second")
    axes.set_ylabel(panel.label)
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    high = axes.dataLim.y1
    if panel.column == SHARE:
        top = min(1.02, max(1.3 * high, 0.1))
        axes.set_ylim(-0.02 * top, top)
    elif panel.column == "difference":
        _cut_below(axes, -1.2 * max(high, 1e-9))
    elif high > 0:
        _cut_below(axes, -BELOW * high)


def _cut_below(axes: Any, floor: float) -> None:
    """Let lines leave the panel rather than press all others together."""
    low, high = axes.dataLim.y0, axes.dataLim.y1
    if low >= floor:
        return
    axes.set_ylim(floor, high + MARGIN * (high - floor))
    axes.set_xlabel(f"requests per second; some lines go on, down to {low:.0f}")
