"""Which request stands in which slot, and what `slots` and `scores` say of those in one."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from sgym.export.moment import shown
from sgym.export.view import HOLD, EngineSteering, EngineView

EMPTY, RUNNING, WAITING = range(3)
"""What is in a slot."""
VERBS_OF = (("neutral",), ("neutral", "preempt", "promote"), ("neutral", "promote", "hold"))
"""What can be said of it."""


class Slots:
    """The K slots of a moment: half for running requests, next victims first, half for the queue.

    Places that one half leaves over are lent to the other from the far end.

    Args:
        view: of an engine.
        count: K.

    Attributes:
        places: int (number shown,): slots that are in use, the running requests' first.
        shown: the rows of the view that stand there, in order; they lie beside each other.
        num_running: of these.
    """

    __slots__ = ("num_running", "places", "shown")

    def __init__(self, view: EngineView, count: int) -> None:
        running = view.num_running
        first, second = shown(running, view.num_waiting, count)
        self.num_running = first
        self.shown = slice(running - first, running + second)
        self.places, _ = arrangement(first, second, count)


@lru_cache(maxsize=4096)
def arrangement(running: int, waiting: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where so many shown requests stand: `Slots.places`, and what is in each of `count` slots."""
    half = count // 2
    places = np.empty(running + waiting, np.intp)
    content = np.zeros(count, np.intp)
    own = min(running, half)  # the k-th from the tail stands in slot k, lent places come last
    places[running - own : running] = np.arange(own - 1, -1, -1)
    places[: running - own] = np.arange(count - running + own, count)
    content[:own] = content[count - running + own :] = RUNNING
    other = min(waiting, count - half)
    places[running : running + other] = np.arange(half, half + other)
    places[running + other :] = np.arange(half - 1, half - 1 - waiting + other, -1)
    content[half : half + other] = WAITING
    content[half - waiting + other : half] = WAITING
    places.flags.writeable = content.flags.writeable = False
    return places, content


def allowed_verbs(verbs: Sequence[str]) -> np.ndarray:
    """Which verbs apply; bool (3, number of verbs): a row for EMPTY, RUNNING, WAITING."""
    return np.array([[verb in said for verb in verbs] for said in VERBS_OF])


def say(
    view: EngineView, slots: Slots, chosen: np.ndarray, verbs: Sequence[str], level: int
) -> EngineSteering:
    """The Steering of an action of `slots`.

    Args:
        view: of the engine.
        slots: of this moment.
        chosen: int (K,): the verb of each slot, all of which apply.
        verbs: their names.
        level: of the token budget.
    """
    count, of_rows = len(view.rows), chosen[slots.places]
    steering = EngineSteering(
        np.zeros(count),
        np.zeros(count),
        np.zeros(count, np.bool_),
        max(1, view.limits.max_num_batched_tokens >> level),
        view.limits.max_num_seqs,
    )
    waiting, running, preempt = meanings(tuple(verbs))
    steering.waiting_score[slots.shown] = waiting[of_rows]
    steering.running_score[slots.shown] = running[of_rows]
    steering.preempt[slots.shown] = preempt[of_rows]
    return steering


@lru_cache
def meanings(verbs: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each verb says of a request: its waiting score, its running score, preempt or not."""
    promote = np.array([float(verb == "promote") for verb in verbs])
    waiting = np.where([verb == "hold" for verb in verbs], HOLD, promote)
    return waiting, promote, np.array([verb == "preempt" for verb in verbs])


def score(view: EngineView, slots: Slots, scores: np.ndarray) -> EngineSteering:
    """The Steering of an action of `scores`: float64 (K,), a score for both queues."""
    waiting = np.zeros(len(view.rows))
    waiting[slots.shown] = scores[slots.places]
    return EngineSteering(
        waiting,
        waiting.copy(),
        np.zeros(len(waiting), np.bool_),
        view.limits.max_num_batched_tokens,
        view.limits.max_num_seqs,
    )
