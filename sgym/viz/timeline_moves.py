"""How a figure shows what happens between batches: arrows for transfers, marks for the rest."""

from typing import Any, NamedTuple

import numpy as np

from sgym.core.layout import Move, Role
from sgym.viz.cluster_log import TRAVEL, ClusterLog

STRIP = (0.70, 0.94)  # of a row of height 1: batches
PANEL = (0.06, 0.58)  # memory and queue
MARK = 0.64  # preemptions and the like
MOST_ARROWS = 120  # of a kind
FEW_ARROWS = 30  # up to so many, their lines are strong


class Style(NamedTuple):
    """How a kind of move is drawn."""

    label: str
    colour: str
    marker: str = ""


ARROWS = {
    Move.HANDOFF: Style("hand-off", "#00664B"),
    Move.MIGRATION: Style("migration", "#B0457F"),
}
MARKS = {
    Move.PREEMPTION: Style("preemption", "#D55E00", "v"),
    Move.SWAP_OUT: Style("swapped out", "#D55E00", "s"),
    Move.SWAP_IN: Style("swapped in", "#009E73", "s"),
    Move.REJECTION: Style("rejection", "#000000", "x"),
    Move.ABORT: Style("migration aborted", "#B0457F", "X"),
    Move.ROLE: Style("new role", "#000000", "|"),
}


def at(index: int, share: float) -> float:
    """The y of a place within a row; rows go down from 0."""
    return share - 1.0 - index


def draw_arrows(axes: Any, log: ClusterLog) -> list[Any]:
    """Lines from source to target with a head at the target; evenly chosen if there are many."""
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    for kind in TRAVEL:
        moves, style = log.seen_moves[log.seen_moves["kind"] == kind], ARROWS[Move(kind)]
        if not moves.size:
            continue
        step = -(-len(moves) // MOST_ARROWS)
        shown = moves[::step]
        down = shown["target"] > shown["source"]
        tails = np.where(down, STRIP[0], STRIP[1]) - 1.0 - shown["source"]
        heads = np.where(down, STRIP[1], STRIP[0]) - 1.0 - shown["target"]
        ends = np.stack([shown["start"], tails, shown["end"], heads], axis=1).reshape(-1, 2, 2)
        alpha = 0.8 if len(shown) <= FEW_ARROWS else 0.3
        lines = LineCollection(
            list(ends), colors=style.colour, linewidths=0.9, alpha=alpha, zorder=4
        )
        axes.add_collection(lines, autolim=False)
        for marker, chosen in (("v", down), ("^", ~down)):
            axes.scatter(
                shown["end"][chosen], heads[chosen], s=14, marker=marker, color=style.colour,
                linewidths=0, zorder=5,
            )  # fmt: skip
        label = style.label if step == 1 else f"{style.label} (1 of {step} drawn)"
        handles.append(
            Line2D([], [], color=style.colour, marker="v", markersize=4, linewidth=1, label=label)
        )
    return handles


def draw_marks(axes: Any, log: ClusterLog) -> list[Any]:
    """A mark where a request is preempted or rejected and the like; a new role with its name."""
    handles: list[Any] = []
    for kind, style in MARKS.items():
        moves = log.seen_moves[log.seen_moves["kind"] == int(kind)]
        if not moves.size:
            continue
        place = np.where(moves["source"] >= 0, moves["source"], moves["target"])
        line = style.marker in "x|"
        drawn = axes.scatter(
            moves["start"],
            MARK - 1.0 - place,
            s=60 if style.marker == "|" else 18,
            marker=style.marker,
            color=style.colour,
            linewidths=1.2 if line else 0,
            label=style.label,
            zorder=6,
        )
        handles.append(drawn)
        if kind == Move.ROLE:
            for move, at in zip(moves, MARK - 1.0 - place, strict=True):
                name = Role(int(move["request"])).name.lower()
                axes.text(move["start"], at, f" {name}", fontsize=7, va="center", zorder=6)
    return handles
