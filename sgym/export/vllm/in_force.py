"""A Steering on vLLM V1's scheduler: only through what its schedule() reads anyway.

| Steering | vLLM |
|---|---|
| `waiting_score` | the order of `waiting`; held requests are kept out of it during the call |
| `running_score` | the order of `running`: budget from its head, victims from its tail |
| `preempt` | `_preempt_request`, then held |
| `token_budget` | `max_num_scheduled_tokens` |
| `active_cap` | `max_num_active_reqs` |
| `chunk_cap` | `scheduler_config.long_prefill_token_threshold` |
| `reserve` | `kv_cache_manager.watermark_blocks` |
| `hold_prefill` | `schedule(throttle_prefills=True)` |

Where the engine has a limit of its own, the tighter one counts. Under vLLM's priority policy the
waiting requests lie in a heap that no score reaches; only holds act on them.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sgym.errors import PolicyError
from sgym.export.view import HOLD, EngineSteering

FCFS = "fcfs"


@dataclass(slots=True)
class Hidden:
    """Held requests that are out of the engine's sight during a call."""

    before: list[Any]  # `waiting` as it was
    held: list[Any]
    deferred: set[Any]  # of these, those that were in `deferred_waiting`


@dataclass(slots=True)
class Scores:
    """Scores of one queue by request_id; a request that is not named has 0."""

    by_id: dict[str, float] = field(default_factory=dict)

    def key(self, request: Any) -> float:
        """Sorts highest first."""
        return -self.by_id.get(request.request_id, 0.0)


class InForce:
    """The Steering in force on one scheduler, beside the scheduler's own limits.

    Args:
        scheduler: a vLLM V1 Scheduler, or what has the attributes that are used here.
        settles: a new Steering begins with the order that the last one gives, as in sgym. Built-in
            schedulers do not: they change scores in place, and equal ones keep the engine's order.
    """

    def __init__(self, scheduler: Any, settles: bool = True) -> None:
        config = scheduler.scheduler_config
        self._scheduler, self._settles = scheduler, settles
        self._most_tokens = int(config.max_num_batched_tokens)
        self._most_seqs = int(config.max_num_seqs)
        self._tokens = int(scheduler.max_num_scheduled_tokens)
        self._active = int(scheduler.max_num_active_reqs)
        self._threshold = int(config.long_prefill_token_threshold)
        self._watermark = int(scheduler.kv_cache_manager.watermark_blocks)
        self._by_score = config.policy == FCFS
        self._waiting, self._running = Scores(), Scores()
        self._held: set[str] = set()
        self.steering: EngineSteering | None = None
        """What the policy said last; None = nothing yet."""

    @property
    def hold_prefill(self) -> bool:
        """Whether prefills wait while something decodes."""
        return self.steering is not None and bool(self.steering.hold_prefill)

    def take(self, steering: EngineSteering, requests: Sequence[Any]) -> set[str]:
        """Put a new Steering into force: preempt, and set scores, holds and limits.

        Args:
            steering: what the policy said.
            requests: vLLM's requests, in the order of the steering's entries.

        Returns:
            request_ids of those that it has preempted.

        Raises:
            PolicyError: it cannot be carried out; then nothing has changed.
        """
        check(steering, len(requests), self._most_tokens, self._most_seqs)
        waiting = steering.waiting_score.tolist()
        running = steering.running_score.tolist()
        names = [request.request_id for request in requests]
        victims = [requests[row] for row in np.flatnonzero(steering.preempt).tolist()]
        if self._settles:
            self.sort()  # what the last one says holds up to here
        gone = self._preempt(victims)
        self._held = gone | {
            name for name, score in zip(names, waiting, strict=True) if score == HOLD
        }
        self._waiting = Scores(dict(zip(names, waiting, strict=True)) if any(waiting) else {})
        self._running = Scores(dict(zip(names, running, strict=True)) if any(running) else {})
        self.steering = steering
        self._set_limits()
        return gone

    def drop(self) -> None:
        """Back to the stock scheduler, in the present order."""
        self._waiting, self._running, self._held = Scores(), Scores(), set()
        self.steering = None
        self._set_limits()

    def _preempt(self, victims: Sequence[Any]) -> set[str]:
        """Preempt running requests as vLLM's own reset_prefix_cache does.

        The last one first, so that they wait in the order in which the policy saw them run.
        """
        running = self._scheduler.running
        there = {request.request_id for request in running} if victims else set()
        gone = [request for request in reversed(victims) if request.request_id in there]
        for request in gone:
            running.remove(request)
            self._scheduler._preempt_request(request, time.monotonic())
        return {request.request_id for request in gone}

    def _set_limits(self) -> None:
        scheduler, steering = self._scheduler, self.steering
        budget, cap, chunk, reserve = self._tokens, self._active, 0, 0
        if steering is not None:
            budget, cap = min(budget, steering.token_budget), min(cap, steering.active_cap)
            chunk, reserve = steering.chunk_cap, steering.reserve
        caps = [limit for limit in (self._threshold, chunk) if limit > 0]
        scheduler.max_num_scheduled_tokens = int(budget)
        scheduler.max_num_active_reqs = int(cap)
        scheduler.scheduler_config.long_prefill_token_threshold = int(min(caps, default=0))
        scheduler.kv_cache_manager.watermark_blocks = self._watermark + int(reserve)

    def sort(self) -> None:
        """Bring both queues into the order of the scores in force; stable."""
        self.sort_waiting()
        if self._running.by_id:
            self._scheduler.running.sort(key=self._running.key)

    def settle_waiting(self) -> None:
        """Bring `waiting` into the order that a policy is to see."""
        if self._settles:
            self.sort_waiting()

    def sort_waiting(self) -> None:
        """Bring the waiting requests into the order of the scores in force; stable."""
        waiting = self._scheduler.waiting
        if self._waiting.by_id and self._by_score:
            ordered = sorted(waiting, key=self._waiting.key)
            waiting.clear()
            waiting.extend(ordered)

    def hide(self) -> Hidden | None:
        """Sort, and take the held requests out of `waiting`; None = none of them is there.

        Where nothing runs and nothing else waits, holds do not count.
        """
        self.sort()
        scheduler = self._scheduler
        if not self._held:
            return None
        before = list(scheduler.waiting)
        held = [request for request in before if request.request_id in self._held]
        if not held or (len(held) == len(before) and not scheduler.running):
            return None
        deferred = scheduler.deferred_waiting.intersection(held)
        scheduler.waiting.remove_requests(held)
        scheduler.deferred_waiting.difference_update(deferred)
        return Hidden(before, held, deferred)

    def show(self, hidden: Hidden | None) -> None:
        """Put held requests back into their places; others preempted since lie in front."""
        if hidden is None:
            return
        scheduler = self._scheduler
        after = list(scheduler.waiting)
        stays = {request.request_id for request in (*after, *hidden.held)}
        known = {request.request_id for request in hidden.before}
        order = [request for request in after if request.request_id not in known]
        order += [request for request in hidden.before if request.request_id in stays]
        scheduler.waiting.remove_requests(after)
        for request in order:
            scheduler.waiting.add_request(request)
        scheduler.deferred_waiting.update(hidden.deferred)


def check(steering: EngineSteering, num_rows: int, most_tokens: int, most_seqs: int) -> None:
    """Refuse what is out of its range.

    Args:
        steering: what a policy said.
        num_rows: requests that it was shown.
        most_tokens: of an iteration.
        most_seqs: that may run.

    Raises:
        PolicyError: naming the field.
    """
    knobs = {
        "token_budget": (steering.token_budget, 1, most_tokens),
        "active_cap": (steering.active_cap, 1, most_seqs),
        "chunk_cap": (steering.chunk_cap, 0, math.inf),
        "reserve": (steering.reserve, 0, math.inf),
    }
    for name, (value, low, high) in knobs.items():
        if not (low <= value <= high and value == int(value)):
            raise PolicyError(f"{name} must be an integer from {low} to {high}, got {value!r}")
    for name in ("waiting_score", "running_score", "preempt"):
        values = np.asarray(getattr(steering, name))
        if values.shape != (num_rows,):
            raise PolicyError(f"{name} must have {num_rows} entries, got shape {values.shape}")
        if np.isnan(values).any() or (values == math.inf).any():
            raise PolicyError(f"{name} must have finite numbers, or HOLD where a request waits")
    if np.isneginf(steering.running_score).any():
        raise PolicyError("running_score must have finite numbers, got -inf")
