"""As much of vLLM V1's scheduler as the adapter uses; each batch gives everyone a token."""

from collections import deque
from types import SimpleNamespace

import numpy as np

from sgym.export.view import EngineSteering
from sgym.export.vllm import SteeredScheduler
from sgym.export.vllm.controls import Controls, EveryBatch

BLOCK = 16


class Queue(deque):
    """vLLM's FCFSRequestQueue."""

    def add_request(self, request):
        self.append(request)

    def remove_requests(self, requests):
        gone = {id(request) for request in requests}
        kept = [request for request in self if id(request) not in gone]
        self.clear()
        self.extend(kept)


class Request:
    """vLLM's Request."""

    def __init__(self, name, prompt=20, output=4, arrival=0.0, extra=None):
        self.request_id, self.num_prompt_tokens, self.max_tokens = name, prompt, output
        self.arrival_time, self.priority = arrival, 0
        self.sampling_params = SimpleNamespace(extra_args=extra)
        self.num_output_tokens = self.num_computed_tokens = self.num_preemptions = 0
        self.num_output_placeholders = 0
        self.is_prefill_chunk = False

    def __repr__(self):
        return self.request_id

    @property
    def num_tokens(self):
        return self.num_prompt_tokens + self.num_output_tokens


class Scheduler:
    """First come first served; runs at most `max_num_active_reqs` at once."""

    def __init__(self, additional_config=None, policy="fcfs", num_blocks=65):
        self.vllm_config = SimpleNamespace(additional_config=additional_config or {})
        self.scheduler_config = SimpleNamespace(
            max_num_batched_tokens=64,
            max_num_seqs=2,
            long_prefill_token_threshold=32,
            enable_chunked_prefill=True,
            policy=policy,
        )
        self.max_num_scheduled_tokens, self.max_num_active_reqs = 64, 2
        self.kv_cache_config = SimpleNamespace(num_blocks=num_blocks)
        self.block_size = BLOCK
        self.kv_cache_manager = SimpleNamespace(
            watermark_blocks=1, block_pool=self, get_blocks=self.get_blocks
        )
        self.requests, self.running, self.waiting = {}, [], Queue()
        self.deferred_waiting = set()
        self.throttled, self.seen, self.preempted = [], [], set()

    def get_num_free_blocks(self):
        held = sum(len(self.get_blocks(name).blocks[0]) for name in self.requests)
        return self.kv_cache_config.num_blocks - 1 - held

    def get_blocks(self, request_id):
        tokens = self.requests[request_id].num_computed_tokens
        return SimpleNamespace(blocks=([None] * -(-tokens // BLOCK),))

    def add_request(self, request):
        self.requests[request.request_id] = request
        self.waiting.append(request)

    def _preempt_request(self, request, timestamp):
        request.num_computed_tokens = 0
        request.num_preemptions += 1
        self.waiting.appendleft(request)
        self.preempted.add(request.request_id)

    def schedule(self, throttle_prefills=False):
        self.throttled.append(throttle_prefills)
        self.seen.append([request.request_id for request in self.waiting])
        while self.waiting and len(self.running) < self.max_num_active_reqs:
            self.running.append(self.waiting.popleft())
        tokens = {}
        for request in self.running:
            tokens[request.request_id] = request.num_tokens - request.num_computed_tokens
            request.num_computed_tokens = request.num_tokens
        preempted, self.preempted = self.preempted, set()
        return SimpleNamespace(num_scheduled_tokens=tokens, preempted_req_ids=preempted)

    def update_from_output(self, scheduler_output, model_runner_output):
        outputs = []
        for name in scheduler_output.num_scheduled_tokens:
            request = self.requests[name]
            request.num_output_tokens += 1
            done = request.num_output_tokens == request.max_tokens
            if done:
                self.running.remove(request)
                del self.requests[name]
            outputs.append(
                SimpleNamespace(
                    request_id=name, new_token_ids=[7], finish_reason="stop" if done else None
                )
            )
        return {0: SimpleNamespace(outputs=outputs)}

    def finish_requests(self, request_ids, finished_status):
        gone = [self.requests.pop(name) for name in request_ids]
        self.waiting.remove_requests(gone)
        self.running = [request for request in self.running if request not in gone]
        return gone


class Says:
    """Answers with the next of `answers`: scores and others by request_id; keeps what it saw."""

    def __init__(self, *answers):
        self.answers, self.views = list(answers), []

    def decide(self, view):
        self.views.append(view)
        answer = self.answers.pop(0) if self.answers else None
        if answer is None or not isinstance(answer, dict):
            return answer
        given = dict(answer)
        count = len(view.ids)
        waiting, running = given.pop("waiting", {}), given.pop("running", {})
        victims = given.pop("preempt", ())
        steering = EngineSteering(
            np.array([waiting.get(name, 0.0) for name in view.ids]),
            np.array([running.get(name, 0.0) for name in view.ids]),
            np.array([name in victims for name in view.ids], np.bool_),
            given.pop("token_budget", 64),
            given.pop("active_cap", 2),
        )
        assert len(steering.preempt) == count
        for name, value in given.items():
            setattr(steering, name, value)
        return steering


class Clock:
    """Simulated time."""

    now = 0.0

    def __call__(self):
        return self.now


def serving(says, *names, **given):
    """A scheduler with this policy, its clock, and requests of these names waiting."""
    controls = Controls(says, EveryBatch())
    cls = type("S", (SteeredScheduler, Scheduler), {"controls": lambda self, settings: controls})
    scheduler = cls({"sgym": {"bundle": "any", **given.pop("sgym", {})}}, **given)
    clock = Clock()
    scheduler.pilot.run_on(clock)
    for name in names:
        scheduler.add_request(Request(name))
    return scheduler, clock


def ids(requests):
    return [request.request_id for request in requests]


def iterate(scheduler, clock, seconds=0.1):
    output = scheduler.schedule()
    clock.now += seconds
    return scheduler.update_from_output(output, None)
