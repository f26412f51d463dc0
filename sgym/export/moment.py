"""What a policy sees of its engine and of the decision, from an EngineView.

The numbers are those of `sgym.envs.observe`; which feature is what stands in `sgym.envs.features`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sgym.export.features import COPIED, REQUESTS, Scaling
from sgym.export.trigger import ARRIVAL, DRY, FINISH, PRESSURE
from sgym.export.view import NEVER, EngineView, matrix_of


class Moment:
    """A view, and what several features need of it.

    Args:
        view: of an engine.
        num_slots: requests that the policy sees.
    """

    __slots__ = (
        "hidden_tokens",
        "loss",
        "num_waiting",
        "overdue",
        "shown_running",
        "shown_waiting",
        "view",
        "waiting_tokens",
    )

    def __init__(self, view: EngineView, num_slots: int) -> None:
        self.view = view
        self.num_waiting = len(view.rows) - view.num_running
        self.shown_running, self.shown_waiting = shown(
            view.num_running, self.num_waiting, num_slots
        )
        left = tokens_to_prefill(view.rows[view.num_running :])
        self.waiting_tokens = float(left.sum())
        self.hidden_tokens = float(left[self.shown_waiting :].sum())
        self.overdue, self.loss = overdue(view)


def shown(num_running: int, num_waiting: int, num_slots: int) -> tuple[int, int]:
    """How many running requests have a slot, from the tail, and how many waiting ones."""
    half = num_slots // 2
    return (
        min(num_running, half + max(0, num_slots - half - num_waiting)),
        min(num_waiting, num_slots - half + max(0, half - num_running)),
    )


def tokens_to_prefill(waiting: np.ndarray) -> np.ndarray:
    """Tokens to prefill of each of these rows."""
    fields = matrix_of(waiting)
    return fields[:, 1] + fields[:, 2] - fields[:, 3]  # prompt, generated, computed


def overdue(view: EngineView) -> tuple[float, float]:
    """How many requests lose benefit now, and how many tokens per second they lose in all."""
    if view.overdue is not None and view.loss is not None:
        return view.overdue, view.loss
    rows, limits, now = view.rows, view.limits, view.now
    due, lateness, alpha = rows["due"], rows["lateness"], rows["alpha"]
    falls = (due + lateness < now) & (due < NEVER)
    if limits.penalty_cap < NEVER:
        falls &= (lateness < limits.penalty_cap) & (due + limits.penalty_cap >= now)
    if limits.scale_by_tokens:
        alpha = alpha * rows["generated"]
    return float(np.count_nonzero(falls)), float(alpha[falls].sum())


def _budget(view: EngineView) -> float:
    if view.token_budget is None:
        return 1.0
    return view.token_budget / view.limits.max_num_batched_tokens


def _cap(view: EngineView) -> float:
    return 1.0 if view.active_cap is None else view.active_cap / view.limits.max_num_seqs


Number = Callable[[Moment], float]
# ruff: noqa: ARG005
INSTANCES: dict[str, Number] = {
    "asks": lambda moment: 1.0,
    "running": lambda moment: moment.view.num_running / moment.view.limits.max_num_seqs,
    "waiting": lambda moment: moment.num_waiting,
    "waiting_tokens": lambda moment: moment.waiting_tokens,
    "free": lambda moment: moment.view.free_blocks / moment.view.limits.num_blocks,
    "short": lambda moment: moment.view.free_blocks < moment.view.num_running,
    "duration": lambda moment: moment.view.duration,
    "prefill": lambda moment: (
        moment.view.prefill_tokens / moment.view.limits.max_num_batched_tokens
    ),
    "decode": lambda moment: moment.view.decode_seqs / moment.view.limits.max_num_seqs,
    "preempted": lambda moment: moment.view.num_preempted,
    "kv_tokens": lambda moment: moment.view.kv_tokens,
    "budget": lambda moment: _budget(moment.view),
    "cap": lambda moment: _cap(moment.view),
    "chunk": lambda moment: moment.view.chunk_cap / moment.view.limits.max_num_batched_tokens,
    "reserve": lambda moment: moment.view.reserve / moment.view.limits.num_blocks,
}
"""Features of the instance."""

CLUSTER: dict[str, Number] = {
    "decides_schedule": lambda moment: 1.0,
    "decides_route": lambda moment: 0.0,
    "arrived": lambda moment: moment.view.reasons & ARRIVAL != 0,
    "finished": lambda moment: moment.view.reasons & FINISH != 0,
    "pressure": lambda moment: moment.view.reasons & PRESSURE != 0,
    "dry": lambda moment: moment.view.reasons & DRY != 0,
    "since_decision": lambda moment: moment.view.now - moment.view.decided,
    "hidden_running": lambda moment: moment.view.num_running - moment.shown_running,
    "hidden_waiting": lambda moment: moment.num_waiting - moment.shown_waiting,
    "hidden_tokens": lambda moment: moment.hidden_tokens,
    "overdue": lambda moment: moment.overdue,
    "loss": lambda moment: moment.loss,
}
"""Features of the cluster, of which the engine is all there is, and of the decision."""

SUPPLIED = {"requests": {*COPIED, *REQUESTS}, "instances": {*INSTANCES}, "cluster": {*CLUSTER}}
"""Part of the observation -> the features of it that an engine supplies."""


class Surroundings:
    """Features of the instance and of the cluster, a number each.

    Args:
        instances: of the bundle's observation.
        cluster: same.
    """

    def __init__(
        self, instances: Sequence[Mapping[str, Any]], cluster: Sequence[Mapping[str, Any]]
    ) -> None:
        self._numbers = [INSTANCES[str(row["name"])] for row in instances]
        self._numbers += [CLUSTER[str(row["name"])] for row in cluster]
        self._scaling = Scaling([*instances, *cluster])
        self._work = np.zeros((len(self._numbers), 1))
        self._middle = len(instances)

    def __call__(self, moment: Moment) -> dict[str, np.ndarray]:
        """The inputs `instances` and `cluster`, float32 (1, number of features) each."""
        raw = np.array([number(moment) for number in self._numbers], np.float64)
        seen = self._scaling(raw[:, None], self._work).astype(np.float32).T
        return {"instances": seen[:, : self._middle], "cluster": seen[:, self._middle :]}
