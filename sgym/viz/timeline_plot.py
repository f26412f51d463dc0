"""A run as a figure: a row per instance with its batches, memory, queue and transfers."""

import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sgym.errors import SgymError
from sgym.viz.cluster_log import ClusterLog, binned, cluster_log
from sgym.viz.cluster_use import Use, use_of
from sgym.viz.load_curve import SUFFIXES
from sgym.viz.timeline_moves import PANEL, STRIP, at, draw_arrows, draw_marks

if TYPE_CHECKING:
    from sgym.simulator import Result

WIDTH, DPI = 11.0, 150  # inches, dots per inch
ROW_HEIGHTS = {1: 2.2, 2: 1.6, 4: 1.25, 8: 0.95}  # inches of a row, up to so many rows
LOW_ROW = 0.75  # inches of a row, of more
BORDERS = 1.6  # inches above and below the rows
SINGLE = 200  # batches of a row that are drawn one by one, with a gap between them
BINS = 800  # columns into which more of them are gathered
FULL = (0.05, 0.1, 0.25, 0.5, 1.0)  # of memory: what the panels may reach up to
TITLE_WIDTH = 110  # characters of a line

DECODE_COLOUR, PREFILL_COLOUR = "#0072B2", "#E69F00"
MEMORY, MEMORY_EDGE, HELD, QUEUE = "#BFDDF1", "#4C9FCF", "#7CC8AC", "#000000"
"""Okabe and Ito's colours for all kinds of colour vision, some of them paler."""


def draw_timeline(
    result: "Result", path: Path, start: float | None = None, end: float | None = None
) -> Path:
    """Draw a run between two times; write the file in one piece.

    Args:
        result: of `simulate(..., log=LOGS)`.
        path: ends in .png, .pdf or .svg.
        start: seconds; None = the start of the window.
        end: seconds; None = the end of the window.

    Raises:
        SgymError: another suffix, something was not logged, or the span is empty.
    """
    check_name(path)
    log = cluster_log(result, start, end)
    title = f"{result.scenario.name} under {result.policy}, seed {result.seed}"
    figure = timeline_figure(log, title)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.tmp{path.suffix}")
    figure.savefig(draft)
    os.replace(draft, path)
    return path


def check_name(path: Path) -> None:
    """Refuse a file that is no picture.

    Raises:
        SgymError: another suffix than those of SUFFIXES.
    """
    if path.suffix not in SUFFIXES:
        raise SgymError(f"figure {path.name!r} must end in one of {', '.join(SUFFIXES)}")


def timeline_figure(log: ClusterLog, title: str) -> Any:
    """The figure, before it is written."""
    from matplotlib.figure import Figure  # late, and without pyplot: no global state

    count = len(log.names)
    height = next((height for most, height in ROW_HEIGHTS.items() if count <= most), LOW_ROW)
    figure = Figure(figsize=(WIDTH, BORDERS + height * count), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(log.start, log.end)
    axes.set_ylim(-count, 0)
    uses = [use_of(log, index) for index in range(count)]
    scale = _scale(log, uses)
    many = False
    for index, use in enumerate(uses):
        many |= _draw_batches(axes, log, index)
        _draw_use(axes, log, index, use, scale)
    handles = _batch_handles(many) + _memory_handles(any(use.held.any() for use in uses))
    handles += draw_arrows(axes, log) + draw_marks(axes, log)
    _finish(axes, log, scale)
    axes.set_title(textwrap.fill(title, TITLE_WIDTH), loc="left", fontsize=11, parse_math=False)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles) if len(handles) <= 6 else -(-len(handles) // 2),
        frameon=False,
        fontsize=8.5,
    )
    return figure


class Scale(NamedTuple):
    """What the panels of all instances reach up to."""

    memory: float  # share of an instance's KV memory
    waiting: int  # requests


def _scale(log: ClusterLog, uses: list[Use]) -> Scale:
    highest = max(
        use.used.max(initial=0) / blocks for use, blocks in zip(uses, log.num_blocks, strict=True)
    )
    longest = max(int(use.waiting.max(initial=0)) for use in uses)
    return Scale(next(full for full in FULL if highest <= full), max(longest, 1))


def _draw_batches(axes: Any, log: ClusterLog, index: int) -> bool:
    """A bar per batch; or, of very many, bars as high as the share of time in use: True."""
    from matplotlib.collections import PolyCollection

    rows = log.iterations[log.seen_rows_of(index)]
    low, high = at(index, STRIP[0]), at(index, STRIP[1])
    axes.add_patch(_box(log.start, log.end, low, high, "#F2F2F2"))
    tokens = rows["prefill_tokens"] + rows["decode_seqs"]
    shares = rows["prefill_tokens"] / np.maximum(tokens, 1)
    starts, ends = rows["start"], rows["start"] + rows["duration"]
    heights = np.full(len(rows), high - low)
    gap, many = 0.4, len(rows) > SINGLE
    if many:
        gap = 0.0
        starts, ends, busy, shares = binned(
            starts, ends, shares, np.linspace(log.start, log.end, BINS + 1)
        )
        heights = busy * (high - low)
    corners = [
        [(start, low), (start, low + tall), (end, low + tall), (end, low)]
        for start, end, tall in zip(starts, ends, heights, strict=True)
    ]
    axes.add_collection(
        PolyCollection(
            corners, facecolors=_colours(shares), edgecolors="white", linewidths=gap, zorder=2
        ),
        autolim=False,
    )
    return many


def _colours(shares: np.ndarray) -> Any:
    """From decodes only to prefill only."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("share", [DECODE_COLOUR, PREFILL_COLOUR])(shares)


def _box(start: float, end: float, low: float, high: float, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((start, low), end - start, high - low, facecolor=colour, zorder=0)


def _draw_use(axes: Any, log: ClusterLog, index: int, use: Use, scale: Scale) -> None:
    low, high = at(index, PANEL[0]), at(index, PANEL[1])
    block = (high - low) / (scale.memory * log.num_blocks[index])
    axes.add_patch(_box(log.start, log.end, low, high, "#F8F8F8"))
    time = np.append(use.time, log.end)
    used = _continued(low + block * use.used)
    own = _continued(low + block * (use.used - use.held))
    axes.fill_between(time, low, own, step="post", color=MEMORY, linewidth=0, zorder=1)
    if use.held.any():
        axes.fill_between(time, own, used, step="post", color=HELD, linewidth=0, zorder=1)
    axes.step(time, used, where="post", color=MEMORY_EDGE, linewidth=0.8, zorder=2)
    waiting = _continued(low + (high - low) * use.waiting / scale.waiting)
    axes.step(time, waiting, where="post", color=QUEUE, linewidth=1.0, zorder=3)


def _continued(values: np.ndarray) -> np.ndarray:
    """The last value once more, up to the end of the span."""
    return np.append(values, values[-1])


def _batch_handles(many: bool) -> list[Any]:
    from matplotlib.patches import Patch

    colours = _colours(np.array([0.0, 0.5, 1.0]))
    words = ("batch of decodes", "half prefill tokens", "batch of prefill")
    if many:
        words = (*words[:2], "batch of prefill (height: time in use)")
    return [
        Patch(facecolor=colour, label=word) for colour, word in zip(colours, words, strict=True)
    ]


def _memory_handles(held: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(facecolor=MEMORY, edgecolor=MEMORY_EDGE, label="KV memory in use")]
    if held:
        handles.append(Patch(facecolor=HELD, edgecolor=MEMORY_EDGE, label="KV leaving or loading"))
    return [*handles, Line2D([], [], color=QUEUE, linewidth=1, label="waiting requests")]


def _finish(axes: Any, log: ClusterLog, scale: Scale) -> None:
    count = len(log.names)
    ticks = [at(index, share) for index in range(count) for share in PANEL]
    shares = ["0", f"{100 * scale.memory:.0f} %"]
    axes.set_yticks(ticks, shares * count, fontsize=7.5, color="#2A78A8")
    right = axes.secondary_yaxis("right")
    right.set_yticks(ticks, ["0", f"{scale.waiting}"] * count, fontsize=7.5)
    right.set_ylabel("waiting requests", fontsize=9)
    right.spines["right"].set_visible(False)
    for side in (axes, right):
        side.tick_params(axis="y", length=2)
    for index, name in enumerate(log.names):
        axes.annotate(
            name.replace(" (", "\n(", 1),
            (0, at(index, 0.5)),
            xycoords=("axes fraction", "data"),
            xytext=(-34, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9,
        )
    axes.set_xlabel("seconds since the start")
    axes.spines[["top", "right", "left"]].set_visible(False)
