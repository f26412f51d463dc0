"""When an engine asks its policy: `sgym.policies.trigger` in plain Python, for one engine.

A policy is asked at the moments at which it was asked when it was trained. An engine evaluates
`is_due` each time it is about to form a batch, and says what happens in between with the three
`note_` methods. An edge is a change since the last evaluation. Without a choice a policy is never
asked: at least two requests must be there, and either one of them waits or memory is short.
"""

import numpy as np

from sgym.export.view import NEVER, EngineView

TRIGGERS = ("event", "iteration", "admission", "interval")
"""Kinds: something that matters changed; every batch; the engine's own limits would let one of the
first waiting requests in; so many seconds have passed. `decision` of a bundle names one."""
ARRIVAL, FINISH, PRESSURE, DRY = 1, 2, 4, 8
"""Bits of `reasons`: a request joined the queue; one finished; memory ran short, or the engine
preempted; a reader came near running dry."""
DRY_LEAD = 0.1
"""Seconds before a reader runs dry at which a policy is told."""
LOOKED_AT = 32
"""Waiting requests that `admission` tries, from the head of the queue."""


class EventTrigger:
    """The trigger of one engine, and what it remembers.

    Args:
        kind: one of TRIGGERS.
        interval: seconds between decisions, for `interval`.
        start: seconds; the engine's clock when it starts.
    """

    def __init__(self, kind: str = "event", interval: float = 0.1, start: float = 0.0) -> None:
        if kind not in TRIGGERS:
            raise ValueError(f"trigger must be one of {', '.join(TRIGGERS)}, got {kind!r}")
        self.kind, self.interval = kind, interval
        self.reasons = 0
        """Edges since the last decision."""
        self.decided = start
        """Seconds; the last decision."""
        self.looked = start
        self.next_dry = start
        self._num_running = self._num_waiting = self._num_endangered = 0
        self._short = False

    def is_due(self, view: EngineView) -> bool:
        """Whether the engine asks its policy now; call it once for each batch to be formed.

        Reads `now`, `limits`, `rows`, `num_running`, `free_blocks` and `num_preempted` of the view,
        and writes its `reasons` and `decided`.
        """
        self._note_edges(view)
        due = self._is_due(view)
        view.reasons, view.decided = self.reasons, self.decided
        return due

    def _is_due(self, view: EngineView) -> bool:
        if len(view.rows) < 2 or not (view.num_waiting > 0 or view.is_short):
            self.reasons = 0
            return False
        if self.kind == "event":
            return self.reasons != 0
        if self.kind == "admission":
            return can_admit(view)
        if self.kind == "interval":
            return view.now >= self.decided + self.interval
        return True

    def _note_edges(self, view: EngineView) -> None:
        now, num_running = view.now, view.num_running
        if view.num_waiting > self._num_waiting:
            self.reasons |= ARRIVAL
        if num_running < self._num_running:
            self.reasons |= FINISH
        short = view.is_short
        if view.num_preempted > 0 or (short and not self._short):
            self.reasons |= PRESSURE
            self.next_dry = min(self.next_dry, now)  # the preempted ones wait again
        self._short = short
        due, lateness = view.rows["due"], view.rows["lateness"]
        moments = due + np.maximum(lateness, 0.0) - DRY_LEAD
        endangered = int(np.count_nonzero(moments[:num_running] <= now))
        if endangered > self._num_endangered:
            self.reasons |= DRY
        self._num_endangered = endangered
        if now >= self.next_dry:
            waiting = moments[num_running:]
            if ((waiting > self.looked) & (waiting <= now)).any():
                self.reasons |= DRY
            self.next_dry = float(np.min(waiting, where=waiting > now, initial=NEVER))
        self.looked = now

    def note_arrival(self, due: float, lateness: float = 0.0) -> None:
        """A request joined the waiting queue, from outside.

        Args:
            due: seconds; when its reader needs the first token.
            lateness: seconds; not 0 only if it has run elsewhere before.
        """
        self.next_dry = min(self.next_dry, due + max(lateness, 0.0) - DRY_LEAD)

    def note_decision(self, now: float) -> None:
        """The policy has been asked: edges count from here."""
        self.reasons = 0
        self.decided = now

    def note_batch(self, num_running: int, num_waiting: int) -> None:
        """A batch was formed: later changes of the queues are arrivals and finishes.

        Args:
            num_running: requests after it, those of the batch.
            num_waiting: requests after it, held ones included.
        """
        self._num_running, self._num_waiting = num_running, num_waiting


def can_admit(view: EngineView) -> bool:
    """Whether the engine's own limits would let one of the first waiting requests in now."""
    limits = view.limits
    if view.num_running >= limits.max_num_seqs:
        return False
    first = view.rows[view.num_running : view.num_running + LOOKED_AT]
    known = first["prompt"] + first["generated"]
    blocks = (known + limits.block_size - 1) // limits.block_size
    return bool((blocks + limits.watermark_blocks <= view.free_blocks).any())
