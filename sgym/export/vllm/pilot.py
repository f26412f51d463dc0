"""A policy at the controls of one vLLM scheduler: it looks, asks, and steers."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from sgym.export.slo import slo_of
from sgym.export.view import EngineLimits, EngineSteering, EngineView
from sgym.export.vllm.controls import Controls
from sgym.export.vllm.in_force import FCFS, InForce
from sgym.export.vllm.rows import Rows
from sgym.export.vllm.settings import Settings

logger = logging.getLogger("vllm.sgym")  # below vLLM's own logger, whose handlers print it

LONG = 86400.0
"""Seconds after which an idle engine's clock starts again at 0: orders lose digits with its age."""


class Pilot:
    """What is known of one scheduler, the policy that is asked, and what it last said.

    Whatever goes wrong here is logged once; from then on the scheduler is vLLM's own.

    Args:
        scheduler: a vLLM V1 Scheduler.
        controls: the policy, and when and how it acts.
        settings: how readers are served who do not say it, and the metric.
    """

    def __init__(self, scheduler: Any, controls: Controls, settings: Settings) -> None:
        self.scheduler, self.settings = scheduler, settings
        self.policy, self.trigger = controls.policy, controls.trigger
        self._clock: Callable[[], float] = time.monotonic
        self._wall: Callable[[], float] = time.time
        self._origin = time.monotonic()
        self.failed = False
        """The policy is no longer asked."""
        self.num_decisions = 0
        self.in_force = InForce(scheduler, controls.settles)
        self.rows = Rows(settings.origin == "first_token", settings.clamp)
        self.limits = limits_of(scheduler, settings)
        if scheduler.scheduler_config.policy != FCFS:
            logger.warning(
                "sgym: vLLM's scheduling policy is %s, under which the order of waiting requests "
                "is vLLM's own; set --scheduling-policy %s",
                scheduler.scheduler_config.policy,
                FCFS,
            )
        self.duration = 0.0
        """Seconds that the last finished batch took."""
        self._begun: deque[float] = deque()  # seconds; batches under way
        self._ended = -math.inf  # seconds; the last batch
        self._shown: list[Any] = []  # vLLM's requests, as the rows of the last view
        self._batch = (0, 0, 0, 0)  # prefill tokens, decodes, KV entries, preempted

    def run_on(self, clock: Callable[[], float]) -> None:
        """Go by another clock than the machine's, such as simulated time.

        Args:
            clock: seconds, in which arrival times of requests are given too.
        """
        self._clock = self._wall = clock
        self._origin = 0.0

    def now(self) -> float:
        """Seconds since the start, or since the engine last idled after a LONG time."""
        return self._clock() - self._origin

    def guard(self, step: Callable[..., Any], *given: Any) -> Any:
        """Do a step of the pilot's own; if it fails, let go of the controls."""
        if self.failed:
            return None
        try:
            return step(*given)
        except Exception:
            self.failed = True
            logger.exception("sgym: the policy failed; from here on vLLM schedules by itself")
            self.in_force.drop()
        return None

    def schedule(self, form: Callable[[bool], Any], throttle_prefills: bool) -> Any:
        """Form a batch under the Steering in force, after asking the policy if that is due.

        Args:
            form: vLLM's own schedule().
            throttle_prefills: as the engine says.
        """
        waiting, running = self.scheduler.waiting, self.scheduler.running
        present = bool(running) or len(waiting) > 0
        forced: set[str] = set()
        if present:
            forced = self.guard(self._decide) or forced
        hidden = self.guard(self.in_force.hide)
        try:
            output = form(throttle_prefills or self.in_force.hold_prefill)
        finally:
            self.in_force.show(hidden)
        if present:
            self.guard(self._note_batch, output, forced)
        return output

    def _decide(self) -> set[str]:
        """Ask the policy if it is due; returns whom it has preempted."""
        view = self.view()
        if not self.trigger.is_due(view):
            return set()
        self.trigger.note_decision(view.now)
        self.num_decisions += 1
        steering = self.policy.decide(view)
        return set() if steering is None else self.apply(steering)

    def apply(self, steering: EngineSteering) -> set[str]:
        """Put a Steering for what `view` showed last into force; returns whom it preempted."""
        return self.in_force.take(steering, self._shown)

    @property
    def num_preempted(self) -> int:
        """Requests that vLLM itself preempted while it formed the last batch."""
        return self._batch[3]

    def view(self) -> EngineView:
        """What the policy sees now."""
        self.in_force.settle_waiting()
        scheduler = self.scheduler
        running, waiting = list(scheduler.running), list(scheduler.waiting)
        prefill_tokens, decode_seqs, kv_tokens, num_preempted = self._batch
        said = self.in_force.steering
        view = EngineView(
            now=self.now(),
            limits=self.limits,
            rows=self.rows.gather(running, waiting, scheduler.kv_cache_manager),
            num_running=len(running),
            free_blocks=scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
            duration=self.duration,
            prefill_tokens=prefill_tokens,
            decode_seqs=decode_seqs,
            num_preempted=num_preempted,
            kv_tokens=kv_tokens,
            ids=[request.request_id for request in (*running, *waiting)],
        )
        if said is not None:
            view.token_budget, view.active_cap = said.token_budget, said.active_cap
            view.chunk_cap, view.reserve = said.chunk_cap, said.reserve
        self._shown = running + waiting
        return view

    def _note_batch(self, output: Any, forced: set[str]) -> None:
        """Count what a batch consists of, and who had to leave for it."""
        scheduler = self.scheduler
        prefill_tokens = decode_seqs = kv_tokens = 0
        for request_id, tokens in output.num_scheduled_tokens.items():
            request = scheduler.requests[request_id]
            computed = request.num_computed_tokens
            promised = request.num_output_placeholders  # async: this batch's own token included
            if promised > 0 and not request.is_prefill_chunk:
                promised -= 1
            is_first = request.num_output_tokens + promised == 0
            if is_first or computed - tokens != request.num_tokens + promised - 1:
                prefill_tokens += tokens
            else:
                decode_seqs += 1
            kv_tokens += computed
        preempted = set(output.preempted_req_ids or ()) - forced
        self._batch = prefill_tokens, decode_seqs, kv_tokens, len(preempted)
        self.trigger.note_batch(len(scheduler.running), len(scheduler.waiting))
        if output.num_scheduled_tokens:
            self._begun.append(self.now())

    def note_arrival(self, request: Any) -> None:
        """A request was added; one that was there before goes on with new input."""
        if request.request_id in self.rows:
            return
        if not len(self.rows) and self.now() > LONG:
            self._start_again()
        now = self.now()
        behind = self._wall() - self._clock()
        arrival = request.arrival_time - behind - self._origin
        extra = getattr(request.sampling_params, "extra_args", None)
        due = self.rows.add(request, min(arrival, now), slo_of(extra, self.settings.slo))
        self.trigger.note_arrival(due)

    def _start_again(self) -> None:
        """Nobody is there: let the clock begin at 0."""
        shift = self.now()
        self._origin = self._clock()
        trigger = self.trigger
        trigger.decided -= shift
        trigger.looked -= shift
        trigger.next_dry -= shift
        self._ended -= shift
        self._begun = deque(begun - shift for begun in self._begun)

    def note_output(self, scheduled: Any, outputs: Any) -> None:
        """A batch has ended: its tokens reach their readers.

        Args:
            scheduled: its SchedulerOutput.
            outputs: what update_from_output() returned, client -> EngineCoreOutputs.
        """
        now = self.now()
        if scheduled.num_scheduled_tokens and self._begun:
            self.duration = now - max(self._begun.popleft(), self._ended)
            self._ended = now
        told = [one for each in (outputs or {}).values() for one in each.outputs]
        self.rows.deliver(
            ((one.request_id, len(one.new_token_ids)) for one in told if one.new_token_ids), now
        )
        self.note_gone(one.request_id for one in told if one.finish_reason is not None)
        if len(self.rows) > len(self.scheduler.requests):  # some left without an output
            self.note_gone(self.rows.known())

    def note_gone(self, request_ids: Iterable[str]) -> None:
        """Forget those of these requests that the scheduler no longer has."""
        for request_id in request_ids:
            if request_id not in self.scheduler.requests:
                self.rows.forget(request_id)


def limits_of(scheduler: Any, settings: Settings) -> EngineLimits:
    """What a policy may know of the engine's limits."""
    config, manager = scheduler.scheduler_config, scheduler.kv_cache_manager
    return EngineLimits(
        max_num_seqs=int(config.max_num_seqs),
        max_num_batched_tokens=int(config.max_num_batched_tokens),
        num_blocks=int(scheduler.kv_cache_config.num_blocks) - 1,  # one is vLLM's null block
        block_size=int(scheduler.block_size),
        chunked_prefill=bool(config.enable_chunked_prefill),
        watermark_blocks=int(manager.watermark_blocks),
        penalty_cap=settings.penalty_cap,
        scale_by_tokens=settings.scale_by_tokens,
    )
