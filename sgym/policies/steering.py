"""The Steering: the one record that every scheduler fills in, compiled or learned or your own."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sgym.core.layout import NONE, PENDING, RUNNING, STEERED, WAITING, Role
from sgym.errors import PolicyError

HOLD = -math.inf
"""A waiting score that keeps a request from being admitted until the next decision."""


@dataclass(slots=True)
class Steering:
    """Who runs next. Whatever is left out is neutral; an empty Steering is the stock engine.

    Requests are named by index (`view.waiting[0].id`). Scores, caps and holds stay in force and are
    re-applied every iteration until the next decision; preempt and reject act once. Order: reject,
    preempt, sort, form the batch. Sorting is stable, and the sorted order persists.

    Attributes:
        waiting_score: admission order, highest first; HOLD (-inf) = not now.
        running_score: budget order, highest first; the lowest is preempted first.
        preempt: preempt these before the batch is formed; they are held until the next decision.
        reject: refuse these waiting requests; they stay in the denominator of every metric.
        migrate_to: move these requests to other instances: a running one with its KV, as
            `cluster.migration` says, a waiting one at once. What is not possible now is ignored.
        role: this instance's role from now on: mixed, prefill or decode; None = as it is.
        drain: with `role`: finish the present work first, and take no new one.
        token_budget: tokens in an iteration, at most `max_num_batched_tokens`; None = that.
        active_cap: most running requests, at most `max_num_seqs`; None = that.
        chunk_cap: most prefill tokens of one request per iteration; 0 = no cap.
        reserve: KV blocks that admission leaves free while something runs.
        hold_prefill: defer prefill while something decodes, unless the last unheld pass left a
            backlog.
    """

    waiting_score: dict[int, float] = field(default_factory=dict)
    running_score: dict[int, float] = field(default_factory=dict)
    preempt: list[int] = field(default_factory=list)
    reject: list[int] = field(default_factory=list)
    migrate_to: dict[int, int] = field(default_factory=dict)
    role: str | None = None
    drain: bool = False
    token_budget: int | None = None
    active_cap: int | None = None
    chunk_cap: int = 0
    reserve: int = 0
    hold_prefill: bool = False


def role_number(role: str) -> int:
    """The Role of this name.

    Raises:
        PolicyError: there is none.
    """
    names = [known.name.lower() for known in Role]
    if role not in names:
        raise PolicyError(f"role must be one of {', '.join(names)}, got {role!r}")
    return names.index(role)


def steered_entries(
    steering: Steering, requests: np.ndarray, instance: int, num_instances: int = 1
) -> np.ndarray:
    """The part of a Steering that concerns single requests, STEERED (n,), checked.

    Args:
        steering: what a policy said.
        requests: REQUEST (num_requests,).
        instance: the one that asked.
        num_instances: for `migrate_to`.

    Raises:
        PolicyError: a part is of the wrong kind, names a request that is unknown, not here, or
            finished, or a score is no number.
    """
    reject, preempt = _ids(steering.reject, "reject"), _ids(steering.preempt, "preempt")
    waiting = _by_request(steering.waiting_score, "waiting_score", "score")
    running = _by_request(steering.running_score, "running_score", "score")
    moved = _by_request(steering.migrate_to, "migrate_to", "instance")
    named = list(dict.fromkeys([*reject, *preempt, *moved, *waiting, *running]))
    entries = np.zeros(len(named), STEERED)
    entries["migrate_to"] = NONE
    for entry, index in zip(entries, named, strict=True):
        _check_request(index, requests, instance)
        entry["request"] = index
        entry["waiting_score"] = _score(waiting, index, "waiting_score")
        entry["running_score"] = _score(running, index, "running_score")
        entry["preempt"] = index in preempt
        entry["reject"] = index in reject
        if index in moved:
            entry["migrate_to"] = _knob(f"migrate_to[{index}]", moved[index], 0, num_instances - 1)
    return entries


def _ids(ids: Any, name: str) -> list[int]:
    """The requests of `reject` or `preempt`; a generator is read once."""
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise PolicyError(f"Steering.{name} must be a list of request ids, got {ids!r}")
    return list(ids)


def _by_request(given: Any, name: str, what: str) -> Mapping[int, Any]:
    if not isinstance(given, Mapping):
        raise PolicyError(f"Steering.{name} must be a dict of request id to {what}, got {given!r}")
    return given


def _check_request(index: Any, requests: np.ndarray, instance: int) -> None:
    if isinstance(index, bool) or not isinstance(index, int | np.integer):
        raise PolicyError(
            f"the Steering names request {index!r}, which is no id: use `id` of view.waiting and "
            "view.running, a whole number"
        )
    if not 0 <= index < len(requests) or requests["phase"][index] == PENDING:
        raise PolicyError(f"the Steering names request {index!r}, which has not arrived")
    phase, where = requests["phase"][index], requests["instance"][index]
    if phase not in (WAITING, RUNNING) or where != instance:
        raise PolicyError(
            f"the Steering for instance {instance} names request {index}, which neither waits nor "
            "runs there; use only ids from view.waiting and view.running"
        )


def _score(scores: Mapping[int, float], index: int, name: str) -> float:
    given = scores.get(index, 0.0)
    try:
        value = float(given)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if math.isnan(value) or value == math.inf or (value == HOLD and name == "running_score"):
        hold = ", or HOLD (-inf)" if name == "waiting_score" else ""
        raise PolicyError(f"Steering.{name}[{index}] must be a finite number{hold}, got {given!r}")
    return value


def set_knobs(steering: Steering, instance: np.void, engine: np.void) -> None:
    """Write the knobs of a Steering into an INSTANCE record.

    Raises:
        PolicyError: a knob is out of its range.
    """
    most_tokens, most_seqs = int(engine["max_num_batched_tokens"]), int(engine["max_num_seqs"])
    budget = most_tokens if steering.token_budget is None else steering.token_budget
    cap = most_seqs if steering.active_cap is None else steering.active_cap
    knobs = {  # all are checked before any is written
        "token_budget": _knob("token_budget", budget, 1, most_tokens),
        "active_cap": _knob("active_cap", cap, 1, most_seqs),
        "chunk_cap": _knob("chunk_cap", steering.chunk_cap, 0, 2**31 - 1),
        "reserve": _knob("reserve", steering.reserve, 0, 2**31 - 1),
        "hold_prefill": _knob("hold_prefill", steering.hold_prefill, 0, 1),
    }
    for name, value in knobs.items():
        instance[name] = value


def _knob(name: str, value: Any, low: int, high: int) -> int:
    """A whole number in its range; also one that is written as a float, such as 64.0."""
    try:
        whole = int(value)
        fine = whole == value and low <= whole <= high
    except (TypeError, ValueError, OverflowError):
        whole, fine = low, False
    if not fine:
        raise PolicyError(f"Steering.{name} must be an integer from {low} to {high}, got {value!r}")
    return whole
