"""A moment of the simulation as a picture: roles, memory, batches, queues, slack.

The size of the picture depends on the number of instances alone: the more there are, the fewer
requests of each it shows. Of more than SHOWN_INSTANCES, the others are summed up in a line.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sgym.core.layout import NONE, RUNNING, State
from sgym.envs.panel import Elsewhere, elsewhere, kind_of, queues, role_of, text, traffic
from sgym.policies.view import InstanceView, RequestView

WIDTH = 720  # pixels, without the arrows
ARROWS = 150  # pixels for the arrows of transfers, right of several instances
TITLE = 40  # pixels above the instances
MORE = 24  # pixels of the line about instances that are not shown
SHOWN_INSTANCES = 12
LEFT, RIGHT = 110, WIDTH - 130  # pixels between which memory is drawn
CELL, GAP, COLUMNS = 14, 2, 40  # pixels; requests in a row of cells
LANE = 13  # pixels between arrows

__all__ = ["picture", "size_of", "slack_colour", "text"]

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Colour = tuple[int, int, int]
PAPER, INK, FAINT, USED, RESERVED, HELD = (
    (250, 250, 248),
    (40, 44, 52),
    (218, 220, 224),
    (86, 124, 180),
    (244, 200, 110),
    (122, 178, 178),
)
CALM, TENSE, LATE = (94, 168, 110), (236, 190, 80), (206, 78, 70)
ARROW_COLOURS: dict[str, Colour] = {"hand-off": (0, 110, 110), "migration": (150, 70, 140)}


class Layout(NamedTuple):
    """Where the parts of an instance are, in pixels from its top."""

    height: int
    memory: int
    running: int
    waiting: int
    lines: int  # rows of cells per queue


LAYOUTS = {2: Layout(190, 28, 52, 120, 3), 4: Layout(138, 25, 43, 89, 2)}
"""Up to so many instances."""
SMALL = Layout(94, 23, 41, 65, 1)


def layout_of(instances: int) -> Layout:
    """The layout for so many instances."""
    return next((found for most, found in LAYOUTS.items() if instances <= most), SMALL)


def size_of(instances: int) -> tuple[int, int]:
    """Width and height of the picture, in pixels."""
    shown = min(instances, SHOWN_INSTANCES)
    height = TITLE + layout_of(instances).height * shown + MORE * (instances > shown)
    return WIDTH + ARROWS * (instances > 1), height


def slack_colour(slack: float) -> Colour:
    """Green with a second or more in hand, yellow at 0, red from a second overdue."""
    share = min(max(slack, -1.0), 1.0)
    return mixed(TENSE, CALM if share >= 0 else LATE, abs(share))


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other colour in one."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(one, other, strict=True))
    return red, green, blue


def picture(state: State, name: str, slots: np.ndarray | None = None) -> np.ndarray:
    """A picture, uint8 (height, width, 3): a KV bar and a cell per request, coloured by slack.

    The lower part of a running request's cell is the computed share of what it knows; a thin frame
    marks what the agent sees. Arrows at the right are transfers of KV under way.
    """
    from PIL import Image, ImageDraw

    cluster, away = state.cluster[0], elsewhere(state)
    count = len(state.instances)
    layout = layout_of(count)
    image = Image.new("RGB", size_of(count), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((16, 12), f"{name}   t = {cluster['clock']:.2f} s", INK)
    draw.text((380, 12), "slack:", INK)
    for place, (slack, word) in enumerate(((1.0, ">= 1 s"), (0.0, "0 s"), (-1.0, "overdue"))):
        left = 430 + 95 * place
        draw.rectangle((left, 12, left + 12, 24), slack_colour(slack))
        draw.text((left + 18, 12), word, INK)
    shown = min(count, SHOWN_INSTANCES)
    for index in range(shown):
        top = TITLE + layout.height * index
        _draw_memory(draw, state, index, top, layout, away)
        view = InstanceView(state, index)
        places = (layout.running, layout.waiting)
        found = queues(state, view, COLUMNS * layout.lines)
        for (title, members, length), place in zip(found, places, strict=True):
            _draw_queue(draw, state, f"{title} {length}", members, length, top + place, slots)
    if count > 1:
        _draw_transfers(draw, state, layout)
    if count > shown:
        rest = state.instances[shown:]
        draw.text(
            (16, TITLE + layout.height * shown + 6),
            f"and {count - shown} more instances: {rest['num_running'].sum()} running, "
            f"{rest['num_waiting'].sum()} waiting",
            INK,
        )
    return np.array(image)


def _draw_memory(
    draw: "ImageDraw", state: State, index: int, top: int, layout: Layout, away: Elsewhere
) -> None:
    """Name, role and KV memory of an instance."""
    knobs, capacity = state.instances[index], int(state.engines[index]["num_blocks"])
    used = capacity - int(knobs["free_blocks"])
    own = used - min(int(away.held[index]), used)
    asks = index == state.cluster[0]["instance"]
    draw.line((16, top, WIDTH - 16, top), FAINT)
    draw.text((16, top + 8), f"instance {index}", INK)
    about = [role_of(state, index), "decides" if asks else "", *traffic(state, index, away)]
    draw.text((LEFT, top + 8), "   ".join(part for part in about if part), INK)
    top += layout.memory
    draw.text((16, top), "KV memory", INK)
    draw.rectangle((LEFT, top, RIGHT, top + 12), FAINT)
    pixels = (RIGHT - LEFT) / capacity
    reserve = min(int(knobs["reserve"]), capacity)
    for colour, since, until in (
        (RESERVED, capacity - reserve, capacity),
        (USED, 0, own),
        (HELD, own, used),
    ):
        if until > since:
            draw.rectangle((LEFT + pixels * since, top, LEFT + pixels * until, top + 12), colour)
    draw.text((RIGHT + 8, top), f"{used / capacity:.0%} used", INK)


def _draw_queue(
    draw: "ImageDraw",
    state: State,
    title: str,
    members: list[RequestView],
    length: int,
    top: int,
    slots: np.ndarray | None,
) -> None:
    draw.text((16, top), title, INK)
    for place, request in enumerate(members):
        x = LEFT + (place % COLUMNS) * CELL
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
    if length > len(members):
        draw.text((WIDTH - 44, top), f"+{length - len(members)}", INK)


def _draw_transfers(draw: "ImageDraw", state: State, layout: Layout) -> None:
    """An arrow per pair of instances and kind, with the number of transfers under way."""
    draw.rectangle((WIDTH, 6, WIDTH + 12, 16), HELD)
    draw.text((WIDTH + 18, 5), "KV in transit", INK)
    draw.text((WIDTH, 21), "hand-off", ARROW_COLOURS["hand-off"])
    draw.text((WIDTH + 55, 21), "migration", ARROW_COLOURS["migration"])
    counts: dict[tuple[int, int, str], int] = {}
    for entry in state.transfers[: int(state.cluster[0]["num_transfers"])]:
        key = (int(entry["source"]), int(entry["target"]), kind_of(entry))
        if max(key[:2]) < SHOWN_INSTANCES:
            counts[key] = counts.get(key, 0) + 1
    arrows = sorted(counts, key=lambda key: (abs(key[0] - key[1]), key))  # short ones inside
    ends = [instance for source, target, _ in arrows for instance in (source, target)]
    for lane, (source, target, kind) in enumerate(arrows):
        colour = ARROW_COLOURS[kind]
        start = _port(layout, ends, 2 * lane, source)
        end = _port(layout, ends, 2 * lane + 1, target)
        left, turn = WIDTH - 10, WIDTH + 6 + LANE * lane % (ARROWS - LANE)
        draw.line([(left, start), (turn, start), (turn, end), (left + 4, end)], colour, 2)
        draw.polygon([(left - 2, end), (left + 6, end - 4), (left + 6, end + 4)], colour)
        middle = (start + end) // 2
        draw.rectangle((turn - 5, middle - 6, turn + 5, middle + 6), PAPER)
        draw.text((turn, middle), str(counts[source, target, kind]), colour, anchor="mm")


def _port(layout: Layout, ends: list[int], place: int, instance: int) -> int:
    """Height at which the end of an arrow touches an instance, apart from its other arrows."""
    number, count = ends[:place].count(instance), ends.count(instance)
    step = min(12.0, (layout.height - 16) / count)
    middle = TITLE + layout.height * (instance + 0.5)
    return round(middle + step * (number - (count - 1) / 2))
