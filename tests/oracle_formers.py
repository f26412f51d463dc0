"""The batch formers of the slow simulator.

Each returns request -> tokens, and leaves the queues as they will be.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from oracle_parts import HOST, NEVER, Instance, Request

if TYPE_CHECKING:
    from oracle import Simulation


def form_vllm_v1(sim: "Simulation", instance: Instance, waiting: list[Request]) -> dict[int, int]:
    """vLLM 0.33.0: the running in their order, then the waiting if nobody was preempted."""
    engine, running, batch = instance.engine, instance.running, {}
    budget = sim.token_budget(instance)
    cap = sim.chunk_cap(instance) if len(running) + len(waiting) > 1 else 0
    deferred = sim.holds_prefill(instance)
    by_priority = engine.scheduling_policy == "priority"
    position = 0
    while position < len(running) and budget > 0:
        request = running[position]
        tokens = min(request.left, cap or NEVER, budget)
        tokens = min(tokens, engine.max_model_len - 1 - request.computed)
        if tokens == 0 or (deferred and request.prefilling):
            position += 1
            continue
        need = sim.missing(instance, request, request.computed + tokens)
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
    while waiting and budget > 0 and sim.has_seat(instance):
        request = waiting[0]
        if deferred and request.left > 1:
            break
        if sim.comes_later(instance, request):
            if not sim.fits(instance, engine.space(request)):
                break
            sim.load(instance, waiting.pop(0))
            continue
        tokens = min(request.left, cap or NEVER)
        back = request.other == HOST  # swapped in, it goes on as one that runs
        if tokens > budget and not (engine.enable_chunked_prefill or back):
            break
        tokens = min(tokens, budget)
        taken = engine.blocks(request.known if back else tokens)
        whole = engine.scheduler_reserve_full_isl
        if not sim.fits(instance, engine.blocks(request.known) if whole else taken):
            break
        waiting.pop(0)
        sim.admit(instance, request, taken)
        batch[request.index] = tokens
        budget -= tokens
    if not deferred:
        instance.backlog = bool(waiting)
    return batch


def form_vllm_v0(sim: "Simulation", instance: Instance, waiting: list[Request]) -> dict[int, int]:
    """vLLM 0.6.6: whole prompts alone if any can be admitted, else one token for all running."""
    if instance.engine.enable_chunked_prefill:
        return form_vllm_v0_chunked(sim, instance, waiting)
    batch: dict[int, int] = {}
    budget = sim.token_budget(instance)
    swapped = [request for request in waiting if request.other == HOST]
    if not (swapped or sim.holds_prefill(instance)):
        admit_whole(sim, instance, waiting, batch, budget)
        instance.backlog = bool(waiting)
    if batch:
        return batch
    queue = list(instance.running)
    while queue and budget > 0:
        request = queue.pop(0)
        if make_room(sim, instance, request, queue):
            batch[request.index] = 1
            budget -= 1
    if not instance.victims:
        admit_chunks(sim, instance, swapped, batch, budget)
    return batch


def admit_whole(
    sim: "Simulation",
    instance: Instance,
    waiting: list[Request],
    batch: dict[int, int],
    budget: float,
) -> None:
    """Admit while the whole rest and its blocks fit."""
    while waiting and budget > 0 and sim.has_seat(instance):
        request = waiting[0]
        need = instance.engine.space(request)
        if not sim.fits(instance, need):
            break
        if sim.comes_later(instance, request):
            sim.load(instance, waiting.pop(0))
            continue
        if request.left > budget:
            break
        batch[request.index] = request.left
        budget -= request.left
        sim.admit(instance, waiting.pop(0), need)


def form_vllm_v0_chunked(
    sim: "Simulation", instance: Instance, waiting: list[Request]
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
        tokens = min(request.left, cap, budget)
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
    if deferred:
        return batch
    swapped = [request for request in waiting if request.other == HOST]
    others = [request for request in waiting if request.other != HOST]
    if not instance.victims:
        budget = admit_chunks(sim, instance, swapped, batch, budget)
    if not any(request.other == HOST for request in sim.eligible(instance)):
        admit_chunks(sim, instance, others, batch, budget)  # not the victims of this pass
    instance.backlog = bool(swapped + others)
    return batch


def admit_chunks(
    sim: "Simulation",
    instance: Instance,
    waiting: list[Request],
    batch: dict[int, int],
    budget: int,
) -> int:
    """Admit while a chunk and the blocks of all known tokens fit. Returns the budget left."""
    cap = sim.chunk_cap(instance) or NEVER
    while waiting and budget > 0 and sim.has_seat(instance):
        request = waiting[0]
        need = instance.engine.space(request)
        if not sim.fits(instance, need):
            break
        waiting.pop(0)
        if sim.comes_later(instance, request):
            sim.load(instance, request)
            continue
        batch[request.index] = min(request.left, cap, budget)
        budget -= batch[request.index]
        sim.admit(instance, request, need)
    return budget


def make_room(
    sim: "Simulation", instance: Instance, request: Request, queue: list[Request]
) -> bool:
    """A slot for the next token of `request`: while no block is free, the tail of `queue` goes.

    A block must be free even if the last one of the request has room. False: it went itself.
    """
    while instance.free < 1:
        victim = queue.pop() if queue else request
        instance.victims.append(victim.index)
        sim.preempt(instance, victim)
        if victim is request:
            return False
    sim.hold(instance, request, sim.missing(instance, request, request.known))
    return True


def form_sarathi(sim: "Simulation", instance: Instance, waiting: list[Request]) -> dict[int, int]:
    """Sarathi-Serve: all decodes, then running prefills, then new ones share the chunk size."""
    batch: dict[int, int] = {}
    budget = sim.token_budget(instance)
    cap = sim.chunk_cap(instance) or NEVER
    deferred = sim.holds_prefill(instance)
    instance.running.sort(key=lambda r: (-r.running_score, r.index))
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
        tokens = min(request.left, cap, budget)
        if tokens > 0 and not deferred:
            batch[request.index] = tokens
            budget -= tokens
    instance.running = decodes + prefills
    if not deferred:
        # a victim may come back at once
        waiting = sim.eligible(instance)
        admit_chunks(sim, instance, waiting, batch, budget)
        instance.backlog = bool(waiting)
    return batch


def form_orca(sim: "Simulation", instance: Instance, waiting: list[Request]) -> dict[int, int]:
    """Orca: everybody who runs, and whole prompts while their reservation fits."""
    budget: float = sim.token_budget(instance)
    if budget == instance.engine.max_num_batched_tokens:
        budget = sys.maxsize  # the engine has none, only a Steering
    batch = {request.index: 1 for request in instance.running[: int(budget)]}
    budget -= len(batch)
    if not sim.holds_prefill(instance):
        admit_whole(sim, instance, waiting, batch, budget)
        instance.backlog = bool(waiting)
    return batch


Former = Callable[["Simulation", Instance, list[Request]], dict[int, int]]

FORMERS: dict[str, Former] = {
    "vllm_v1": form_vllm_v1,
    "vllm_v0": form_vllm_v0,
    "sarathi": form_sarathi,
    "orca": form_orca,
}
