"""The slow, obvious simulator: what sgym's core must equal, written from the semantics alone.

Plain Python, lists and dicts, standard library only; nothing is incremental and nothing is fast.
At every instant: arrivals join a queue, iterations that end deliver their tokens, copies and
transfers take effect, finished prefills are handed off, roles change, and idle instances form
their next batch; then the clock jumps to the next of these events. Batch formers, the network,
the moves of KV and the metric stand in the files oracle_*.py beside this one.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from oracle_formers import FORMERS
from oracle_metric import Metric
from oracle_moves import (
    abort_migration_of,
    can_swap_out,
    end_swap_in,
    end_transfer,
    free_host,
    give_up_kv,
    hand_off,
    least_kv,
    migrate,
    send_handed_off,
    stop,
    swap_in,
    swap_out,
    waits_for_copies_until,
)
from oracle_network import Network
from oracle_parts import (
    HOST,
    NEVER,
    Cluster,
    Engine,
    Instance,
    Iteration,
    Machine,
    Move,
    Request,
)

__all__ = [
    "HOST", "NEVER", "Cluster", "Engine", "Instance", "Iteration", "Machine", "Metric", "Move",
    "Request", "Simulation", "Steer", "least_kv",
]  # fmt: skip

ROLES = ["mixed", "prefill", "decode"]

Steer = Callable[["Simulation", Instance], dict[str, Any] | None]
Choose = Callable[["Simulation", Request], int]


class Simulation:
    """A cluster: equal instances of `engine`, or those of `machines`.

    `steer` is asked before each batch and answers None (nothing changes) or a new Steering as a
    dict: token_budget, active_cap, chunk_cap, reserve, hold_prefill, waiting_score and
    running_score (by request), preempt and reject (lists of requests), migrate_to (request ->
    instance). What it leaves out is neutral. It may call `set_role`. `route` says which instance
    takes an arrival, `handoff` which one a finished prefill.
    """

    def __init__(
        self,
        requests: Iterable[Request],
        engine: Engine | None = None,
        num_instances: int = 1,
        router: str = "round_robin",
        horizon: float = NEVER,
        steer: Steer | None = None,
        machines: Sequence[Machine] = (),
        cluster: Cluster | None = None,
        route: Choose | None = None,
        handoff: Choose = least_kv,
    ) -> None:
        machines = machines or [Machine(engine or Engine())] * num_instances
        self.requests = sorted(requests, key=lambda request: request.index)
        self.cluster = cluster or Cluster()
        self.router = router
        self.horizon = horizon
        self.steer = steer
        self.route = route or Simulation.usual_route
        self.handoff = handoff
        self.instances = [self.instance(i, machine) for i, machine in enumerate(machines)]
        self.network = Network([machine.bandwidth for machine in machines], self.cluster.latency)
        self.prefilled: list[Request] = []  # on prefill instances; about to be handed off
        self.clock = 0.0
        self.routed = 0
        self.log: list[Iteration] = []
        self.moves: list[Move] = []
        self.handoffs = self.migrations = self.aborted = 0
        self.transferred = self.swapped = 0.0  # bytes
        self.swap_outs = 0

    def instance(self, index: int, machine: Machine) -> Instance:
        engine = machine.engine
        block_bytes = self.cluster.kv_bytes * engine.block_size
        host_blocks = int(engine.swap_space * 2**30 / block_bytes)
        return Instance(index, engine, machine.role, engine.usable_blocks, host_blocks)

    # --- the event loop ---------------------------------------------------------------------------

    def run(self) -> "Simulation":
        in_order = (
            self.take_arrivals,
            self.end_iterations,
            self.end_copies,
            self.decide_hand_offs,
            self.change_roles,
            self.ask_an_instance,
        )
        while True:
            while any(act() for act in in_order):  # after each, the first that has to act goes on
                self.check()
            later = [r.arrival for r in self.requests if r.phase == "pending"]
            later += [instance.end for instance in self.instances]
            later += [end for instance in self.instances for end, _ in instance.swapped_in]
            later.append(self.network.next_time())
            if min(later) > self.horizon or min(later) == NEVER:
                return self
            self.clock = min(later)

    def take_arrivals(self) -> bool:
        due = [r for r in self.requests if r.phase == "pending" and r.arrival <= self.clock]
        for request in due:
            limit = self.instances[0].engine.max_model_len
            request.final = min(request.output, limit - request.prompt)
            request.phase = "refused"
            if not any(i.engine.can_ever_run(request) for i in self.instances):
                continue
            instance = self.instances[self.route(self, request)]
            if not instance.engine.can_ever_run(request):
                continue
            request.phase = "waiting"
            request.instance = instance.index
            instance.waiting.append(request)
            instance.asked = True
        return bool(due)

    def offered(self, request: Request) -> list[Instance]:
        """The instances among which a router chooses."""
        fit = [i for i in self.instances if i.engine.can_run_so_far(request)]
        return [i for i in fit if i.role != "decode" and i.next_role is None] or fit

    def usual_route(self, request: Request) -> int:
        offered = self.offered(request)
        self.routed += 1
        if self.router == "round_robin":
            return offered[(self.routed - 1) % len(offered)].index
        loads = [len(i.waiting) + len(i.running) + len(i.loading) for i in offered]
        return offered[loads.index(min(loads))].index

    def end_iterations(self) -> bool:
        due = [instance for instance in self.instances if instance.end <= self.clock]
        for instance in due:
            self.deliver(instance)
        return bool(due)

    def deliver(self, instance: Instance) -> None:
        """End of an iteration: who is up to date gets a token, who has all of them leaves."""
        batch, end = instance.batch, instance.end
        instance.batch, instance.end, instance.asked = {}, NEVER, True
        for request in list(instance.running):
            got_a_token = request.index in batch and request.computed == request.known
            if got_a_token:
                assert not request.tokens or request.tokens[-1] < end
                request.tokens.append(end)
            transfer = self.network.of(request)
            if got_a_token and len(request.tokens) == request.final:
                abort_migration_of(self, request)
                request.phase = "finished"
                instance.running.remove(request)
                self.release(instance, request)
            elif transfer is not None:
                if transfer.kind == "last":
                    stop(self, transfer)
            elif got_a_token and instance.role == "prefill" and not request.stays:
                instance.running.remove(request)
                request.phase = "moving"
                self.prefilled.append(request)

    def end_copies(self) -> bool:
        """Transfers, then swaps, that end take effect, in each case lowest request first."""
        if self.network.leave_ports(self.clock):
            return True
        ended = [t for t in self.network.transfers if t.end <= self.clock]
        copied = [r for i in self.instances for end, r in i.swapped_in if end <= self.clock]
        if ended:
            end_transfer(self, min(ended, key=lambda t: t.request.index))
        elif copied:
            request = min(copied, key=lambda r: r.index)
            end_swap_in(self, self.instances[request.instance], request)
        return bool(ended or copied)

    def decide_hand_offs(self) -> bool:
        if not self.prefilled:
            return False
        request = min(self.prefilled, key=lambda r: r.index)
        self.prefilled.remove(request)
        hand_off(self, request, self.handoff(self, request))
        return True

    def set_role(self, i: int, role: str, drain: bool) -> None:
        """Change a role now, or once the instance has done its present work."""
        instance = self.instances[i]
        instance.next_role = role if role != instance.role else None
        if instance.next_role is not None and (not drain or instance.has_nothing):
            self.change_role(instance)
            for request in instance.running:
                request.stays = role == "prefill" and not request.prefilling

    def change_roles(self) -> bool:
        ready = [i for i in self.instances if i.next_role is not None and i.has_nothing]
        for instance in ready:
            self.change_role(instance)
        return bool(ready)

    def change_role(self, instance: Instance) -> None:
        i, role = instance.index, str(instance.next_role)
        instance.role, instance.next_role = role, None
        self.moves.append(Move("role", ROLES.index(role), i, i, 0, self.clock, self.clock))

    def ask_an_instance(self) -> bool:
        for instance in self.instances:
            has_work = instance.waiting or instance.running
            if instance.end == NEVER and instance.asked and has_work:
                self.start_iteration(instance)
                return True
        return False

    def start_iteration(self, instance: Instance) -> None:
        """Form a batch. If nobody can run, try again at once if that made room, else later."""
        instance.asked = False
        instance.victims = []
        self.apply_steering(instance)
        instance.ignores_holds = False
        instance.ignores_holds = not (instance.running or self.eligible(instance))
        batch = FORMERS[instance.engine.former](self, instance, self.eligible(instance))
        if batch:
            self.begin(instance, batch)
        elif not instance.victims:
            give_up_kv(self, instance)
        instance.asked = instance.asked or bool(instance.victims)

    def begin(self, instance: Instance, batch: dict[int, int]) -> None:
        rows, prefill_tokens, decode_seqs, kv_tokens, prefills = [], 0, 0, 0, []
        for index, tokens in batch.items():
            request = self.requests[index]
            assert request in instance.running
            rows.append((index, tokens, request.computed))
            if tokens == 1 and request.left == 1 and request.tokens:
                decode_seqs += 1
            else:
                prefill_tokens += tokens
                prefills.append(request)
            request.computed += tokens
            assert instance.engine.blocks(request.computed) <= request.blocks
            request.prefilling = request.computed < request.known
            kv_tokens += request.computed
        duration = instance.engine.duration(prefill_tokens, decode_seqs, kv_tokens)
        duration += waits_for_copies_until(self, instance) - self.clock
        for request in prefills:
            request.streamed += duration
        instance.batch, instance.end = batch, self.clock + duration
        instance.iterations += 1
        row = Iteration(
            instance.index, self.clock, duration, rows, instance.victims, prefill_tokens,
            decode_seqs, kv_tokens, len(instance.running), len(instance.waiting), instance.free,
        )  # fmt: skip
        self.log.append(row)

    # --- memory -----------------------------------------------------------------------------------

    def missing(self, instance: Instance, request: Request, tokens: int) -> int:
        """Blocks that `request` lacks to hold `tokens`."""
        return max(0, instance.engine.blocks(tokens) - request.blocks)

    def fits(self, instance: Instance, blocks: int) -> bool:
        """Whether so many blocks may be taken for a newcomer."""
        return blocks + self.kept_free(instance) <= instance.free

    def hold(self, instance: Instance, request: Request, blocks: int) -> None:
        """Give `request` some more blocks."""
        assert 0 <= blocks <= instance.free
        instance.free -= blocks
        request.blocks += blocks

    def release(self, instance: Instance, request: Request) -> None:
        instance.free += request.blocks
        request.blocks = 0

    def drop(self, instance: Instance, request: Request) -> None:
        """All KV that a request has on its instance is lost."""
        request.recomputed += request.computed
        request.computed = 0
        request.prefilling = False
        self.release(instance, request)

    def drop_elsewhere(self, instance: Instance, request: Request) -> None:
        """KV that a waiting request has on the host or on another instance is lost."""
        if request.other == HOST:
            free_host(instance, request)
        elif request.other is not None:
            self.instances[request.other].free += request.other_blocks
            self.instances[request.other].asked = True
            request.other, request.other_blocks = None, 0
        self.drop(instance, request)

    def comes_later(self, instance: Instance, request: Request) -> bool:
        """Whether a waiting request, once admitted, still waits for its KV."""
        if request.other == HOST:
            return instance.engine.swap_overlap
        return request.other is not None

    def load(self, instance: Instance, request: Request) -> None:
        """Admit a request that gets a seat and blocks now, and can run when its KV is there."""
        instance.waiting.remove(request)
        instance.loading.append(request)
        request.phase = "moving"
        self.hold(instance, request, instance.engine.space(request))
        if request.other == HOST:
            swap_in(self, instance, request)
        else:
            send_handed_off(self, instance, request)

    def admit(self, instance: Instance, request: Request, blocks: int) -> None:
        instance.waiting.remove(request)
        instance.running.append(request)
        request.phase = "running"
        request.streamed = 0.0
        self.hold(instance, request, blocks)
        if request.other == HOST:
            swap_in(self, instance, request)

    def preempt(self, instance: Instance, request: Request) -> None:
        """Back to the front of the queue; its KV is lost or goes to the host."""
        abort_migration_of(self, request)
        instance.running.remove(request)
        request.phase = "waiting"
        request.stays = False
        request.preemptions += 1
        instance.preemptions += 1
        if can_swap_out(instance, request):
            swap_out(self, instance, request)
        else:
            i = instance.index
            self.note("preemption", request, i, i, request.computed, self.clock)
            self.drop(instance, request)
        instance.waiting.insert(0, request)

    def note(
        self,
        kind: str,
        request: Request,
        source: int,
        target: int,
        tokens: int,
        start: float,
        end: float | None = None,
    ) -> None:
        """A row of the log of moves; it ends now unless `end` is given."""
        end = self.clock if end is None else end
        self.moves.append(Move(kind, request.index, source, target, tokens, start, end))

    # --- steering ---------------------------------------------------------------------------------

    def apply_steering(self, instance: Instance) -> None:
        """Ask; reject, preempt, migrate, then sort by the scores in force."""
        answer = self.steer(self, instance) if self.steer else None
        self.sort(instance)
        if answer is None:
            return
        instance.steering = answer
        coming = [request for request in instance.loading if request.phase == "moving"]
        for request in instance.waiting + instance.running + coming:
            request.held = False
            request.waiting_score = answer.get("waiting_score", {}).get(request.index, 0.0)
            request.running_score = answer.get("running_score", {}).get(request.index, 0.0)
        for index in answer.get("reject", ()):
            request = self.requests[index]
            if request in instance.waiting:
                self.reject(instance, request)
        for index in answer.get("preempt", ()):
            request = self.requests[index]
            if request in instance.running:
                self.preempt(instance, request)
                request.held = True
        for index, target in answer.get("migrate_to", {}).items():
            request = self.requests[index]
            if request in instance.running or request in instance.waiting:
                migrate(self, request, target)
        self.sort(instance)

    def reject(self, instance: Instance, request: Request) -> None:
        """Refuse a waiting request; KV that it has somewhere is freed."""
        instance.waiting.remove(request)
        request.phase = "rejected"
        self.note("rejection", request, instance.index, instance.index, 0, self.clock)
        self.drop_elsewhere(instance, request)

    def sort(self, instance: Instance) -> None:
        """Bring both queues into the order of the scores in force; equal ones stay as they are.

        Of equal ones that wait, those swapped out go first, and the first out is the first in.
        """
        instance.waiting.sort(key=lambda r: (-r.waiting_score, r.other != HOST, r.swap_number))
        instance.running.sort(key=lambda r: -r.running_score)

    def eligible(self, instance: Instance) -> list[Request]:
        """Waiting requests in the order of admission, without those that are held."""

        def is_held(request: Request) -> bool:
            return request.held or request.waiting_score == -math.inf

        waiting = self.in_order(instance)
        return [r for r in waiting if instance.ignores_holds or not is_held(r)]

    def in_order(self, instance: Instance) -> list[Request]:
        """All waiting requests in the order of admission."""

        def urgency(request: Request) -> tuple[float, int, int]:
            if instance.engine.scheduling_policy == "priority":
                return -request.waiting_score, request.priority, request.index
            return -request.waiting_score, request.other != HOST, request.swap_number

        return sorted(instance.waiting, key=urgency)

    def token_budget(self, instance: Instance) -> int:
        most = instance.engine.max_num_batched_tokens
        return min(most, instance.steering.get("token_budget", most))

    def active_cap(self, instance: Instance) -> int:
        most = instance.engine.max_num_seqs
        return min(most, instance.steering.get("active_cap", most))

    def has_seat(self, instance: Instance) -> bool:
        """Whether one more request may run; those on their way here have their seats."""
        return len(instance.running) + len(instance.loading) < self.active_cap(instance)

    def chunk_cap(self, instance: Instance) -> int:
        """Most prefill tokens of one request; 0 = no limit."""
        caps = instance.engine.long_prefill_token_threshold, instance.steering.get("chunk_cap", 0)
        return min((cap for cap in caps if cap > 0), default=0)

    def kept_free(self, instance: Instance) -> int:
        """Blocks that admission must leave free."""
        engine = instance.engine
        always = 0 if engine.former == "vllm_v1" else engine.watermark_blocks
        if not instance.running:
            return always
        return engine.watermark_blocks + instance.steering.get("reserve", 0)

    def holds_prefill(self, instance: Instance) -> bool:
        """Whether prefill is deferred: asked for, no backlog, and a decode runs."""
        decodes = any(not request.prefilling for request in instance.running)
        wanted = bool(instance.steering.get("hold_prefill", 0))
        return wanted and not instance.backlog and decodes

    # --- what always holds ------------------------------------------------------------------------

    def check(self) -> None:
        """KV is conserved everywhere, and nobody is in two places."""
        for instance in self.instances:
            here = sum(r.blocks for r in self.requests if r.instance == instance.index)
            copies = sum(r.other_blocks for r in self.requests if r.other == instance.index)
            assert instance.free + here + copies == instance.engine.usable_blocks
            hosted = [r for r in self.requests if r.instance == instance.index and r.other == HOST]
            assert instance.free >= 0
            assert instance.free_host >= 0
            if hosted or instance.engine.preemption_mode == "swap":
                total = self.instance(instance.index, Machine(instance.engine)).free_host
                assert instance.free_host + sum(r.other_blocks for r in hosted) == total
            seats = len(instance.running) + len(instance.loading)
            assert seats <= instance.engine.max_num_seqs
        for request in self.requests:
            waits = [i.index for i in self.instances if request in i.waiting]
            runs = [i.index for i in self.instances if request in i.running]
            loads = [i.index for i in self.instances if request in i.loading]
            here = [request.instance]
            assert waits == (here if request.phase == "waiting" else [])
            assert runs == (here if request.phase == "running" else [])
            migrates = request.phase == "running" and request.other is not None
            if migrates:
                assert loads == [request.other]
            elif request.phase == "moving":
                assert len(loads) + (request in self.prefilled) == 1
            else:
                assert not loads
            if request.phase in ("finished", "rejected", "refused", "pending"):
                assert request.blocks == request.other_blocks == 0
                assert self.network.of(request) is None
