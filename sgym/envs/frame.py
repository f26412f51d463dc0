"""A moment of the simulation as text or as a picture: memory, running batch, queue, slack."""

from typing import TYPE_CHECKING

import numpy as np

from sgym.core.layout import NONE, RUNNING, State
from sgym.policies.view import InstanceView, RequestView

WIDTH = 720  # pixels
ROW = 190  # pixels of one instance
SHOWN_INSTANCES = 4
CELL, GAP, COLUMNS = 14, 2, 40  # pixels; requests in a row of cells
LINES = 3  # rows of cells per queue
PER_LINE = 8  # requests in a row of text

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Colour = tuple[int, int, int]
PAPER, INK, FAINT, USED, RESERVED = (
    (250, 250, 248),
    (40, 44, 52),
    (218, 220, 224),
    (86, 124, 180),
    (244, 200, 110),
)
CALM, TENSE, LATE = (94, 168, 110), (236, 190, 80), (206, 78, 70)


def slack_colour(slack: float) -> Colour:
    """Green with a second or more in hand, yellow at 0, red from a second overdue."""
    share = min(max(slack, -1.0), 1.0)
    return mixed(TENSE, CALM if share >= 0 else LATE, abs(share))


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other colour in one."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(one, other, strict=True))
    return red, green, blue


def text(state: State, name: str, slots: np.ndarray | None = None) -> str:
    """A panel of text: one block per instance; requests as id:generated/slack in seconds.

    Args:
        state: the simulation.
        name: of the scenario.
        slots: requests that the agent sees, marked with an asterisk.
    """
    cluster = state.cluster[0]
    lines = [f"{name}  t = {cluster['clock']:.3f} s of {cluster['horizon']:g} s"]
    for index in range(len(state.instances)):
        view, knobs = InstanceView(state, index), state.instances[index]
        used = view.num_blocks - view.free_blocks
        bar = "#" * round(30 * used / view.num_blocks)
        asks = " <- decides" if index == cluster["instance"] else ""
        lines.append(
            f"instance {index}  KV [{bar:<30}] {used}/{view.num_blocks} blocks, "
            f"reserve {knobs['reserve']}, budget {knobs['token_budget']}, "
            f"cap {knobs['active_cap']}{asks}"
        )
        for title, queue in (("running", view.running), ("waiting", view.waiting)):
            lines.append(f"  {title} {len(queue)}")
            lines += _request_lines(queue, slots)
    return "\n".join(lines)


def _request_lines(queue: list[RequestView], slots: np.ndarray | None) -> list[str]:
    shown = queue[: LINES * PER_LINE]
    cells = [
        f"{'*' if slots is not None and r.id in slots else ' '}"
        f"{r.id}:{r.generated}/{_short(r.slack)}"
        for r in shown
    ]
    lines = [
        "    " + " ".join(f"{cell:<13}" for cell in cells[at : at + PER_LINE]).rstrip()
        for at in range(0, len(cells), PER_LINE)
    ]
    return [*lines, f"    and {len(queue) - len(shown)} more"] if len(queue) > len(shown) else lines


def _short(seconds: float) -> str:
    return f"{seconds:+.1f}" if abs(seconds) < 1e4 else "-"


def picture(state: State, name: str, slots: np.ndarray | None = None) -> np.ndarray:
    """A picture, uint8 (height, WIDTH, 3): a KV bar and a cell per request, coloured by slack.

    The lower part of a running request's cell is the computed share of what it knows; a thin frame
    marks what the agent sees.
    """
    from PIL import Image, ImageDraw

    cluster = state.cluster[0]
    count = min(len(state.instances), SHOWN_INSTANCES)
    image = Image.new("RGB", (WIDTH, 40 + ROW * count), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((16, 12), f"{name}   t = {cluster['clock']:.2f} s", INK)
    draw.text((380, 12), "slack:", INK)
    for place, (slack, word) in enumerate(((1.0, ">= 1 s"), (0.0, "0 s"), (-1.0, "overdue"))):
        left = 430 + 95 * place
        draw.rectangle((left, 12, left + 12, 24), slack_colour(slack))
        draw.text((left + 18, 12), word, INK)
    for index in range(count):
        _draw_instance(draw, state, index, 40 + ROW * index, slots)
    return np.array(image)


def _draw_instance(
    draw: "ImageDraw", state: State, index: int, top: int, slots: np.ndarray | None
) -> None:
    view, knobs = InstanceView(state, index), state.instances[index]
    used = 1.0 - view.free_blocks / view.num_blocks
    left, right = 110, WIDTH - 130
    reserve = min(knobs["reserve"] / view.num_blocks, 1.0)
    draw.line((16, top, WIDTH - 16, top), FAINT)
    asks = "  decides" if index == state.cluster[0]["instance"] else ""
    draw.text((16, top + 8), f"instance {index}{asks}", INK)
    draw.text((16, top + 28), "KV memory", INK)
    draw.rectangle((left, top + 28, right, top + 40), FAINT)
    if reserve > 0:
        draw.rectangle((right - (right - left) * reserve, top + 28, right, top + 40), RESERVED)
    if used > 0:
        draw.rectangle((left, top + 28, left + (right - left) * used, top + 40), USED)
    draw.text((right + 8, top + 28), f"{used:.0%} used", INK)
    _draw_queue(draw, state, "running", view.running, top + 52, slots)
    _draw_queue(draw, state, "waiting", view.waiting, top + 120, slots)


def _draw_queue(
    draw: "ImageDraw",
    state: State,
    title: str,
    queue: list[RequestView],
    top: int,
    slots: np.ndarray | None,
) -> None:
    draw.text((16, top), f"{title} {len(queue)}", INK)
    for place, request in enumerate(queue[: COLUMNS * LINES]):
        x = 110 + (place % COLUMNS) * CELL
        y = top + (place // COLUMNS) * (CELL + 8)
        colour = slack_colour(request.slack)
        computed = request.computed / request.known if request.known else 0.0
        bottom = y + CELL + 4
        pale = mixed(PAPER, colour, 1 / 3)
        draw.rectangle((x, y, x + CELL - GAP, bottom), pale)
        level = computed if state.requests["phase"][request.id] == RUNNING else 1.0
        if level > 0:
            draw.rectangle((x, bottom - level * (CELL + 4), x + CELL - GAP, bottom), colour)
        if slots is not None and request.id != NONE and request.id in slots:
            draw.rectangle((x, y, x + CELL - GAP, bottom), outline=INK)
    if len(queue) > COLUMNS * LINES:
        draw.text((WIDTH - 60, top), f"+{len(queue) - COLUMNS * LINES}", INK)
