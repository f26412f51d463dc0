"""Heuristics as experts: what they would do, in the terms of an environment's action.

They see no more than the agent does. `knobs` has its heuristics by name; for `scores` and `slots`
the order is computed from the observation, which says of every shown request what they go by.
Reservations and limits are only said in `knobs`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgym.envs.actions import AGING, KNOBS, ORDERINGS, PROMOTE, reservation_of
from sgym.envs.features import Feature
from sgym.envs.orderings import PREFILL_TIME

PLACER = "least_outstanding"
"""Where requests are placed, every expert names the open instance with the fewest tokens to come;
under `route` this is all it does."""


class Expert:
    """The actions of a heuristic.

    Args:
        name: knobs such as spf+0.2+open, an ordering such as edf, or least_outstanding.
        plan: of the environment (`get_attr("plan")[0]`).

    Raises:
        ValueError: the environment has no action that stands for it.
    """

    def __init__(self, name: str, plan: Any) -> None:
        self.layout = plan.layout
        self.action: str = plan.layout.action
        self.seen: Mapping[str, Sequence[Feature]] = plan.features
        self.ordering = name.split("+")[0]
        places = self.action == "route"
        if places != (name == PLACER) or (not places and self.ordering not in ORDERINGS):
            raise ValueError(f"expert {name!r} cannot say anything under action={self.action!r}")
        if self.action == "index" and self.ordering != plan.options.base:
            raise ValueError(
                f"under action='index' the expert must be its base {plan.options.base!r}, "
                f"got {name!r}"
            )
        if not places and "+" not in name:
            name = f"{name}+{reservation_of(name):g}+open"
        self.knob = 0 if places else [knobs.name for knobs in KNOBS].index(name)

    def __call__(self, seen: dict[str, np.ndarray], masks: np.ndarray | None) -> np.ndarray:
        """Actions for N moments; (N, ...) as the action space has it.

        Args:
            seen: the observation, each part (N, its length).
            masks: valid choices, bool (N, entries of the flat mask); none for Box actions.
        """
        count = len(seen["requests"])
        if self.action == "route":
            return self._placed(seen, masks)
        if self.action == "knobs":
            return np.where(self._places(seen), self._placed(seen, masks), self.knob)
        actions = np.zeros((count, *self.layout.space.shape), np.float32)
        if self.action == "scores":
            actions[:, : self.layout.num_slots] = self._scores(seen)
        if self.action == "slots":
            actions[:, : self.layout.num_slots] = self._verbs(seen)
        if self.layout.num_destinations:
            self._add_places(seen, masks, actions)
        return actions.astype(np.int64) if self.action == "slots" else actions

    def _scores(self, seen: dict[str, np.ndarray]) -> np.ndarray:
        """Ranks, from 1 for the first of the queue down to 1 / its length; float64 (N, K)."""
        scores = np.zeros(self.raw(seen, "requests", "present").shape)
        for members, urgency in self._groups(seen):
            numbers = np.where(members, urgency, np.inf)
            rank = numbers.argsort(1, kind="stable").argsort(1, kind="stable")
            length = np.maximum(members.sum(1, keepdims=True), 1)
            scores += np.where(members, 1.0 - rank / length, 0.0)
        return scores

    def _verbs(self, seen: dict[str, np.ndarray]) -> np.ndarray:
        """Promotes the first of the queue, and all running requests but the first victim."""
        (waiting, urgency), (running, need) = self._groups(seen)
        first = np.where(waiting, urgency, np.inf).argmin(1)
        last = np.where(running, need, -np.inf).argmax(1)
        rows = np.arange(len(waiting))
        chosen = running.copy()
        chosen[rows, last] = False
        chosen[rows, first] |= waiting[rows, first]
        return np.where(chosen, PROMOTE, 0)

    def _groups(self, seen: dict[str, np.ndarray]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """(which are waiting, lowest first), (which are running, highest preempted first)."""
        present = self.raw(seen, "requests", "present") > 0
        running = (self.raw(seen, "requests", "running") > 0) & present
        slack = self.raw(seen, "requests", "slack")
        due = slack - np.maximum(self.raw(seen, "requests", "lateness"), 0.0)
        waited = self.raw(seen, "requests", "waited")
        if self.ordering == "spf":
            queue = self.raw(seen, "requests", "prompt") - AGING * waited
        elif self.ordering == "edf":
            queue = due
        elif self.ordering == "llf":
            queue = slack - PREFILL_TIME * self.raw(seen, "requests", "known")
        else:
            queue = -waited
        if self.ordering in ("fcfs", "spf"):
            victims = np.broadcast_to(-np.arange(slack.shape[1], dtype=float), slack.shape)
        else:
            victims = due if self.ordering == "edf" else slack
        return (present & ~running, queue), (running, victims)

    def _places(self, seen: dict[str, np.ndarray]) -> np.ndarray:
        """Whether a moment is a placement; bool (N,)."""
        return self.raw(seen, "cluster", "decides_schedule")[:, 0] == 0

    def _placed(self, seen: dict[str, np.ndarray], masks: np.ndarray | None) -> np.ndarray:
        """The open instance with the fewest tokens to come; int64 (N,)."""
        count = self.layout.num_destinations
        if not count:
            return np.zeros(len(seen["requests"]), np.int64)
        load = self.raw(seen, "instances", "outstanding")
        if masks is None:
            return load.argmin(1)
        is_open = masks[:, -count:] if self.action == "slots" else masks[:, :count]
        return np.where(is_open, load, np.inf).argmin(1)

    def _add_places(
        self, seen: dict[str, np.ndarray], masks: np.ndarray | None, actions: np.ndarray
    ) -> None:
        """Write the destinations behind what is said of slots."""
        where, rows = self._placed(seen, masks), np.flatnonzero(self._places(seen))
        if self.action == "slots":
            actions[rows] = 0
            actions[rows, -1] = where[rows]
        else:
            actions[rows, where[rows] - self.layout.num_destinations] = 1.0

    def raw(self, seen: dict[str, np.ndarray], table: str, name: str) -> np.ndarray:
        """A feature in its own unit; float64 (N, members of the table)."""
        names = [feature.name for feature in self.seen[table]]
        place = names.index(name)
        feature = self.seen[table][place]
        shown = seen[table].reshape(len(seen[table]), -1, len(names))[..., place].astype(float)
        if not feature.squash:
            return shown * feature.scale
        return feature.scale * shown / np.maximum(1.0 - np.abs(shown), 1e-7)
