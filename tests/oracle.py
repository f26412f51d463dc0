"""The slow, obvious simulator: what sgym's core must equal, written from the semantics alone.

Plain Python, lists and dicts, standard library only; nothing is incremental and nothing is fast.
At every instant: arrivals join a queue, iterations that end deliver their tokens, and idle
instances form their next batch; then the clock jumps to the next arrival or end of an iteration.
Times are seconds, lengths tokens, memory blocks of `block_size` tokens.
"""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

NEVER = math.inf


@dataclass(eq=False)
class Request:
    """A request and what has happened to it so far."""

    index: int
    arrival: float  # seconds
    prompt: int  # tokens
    output: int  # tokens it asks for
    priority: int = 0  # lower is served first
    # --- the reader ---
    token_time: float = 0.2  # V, seconds per token
    first_delay: float = 0.0  # D0, seconds
    alpha: float = 2.5  # tokens lost per second of lateness
    weight: float = 1.0
    # --- state ---
    phase: str = "pending"  # pending, waiting, running, finished, rejected, refused
    instance: int = -1
    final: int = 0  # tokens it will really produce
    computed: int = 0  # tokens whose KV is in memory
    blocks: int = 0
    prefilling: bool = False  # its last scheduled chunk did not reach the end of what is known
    held: bool = False  # preempted by a Steering, not to be admitted
    preemptions: int = 0
    recomputed: int = 0  # tokens whose KV was lost and is computed again
    tokens: list[float] = field(default_factory=list)  # delivery times

    @property
    def known(self) -> int:
        """Tokens of prompt and output that exist."""
        return self.prompt + len(self.tokens)


@dataclass(frozen=True)
class Engine:
    """Limits of an instance, under the names of a scenario's `engine` section."""

    former: str = "vllm_v1"  # vllm_v1, vllm_v0, sarathi, orca
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 16384
    block_size: int = 16
    num_gpu_blocks: int = 1001  # one of them is vLLM's null block
    watermark: float | None = None
    long_prefill_token_threshold: int = 0
    enable_chunked_prefill: bool = True
    scheduler_reserve_full_isl: bool = True
    scheduling_policy: str = "fcfs"  # or priority
    orca_reserve: str = "max_len"  # or pow2, oracle
    latency: tuple[float, float, float, float] = (0.008, 1e-4, 5e-5, 2e-8)  # see `duration`

    @property
    def usable_blocks(self) -> int:
        return self.num_gpu_blocks - 1

    @property
    def watermark_blocks(self) -> int:
        default = 0.01 if self.former in ("vllm_v0", "sarathi") else 0.0
        share = default if self.watermark is None else self.watermark
        total = self.num_gpu_blocks if self.former == "vllm_v1" else self.usable_blocks
        return int(share * total)  # V1 counts its null block, the others have none

    def blocks(self, tokens: int) -> int:
        return math.ceil(tokens / self.block_size)

    def duration(self, prefill_tokens: int, decode_seqs: int, kv_tokens: int) -> float:
        """Seconds of an iteration; `kv_tokens` is the KV of the batch after it."""
        a, b, c, d = self.latency
        return a + b * prefill_tokens + c * decode_seqs + d * kv_tokens

    def reservation(self, request: Request) -> int:
        """Blocks that orca sets aside for a request."""
        total = min(request.prompt + request.output, self.max_model_len)
        if self.orca_reserve == "max_len":
            total = self.max_model_len
        elif self.orca_reserve == "pow2":
            total = min(2 ** math.ceil(math.log2(total)), self.max_model_len)
        return self.blocks(total)

    def can_ever_run(self, request: Request) -> bool:
        """Whether the request fits an empty instance, again after every preemption."""
        if request.prompt >= self.max_model_len:
            return False
        longest = min(request.prompt + request.output, self.max_model_len) - 1
        need, room = self.blocks(longest), self.usable_blocks
        if self.former == "orca":
            need = self.reservation(request)
        if self.former != "vllm_v1":  # vLLM V1 has no watermark while nothing runs
            room -= self.watermark_blocks
        whole = self.former in ("vllm_v1", "vllm_v0") and not self.enable_chunked_prefill
        return need <= room and not (whole and longest > self.max_num_batched_tokens)


@dataclass(eq=False)
class Instance:
    """One engine: its queues and the Steering in force."""

    index: int
    free: int  # blocks
    waiting: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)
    batch: dict[int, int] = field(default_factory=dict)  # request -> tokens, under way
    end: float = NEVER  # seconds; of the iteration under way
    asked: bool = False  # something happened here since it last tried to form a batch
    backlog: bool = False  # the last pass over the waiting that was not held left some
    victims: list[int] = field(default_factory=list)  # preempted by the engine in this iteration
    steering: dict[str, Any] = field(default_factory=dict)
    ignores_holds: bool = False  # in this pass: nothing runs and nothing else waits
    iterations: int = 0
    preemptions: int = 0


@dataclass
class Iteration:
    """A row of the log; counts are those right after the batch was formed."""

    instance: int
    start: float
    duration: float
    batch: list[tuple[int, int, int]]  # request, tokens, computed before
    victims: list[int]
    prefill_tokens: int
    decode_seqs: int
    kv_tokens: int
    num_running: int
    num_waiting: int
    free_blocks: int


Steer = Callable[["Simulation", Instance], dict[str, Any] | None]


class Simulation:
    """A cluster of equal instances.

    `steer` is asked before each batch and answers None (nothing changes) or a new Steering as a
    dict: token_budget, active_cap, chunk_cap, reserve, hold_prefill, waiting_score and
    running_score (by request), preempt and reject (lists of requests). What it leaves out is
    neutral.
    """

    def __init__(
        self,
        requests: Iterable[Request],
        engine: Engine,
        num_instances: int = 1,
        router: str = "round_robin",
        horizon: float = NEVER,
        steer: Steer | None = None,
    ) -> None:
        self.requests = sorted(requests, key=lambda request: request.index)
        self.engine = engine
        self.router = router
        self.horizon = horizon
        self.steer = steer
        self.instances = [Instance(i, engine.usable_blocks) for i in range(num_instances)]
        self.clock = 0.0
        self.routed = 0
        self.log: list[Iteration] = []

    # --- the event loop ---------------------------------------------------------------------------

    def run(self) -> "Simulation":
        while True:
            self.take_arrivals()
            for instance in self.instances:
                if instance.end <= self.clock:
                    self.deliver(instance)
            for instance in self.instances:
                self.start_iteration(instance)
            later = [r.arrival for r in self.requests if r.phase == "pending"]
            later += [instance.end for instance in self.instances]
            if min(later) > self.horizon or min(later) == NEVER:
                return self
            self.clock = min(later)

    def take_arrivals(self) -> None:
        for request in self.requests:
            if request.phase != "pending" or request.arrival > self.clock:
                continue
            request.final = min(request.output, self.engine.max_model_len - request.prompt)
            if not self.engine.can_ever_run(request):
                request.phase = "refused"
                continue
            request.phase = "waiting"
            request.instance = self.route()
            self.instances[request.instance].waiting.append(request)
            self.instances[request.instance].asked = True

    def route(self) -> int:
        self.routed += 1
        if self.router == "round_robin":
            return (self.routed - 1) % len(self.instances)
        loads = [len(i.waiting) + len(i.running) for i in self.instances]
        return loads.index(min(loads))

    def deliver(self, instance: Instance) -> None:
        """End of an iteration: who is up to date gets a token, who has all of them leaves."""
        for index in instance.batch:
            request = self.requests[index]
            if request.computed < request.known:
                continue
            request.tokens.append(instance.end)
            if len(request.tokens) == request.final:
                request.phase = "finished"
                instance.running.remove(request)
                self.release(instance, request)
        instance.batch, instance.end, instance.asked = {}, NEVER, True

    def start_iteration(self, instance: Instance) -> None:
        """Form a batch. If nobody can run, try again at once if that made room, else later."""
        while instance.end == NEVER and instance.asked and (instance.waiting or instance.running):
            instance.victims = []
            self.apply_steering(instance)
            instance.ignores_holds = False
            instance.ignores_holds = not (instance.running or self.eligible(instance))
            batch = FORMERS[self.engine.former](self, instance, self.eligible(instance))
            if batch:
                self.begin(instance, batch)
            instance.asked = bool(instance.victims)

    def begin(self, instance: Instance, batch: dict[int, int]) -> None:
        rows, prefill_tokens, decode_seqs, kv_tokens = [], 0, 0, 0
        for index, tokens in batch.items():
            request = self.requests[index]
            rows.append((index, tokens, request.computed))
            if tokens == 1 and request.computed == request.known - 1 and request.tokens:
                decode_seqs += 1
            else:
                prefill_tokens += tokens
            request.computed += tokens
            request.prefilling = request.computed < request.known
            kv_tokens += request.computed
        duration = self.engine.duration(prefill_tokens, decode_seqs, kv_tokens)
        instance.batch, instance.end = batch, self.clock + duration
        instance.iterations += 1
        row = Iteration(
            instance.index, self.clock, duration, rows, instance.victims, prefill_tokens,
            decode_seqs, kv_tokens, len(instance.running), len(instance.waiting), instance.free,
        )  # fmt: skip
        self.log.append(row)

    # --- memory -----------------------------------------------------------------------------------

    def missing(self, request: Request, tokens: int) -> int:
        """Blocks that `request` lacks to hold `tokens`."""
        return max(0, self.engine.blocks(tokens) - request.blocks)

    def hold(self, instance: Instance, request: Request, blocks: int) -> None:
        """Give `request` some more blocks."""
        assert 0 <= blocks <= instance.free
        instance.free -= blocks
        request.blocks += blocks

    def release(self, instance: Instance, request: Request) -> None:
        instance.free += request.blocks
        request.blocks = 0

    def admit(self, instance: Instance, request: Request, blocks: int) -> None:
        instance.waiting.remove(request)
        instance.running.append(request)
        request.phase = "running"
        self.hold(instance, request, blocks)

    def preempt(self, instance: Instance, request: Request) -> None:
        """Back to the front of the queue; all of its KV is lost."""
        instance.running.remove(request)
        instance.waiting.insert(0, request)
        request.phase = "waiting"
        request.recomputed += request.computed
        request.computed = 0
        request.preemptions += 1
        instance.preemptions += 1
        self.release(instance, request)

    # --- steering ---------------------------------------------------------------------------------

    def apply_steering(self, instance: Instance) -> None:
        """Ask; reject, then preempt, then sort by the scores in force."""
        answer = self.steer(self, instance) if self.steer else None
        self.sort(instance)
        if answer is not None:
            instance.steering = answer
            for request in instance.waiting + instance.running:
                request.held = False
            for index in answer.get("reject", ()):
                request = self.requests[index]
                if request in instance.waiting:
                    instance.waiting.remove(request)
                    request.phase = "rejected"
            for index in answer.get("preempt", ()):
                request = self.requests[index]
                if request in instance.running:
                    self.preempt(instance, request)
                    request.held = True
            self.sort(instance)

    def sort(self, instance: Instance) -> None:
        """Bring both queues into the order of the scores in force; equal ones stay as they are."""
        instance.waiting.sort(key=lambda r: -self.score(instance, "waiting_score", r))
        instance.running.sort(key=lambda r: -self.score(instance, "running_score", r))

    @staticmethod
    def score(instance: Instance, kind: str, request: Request) -> float:
        return instance.steering.get(kind, {}).get(request.index, 0.0)

    def eligible(self, instance: Instance) -> list[Request]:
        """Waiting requests in the order of admission, without those that are held."""

        def is_held(request: Request) -> bool:
            return request.held or self.score(instance, "waiting_score", request) == -math.inf

        waiting = list(instance.waiting)
        if not instance.ignores_holds:
            waiting = [request for request in waiting if not is_held(request)]

        def urgency(request: Request) -> tuple[float, int, int]:
            score = self.score(instance, "waiting_score", request)
            if self.engine.scheduling_policy == "priority":
                return -score, request.priority, request.index
            return -score, 0, 0

        return sorted(waiting, key=urgency)

    def token_budget(self, instance: Instance) -> int:
        most = self.engine.max_num_batched_tokens
        return min(most, instance.steering.get("token_budget", most))

    def active_cap(self, instance: Instance) -> int:
        most = self.engine.max_num_seqs
        return min(most, instance.steering.get("active_cap", most))

    def chunk_cap(self, instance: Instance) -> int:
        """Most prefill tokens of one request; 0 = no limit."""
        caps = self.engine.long_prefill_token_threshold, instance.steering.get("chunk_cap", 0)
        return min((cap for cap in caps if cap > 0), default=0)

    def kept_free(self, instance: Instance) -> int:
        """Blocks that admission must leave free."""
        always = 0 if self.engine.former == "vllm_v1" else self.engine.watermark_blocks
        if not instance.running:
            return always
        return self.engine.watermark_blocks + instance.steering.get("reserve", 0)

    def holds_prefill(self, instance: Instance) -> bool:
        """Whether prefill is deferred: asked for, no backlog, and a decode runs."""
        decodes = any(not request.prefilling for request in instance.running)
        wanted = bool(instance.steering.get("hold_prefill", 0))
        return wanted and not instance.backlog and decodes


# --- batch formers: each returns request -> tokens and leaves the queues as they will be ----------


def form_vllm_v1(sim: Simulation, instance: Instance, waiting: list[Request]) -> dict[int, int]:
    """vLLM 0.33.0: the running in their order, then the waiting if nobody was preempted."""
    engine, running, batch = sim.engine, instance.running, {}
    budget = sim.token_budget(instance)
    cap = sim.chunk_cap(instance) if len(running) + len(waiting) > 1 else 0
    deferred = sim.holds_prefill(instance)
    by_priority = engine.scheduling_policy == "priority"
    position = 0
    while position < len(running) and budget > 0:
        request = running[position]
        tokens = min(request.known - request.computed, cap or NEVER, budget)
        tokens = min(tokens, engine.max_model_len - 1 - request.computed)
        if tokens == 0 or (deferred and request.prefilling):
            position += 1
            continue
        need = sim.missing(request, request.computed + tokens)
        while need > instance.free and request in running:
            victim = running[-1]
            if by_priority:
                victim = max(running, key=lambda r: (r.priority, r.arrival))
            if running.index(victim) < position:
                position -= 1
            budget += batch.pop(victim.index, 0)
            instance.victims.append(victim.index)
            sim.preempt(instance, victim)
        if request not in running:
            continue  # under fcfs it was the last one
        sim.hold(instance, request, need)
        batch[request.index] = tokens
        budget -= tokens
        position += 1
    if instance.victims:
        return batch
    while waiting and budget > 0 and len(running) < sim.active_cap(instance):
        request = waiting[0]
        if deferred and request.known > 1:
            break
        tokens = min(request.known, cap or NEVER)
        if tokens > budget and not engine.enable_chunked_prefill:
            break
        tokens = min(tokens, budget)
        must_fit = request.known if engine.scheduler_reserve_full_isl else tokens
        if engine.blocks(must_fit) + sim.kept_free(instance) > instance.free:
            break
        waiting.pop(0)
        sim.admit(instance, request, engine.blocks(tokens))
        batch[request.index] = tokens
        budget -= tokens
    if not deferred:
        instance.backlog = bool(waiting)
    return batch


def form_vllm_v0(sim: Simulation, instance: Instance, waiting: list[Request]) -> dict[int, int]:
    """vLLM 0.6.6: whole prompts alone if any can be admitted, else one token for all running."""
    if sim.engine.enable_chunked_prefill:
        return form_vllm_v0_chunked(sim, instance, waiting)
    engine, batch = sim.engine, {}
    budget = sim.token_budget(instance)
    if not sim.holds_prefill(instance):
        while waiting and len(instance.running) < sim.active_cap(instance):
            request = waiting[0]
            need = engine.blocks(request.known)
            if request.known > budget or instance.free - need < sim.kept_free(instance):
                break
            waiting.pop(0)
            sim.admit(instance, request, need)
            batch[request.index] = request.known
            budget -= request.known
        instance.backlog = bool(waiting)
    if batch:
        return batch
    queue = list(instance.running)
    while queue and budget > 0:
        request = queue.pop(0)
        if make_room(sim, instance, request, queue):
            batch[request.index] = 1
            budget -= 1
    return batch


def form_vllm_v0_chunked(
    sim: Simulation, instance: Instance, waiting: list[Request]
) -> dict[int, int]:
    """vLLM 0.6.6 with chunks: the running in their order, then new prompts, in one budget.

    The running list is rebuilt: those the budget did not reach, decodes, prefills, new ones.
    """
    batch: dict[int, int] = {}
    budget = sim.token_budget(instance)
    cap = sim.chunk_cap(instance) or NEVER
    deferred = sim.holds_prefill(instance)
    queue, decodes, prefills = list(instance.running), [], []
    while queue and budget > 0:
        request = queue.pop(0)
        tokens = min(request.known - request.computed, cap, budget)
        if request.prefilling and deferred:
            prefills.append(request)
            continue
        if request.prefilling:  # has its blocks (0.6.6 itself asks for a spare one, a bug)
            prefills.append(request)
        elif make_room(sim, instance, request, queue):
            decodes.append(request)
        else:
            break
        batch[request.index] = tokens
        budget -= tokens
    instance.running = queue + decodes + prefills
    if not deferred:  # victims of this pass are not in `waiting`
        admit_chunks(sim, instance, waiting, batch, budget)
    return batch


def admit_chunks(
    sim: Simulation,
    instance: Instance,
    waiting: list[Request],
    batch: dict[int, int],
    budget: int,
) -> None:
    """Admit while a chunk and the blocks of all known tokens fit."""
    cap = sim.chunk_cap(instance) or NEVER
    while waiting and budget > 0 and len(instance.running) < sim.active_cap(instance):
        request = waiting[0]
        need = sim.engine.blocks(request.known)
        if instance.free - need < sim.kept_free(instance):
            break
        waiting.pop(0)
        sim.admit(instance, request, need)
        batch[request.index] = min(request.known, cap, budget)
        budget -= batch[request.index]
    instance.backlog = bool(waiting)


def make_room(sim: Simulation, instance: Instance, request: Request, queue: list[Request]) -> bool:
    """A slot for the next token of `request`: while no block is free, the tail of `queue` goes.

    A block must be free even if the last one of the request has room. False: it went itself.
    """
    while instance.free < 1:
        victim = queue.pop() if queue else request
        instance.victims.append(victim.index)
        sim.preempt(instance, victim)
        if victim is request:
            return False
    sim.hold(instance, request, sim.missing(request, request.known))
    return True


def form_sarathi(sim: Simulation, instance: Instance, waiting: list[Request]) -> dict[int, int]:
    """Sarathi-Serve: all decodes, then running prefills, then new ones share the chunk size."""
    batch: dict[int, int] = {}
    budget = sim.token_budget(instance)
    cap = sim.chunk_cap(instance) or NEVER
    deferred = sim.holds_prefill(instance)
    instance.running.sort(key=lambda r: (-sim.score(instance, "running_score", r), r.index))
    queue, decodes, prefills = list(instance.running), [], []
    while queue:
        request = queue.pop(0)
        if request.prefilling:
            prefills.append(request)
        elif budget == 0:
            decodes.append(request)
        elif make_room(sim, instance, request, queue):
            decodes.append(request)
            batch[request.index] = 1
            budget -= 1
    for request in prefills:
        tokens = min(request.known - request.computed, cap, budget)
        if tokens > 0 and not deferred:
            batch[request.index] = tokens
            budget -= tokens
    instance.running = decodes + prefills
    if not deferred:
        # a victim may come back at once
        admit_chunks(sim, instance, sim.eligible(instance), batch, budget)
    return batch


def form_orca(sim: Simulation, instance: Instance, waiting: list[Request]) -> dict[int, int]:
    """Orca: everybody who runs, and whole prompts while their reservation fits."""
    budget = sim.token_budget(instance)
    if budget == sim.engine.max_num_batched_tokens:
        budget = sys.maxsize  # the engine has none, only a Steering
    batch = {request.index: 1 for request in instance.running[:budget]}
    budget -= len(batch)
    if sim.holds_prefill(instance):
        return batch
    while waiting and len(instance.running) < sim.active_cap(instance):
        request = waiting[0]
        need = sim.engine.reservation(request)
        if request.known > budget or instance.free - need < sim.kept_free(instance):
            break
        waiting.pop(0)
        sim.admit(instance, request, need)
        batch[request.index] = request.known
        budget -= request.known
    instance.backlog = bool(waiting)
    return batch


FORMERS: dict[str, Callable[[Simulation, Instance, list[Request]], dict[int, int]]] = {
    "vllm_v1": form_vllm_v1,
    "vllm_v0": form_vllm_v0,
    "sarathi": form_sarathi,
    "orca": form_orca,
}


# --- the metric, from the definitions -------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """How lateness is counted and what it costs."""

    penalty: str = "identity"  # or capped, quadratic
    penalty_cap: float = 10.0  # seconds
    scale_by_tokens: bool = False
    from_first_token: bool = False
    clamp: bool = True

    def f(self, lateness: float) -> float:
        if lateness == -NEVER:  # nothing is due yet
            return 0.0
        if self.penalty == "capped":
            return min(lateness, self.penalty_cap)
        return lateness * abs(lateness) if self.penalty == "quadratic" else lateness

    def due(self, request: Request, number: int, now: float) -> float:
        """Seconds: when token `number` (1, 2, ...) is due, as far as `now` tells."""
        if not self.from_first_token:
            return request.arrival + request.first_delay + request.token_time * number
        if not request.tokens or request.tokens[0] > now:
            return NEVER
        return request.tokens[0] + request.token_time * (number - 1)

    def lateness(self, request: Request, now: float) -> float:
        """A(now) in seconds: worst lateness of the delivered tokens and of the one awaited."""
        delivered = [time for time in request.tokens if time <= now]
        late = [time - self.due(request, i + 1, now) for i, time in enumerate(delivered)]
        if not delivered or len(delivered) < request.final:
            late.append(now - self.due(request, len(delivered) + 1, now))
        return max(0.0, *late) if self.clamp else max(late)

    def benefit(self, request: Request, now: float) -> float:
        tokens = sum(time <= now for time in request.tokens)
        scale = tokens if self.scale_by_tokens else 1
        lost = request.alpha * self.f(self.lateness(request, now)) * scale
        return request.weight * (tokens - lost)

    def total(self, requests: Sequence[Request], now: float) -> float:
        """B(now): the benefit of all requests that have arrived."""
        return sum(self.benefit(r, now) for r in requests if r.arrival <= now)
