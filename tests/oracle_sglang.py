"""The batch former of SGLang 0.5.23 for the slow simulator, written from its rules alone.

Importing this file makes the oracle know it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from oracle_formers import FORMERS
from oracle_parts import NEVER, Instance, Request

if TYPE_CHECKING:
    from oracle import Simulation

CLIP = 4096  # tokens
FIRST, LAST = 0.7, 0.14 * 0.7  # share of the future output that is set aside
STEP = (FIRST - LAST) / 600


@dataclass
class Memo:
    """What SGLang's scheduler keeps from batch to batch."""

    ratio: float = FIRST
    full: bool = False
    running: frozenset[int] = frozenset()  # after the last pass


MEMOS: dict[int, tuple[Instance, Memo]] = {}  # by identity; the instance is kept, so it stays valid


def memo_of(instance: Instance) -> Memo:
    return MEMOS.setdefault(id(instance), (instance, Memo()))[1]


def to_come(instance: Instance, request: Request) -> int:
    """Tokens that a request may generate in all: no client says, so what fits."""
    engine = instance.engine
    return min(engine.max_model_len, engine.usable_blocks * engine.block_size) - request.prompt


def still_to_come(instance: Instance, request: Request) -> int:
    return min(max(0, to_come(instance, request) - len(request.tokens)), CLIP)


def in_blocks(instance: Instance, tokens: int) -> int:
    """Tokens, rounded up to whole blocks."""
    return instance.engine.blocks(tokens) * instance.engine.block_size


def form_sglang(sim: "Simulation", instance: Instance, waiting: list[Request]) -> dict[int, int]:
    """A batch of prompts if there is one, else everybody decodes."""
    memo = memo_of(instance)
    ended = [row.start + row.duration for row in sim.log if row.instance == instance.index]
    if not ended or ended[-1] < sim.clock:
        memo.ratio = FIRST  # it was idle
    chunked = [request for request in instance.running if request.prefilling]
    decodes = [request for request in instance.running if not request.prefilling]
    left = memo.running - {request.index for request in instance.running}
    if chunked or not decodes or left:
        memo.full = False
    batch: dict[int, int] = {}
    if not sim.holds_prefill(instance):
        batch = Prefill(sim, instance, memo).form(waiting, chunked, decodes)
        instance.backlog = bool(waiting)
    if not batch:
        batch = decode(sim, instance, memo, decodes, chunked)
    memo.running = frozenset(request.index for request in instance.running)
    return batch


class Prefill:
    """One attempt to form a batch of prompts: SGLang's PrefillAdder."""

    def __init__(self, sim: "Simulation", instance: Instance, memo: Memo) -> None:
        self.sim, self.instance, self.memo = sim, instance, memo
        self.batch: dict[int, int] = {}
        self.chunk = sim.token_budget(instance)
        self.cap = sim.chunk_cap(instance) or NEVER
        self.room = 0.0

    def form(
        self, waiting: list[Request], chunked: list[Request], decodes: list[Request]
    ) -> dict[int, int]:
        instance, memo = self.instance, self.memo
        if not chunked and (memo.full or not waiting):
            return {}
        if not chunked and not self.sim.has_seat(instance):
            memo.full = True
            return {}
        self.room = float(instance.free * instance.engine.block_size)
        for request in decodes:
            self.room -= still_to_come(instance, request) * memo.ratio
        if chunked and not self.go_on(chunked):
            return {}
        while waiting and self.chunk > 0:
            if not self.sim.has_seat(instance):
                memo.full = True
            if memo.full or not self.add(waiting, chunked):
                break
            if self.room <= 0:
                memo.full = True
        return self.batch

    def go_on(self, chunked: list[Request]) -> bool:
        """The next part of the unfinished prompt."""
        (request,) = chunked
        instance = self.instance
        available = int(self.room) if int(self.room) > 0 else self.chunk
        holds = (request.blocks + instance.free) * instance.engine.block_size
        most = min(self.chunk, available, self.cap, holds - request.computed)
        tokens = min(request.left, most)
        if tokens <= 0:
            return False
        need = self.sim.missing(instance, request, request.computed + tokens)
        self.sim.hold(instance, request, need)
        self.take(request, tokens)
        if tokens == request.left:
            chunked.clear()
        return True

    def take(self, request: Request, tokens: int) -> None:
        """Put so many tokens of a request into the batch and set memory aside for it."""
        self.batch[request.index] = tokens
        whole = in_blocks(self.instance, tokens)
        self.chunk -= whole
        self.room -= whole + self.instance.engine.block_size
        if tokens == request.left:
            self.room -= min(to_come(self.instance, request), CLIP)

    def add(self, waiting: list[Request], chunked: list[Request]) -> bool:
        """Admit the head of the queue; False: it has to wait, and so have all behind it."""
        instance, engine, request = self.instance, self.instance.engine, waiting[0]
        alone = not instance.running and not instance.loading
        if alone:
            if not self.sim.fits(instance, engine.blocks(request.known)):
                return False
        else:
            need = request.known + still_to_come(instance, request) + engine.block_size
            if need + self.sim.kept_free(instance) * engine.block_size >= self.room:
                self.memo.full = bool(instance.running)
                return False
        tokens = self.cut(request, chunked, alone)
        if tokens == 0:
            return False
        self.take(request, tokens)
        if tokens < request.left:
            chunked.append(request)
        self.sim.admit(instance, waiting.pop(0), engine.blocks(tokens))
        return True

    def cut(self, request: Request, chunked: list[Request], alone: bool) -> int:
        """Tokens of a new request in this batch."""
        size, whole = self.instance.engine.block_size, in_blocks(self.instance, request.known)
        if not self.instance.engine.enable_chunked_prefill:
            return 0 if self.batch and whole >= self.chunk else request.known
        if whole <= self.chunk and request.known <= self.cap:
            return request.known
        if chunked:
            return 0
        most = int(min(self.chunk, self.cap, request.known))
        return most // size * size or (most if alone else 0)


def decode(
    sim: "Simulation",
    instance: Instance,
    memo: Memo,
    decodes: list[Request],
    chunked: list[Request],
) -> dict[int, int]:
    """A token for everybody who decodes; retracts until the new blocks are free."""
    engine = instance.engine
    if not decodes:
        return {}
    limit = sim.token_budget(instance)
    if limit == engine.max_num_batched_tokens:
        limit = len(decodes)

    def lacking() -> int:
        return sum(sim.missing(instance, r, r.computed + 1) for r in decodes[:limit])

    if lacking() <= instance.free:
        memo.ratio = max(memo.ratio - STEP, LAST)
    else:
        while lacking() > instance.free and len(decodes) > 1:
            order = list(enumerate(decodes))
            _, victim = min(
                order, key=lambda x: (x[1].running_score, len(x[1].tokens), -x[1].prompt, -x[0])
            )
            decodes.remove(victim)
            retract(sim, instance, victim)
        if lacking() > instance.free and chunked:
            retract(sim, instance, chunked[0])
        done = sum(len(request.tokens) for request in decodes)
        whole = sum(to_come(instance, request) for request in decodes)
        memo.ratio = min(1.0, (done + 20 * len(decodes)) / (whole + 1))
        memo.full = False
    batch = {}
    for request in decodes[:limit]:
        sim.hold(instance, request, sim.missing(instance, request, request.computed + 1))
        batch[request.index] = 1
    return batch


def retract(sim: "Simulation", instance: Instance, request: Request) -> None:
    """Preempt, to the back of the queue."""
    instance.victims.append(request.index)
    sim.preempt(instance, request)
    instance.waiting.remove(request)
    instance.waiting.append(request)


FORMERS["sglang"] = form_sglang
