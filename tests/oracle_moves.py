"""What moves KV in the slow simulator: hand-offs, loads, migrations, swaps."""

from typing import TYPE_CHECKING

from oracle_network import Transfer
from oracle_parts import HOST, Instance, Request

if TYPE_CHECKING:
    from oracle import Simulation


# --- hand-off -------------------------------------------------------------------------------------


def least_kv(sim: "Simulation", request: Request) -> int:
    """The decode or mixed instance with the lowest share of KV in use."""
    shares = {
        i.index: (i.engine.usable_blocks - i.free) / i.engine.usable_blocks
        for i in sim.instances
        if i.role != "prefill" and i.next_role is None and i.engine.can_run_so_far(request)
    }
    return min(shares, key=lambda i: shares[i], default=request.instance)


def hand_off(sim: "Simulation", request: Request, target: int) -> None:
    """Let a prefilled request queue at `target`, or decode where it is."""
    source = sim.instances[request.instance]
    if target == source.index or not sim.instances[target].engine.can_ever_run(request):
        request.stays = True
        request.phase = "running"
        source.running.append(request)
        source.asked = True
        return
    request.other, request.other_blocks, request.blocks = source.index, request.blocks, 0
    join(sim, request, target)


def join(sim: "Simulation", request: Request, target: int) -> None:
    """At the back of the queue of `target`; scores and holds belong to an instance."""
    request.phase, request.instance = "waiting", target
    request.waiting_score, request.running_score, request.held = 0.0, 0.0, False
    sim.instances[target].waiting.append(request)
    sim.instances[target].asked = True


def send_handed_off(sim: "Simulation", instance: Instance, request: Request) -> None:
    """Start the transfer of a request that was admitted at `instance`."""
    cluster, ports = sim.cluster, sim.network.bandwidths
    size = cluster.kv_bytes * request.computed
    if cluster.layerwise:
        bandwidth = min(ports[request.other], ports[instance.index])
        size = max(size / cluster.num_layers, size - request.streamed * bandwidth)
    transfer = Transfer(
        request, "handoff", request.other, instance.index, sim.clock, request.computed
    )
    sim.network.send(transfer, size, sim.clock)


def end_transfer(sim: "Simulation", transfer: Transfer) -> None:
    """What a transfer brings about."""
    if transfer.kind == "stage":
        sim.transferred += transfer.size
        next_stage(sim, transfer)
        return
    request = transfer.request
    source, target = sim.instances[transfer.source], sim.instances[transfer.target]
    sim.network.remove(transfer, sim.clock)
    if transfer.kind == "handoff":
        source.free += request.other_blocks
        sim.handoffs += 1
        sim.transferred += sim.cluster.kv_bytes * request.computed
        kind = "handoff"
    else:
        source.free += request.blocks
        request.blocks, request.instance = request.other_blocks, target.index
        request.migrations += 1
        sim.migrations += 1
        sim.transferred += transfer.size
        request.waiting_score = request.running_score = 0.0
        request.stays = False
        kind = "migration"
    request.other, request.other_blocks, request.streamed = None, 0, 0.0
    request.stays = request.stays or target.role == "prefill"  # else it would be sent on
    run(target, request)
    source.asked = True
    sim.note(kind, request, source.index, target.index, request.computed, transfer.start)


def run(instance: Instance, request: Request) -> None:
    """The KV that a request with a seat waited for is there."""
    instance.loading.remove(request)
    instance.running.append(request)
    request.phase = "running"
    instance.asked = True


def give_up_kv(sim: "Simulation", instance: Instance) -> None:
    """Nobody can run here, perhaps as instances wait for each other to take KV away.

    Then the first waiting request with KV elsewhere loses it, and is prefilled here.
    """
    index = instance.index
    behind = any(r.other == index and r.phase == "waiting" for r in sim.requests)
    sending = [t.source for t in sim.network.transfers if t.request.phase == "moving"]
    loads = [r for r in sim.in_order(instance) if r.other not in (None, HOST)]
    if (behind or index in sending) and loads and not (instance.running or instance.loading):
        sim.drop_elsewhere(instance, loads[0])
        instance.asked = True


# --- migration ------------------------------------------------------------------------------------


def migrate(sim: "Simulation", request: Request, target: int) -> None:
    """Move a request elsewhere as a Steering says; what cannot be done is ignored."""
    there = sim.instances[target]
    if target == request.instance or not there.engine.can_ever_run(request):
        return
    if request.phase == "waiting":
        migrate_waiting(sim, request, target)
        return
    cluster, seats = sim.cluster, len(there.running) + len(there.loading)
    under_way = [t for t in sim.network.transfers if t.kind != "handoff"]
    if (
        request.phase != "running"
        or request.prefilling
        or sim.network.of(request)
        or sum(t.source == request.instance for t in under_way) >= cluster.concurrent
        or sum(t.target == target for t in under_way) >= cluster.concurrent
        or seats >= there.engine.max_num_seqs
    ):
        return
    if cluster.mode == "recompute":
        source, dropped = sim.instances[request.instance], request.computed
        source.running.remove(request)
        sim.drop(source, request)
        request.migrations += 1
        sim.migrations += 1
        request.stays = False
        join(sim, request, target)
        sim.note("migration", request, source.index, target, dropped, sim.clock)
        return
    transfer = Transfer(request, "stage", request.instance, target, sim.clock)
    sim.network.transfers.append(transfer)
    there.loading.append(request)
    request.other = target
    if cluster.mode == "stop_and_copy":
        transfer.kind = "last"
        stop(sim, transfer)
    else:
        next_stage(sim, transfer)


def migrate_waiting(sim: "Simulation", request: Request, target: int) -> None:
    source = sim.instances[request.instance]
    if request.other == target:
        return
    source.waiting.remove(request)
    if request.other == HOST:
        sim.drop_elsewhere(source, request)
    join(sim, request, target)


def next_stage(sim: "Simulation", transfer: Transfer) -> None:
    """Copy the full blocks that are there; few blocks left: stop for them; too many: give up."""
    request, target = transfer.request, sim.instances[transfer.target]
    source = sim.instances[transfer.source]
    engine, transfer.end = source.engine, float("inf")
    computed = request.computed - source.batch.get(request.index, 0)
    left = engine.blocks(computed) - engine.blocks(transfer.tokens)
    if left < sim.cluster.last_blocks:
        transfer.kind = "last"
        if request.index not in source.batch:
            stop(sim, transfer)
        return
    full = computed // engine.block_size
    more = full - request.other_blocks
    if transfer.stages >= sim.cluster.stages or not sim.fits(target, more):
        abort(sim, transfer)
        return
    target.free -= more
    request.other_blocks = full
    size = sim.cluster.kv_bytes * (full * engine.block_size - transfer.tokens)
    transfer.tokens = full * engine.block_size
    transfer.stages += 1
    sim.network.send(transfer, size, sim.clock)


def stop(sim: "Simulation", transfer: Transfer) -> None:
    """The last stage: the request stops, and what is left is copied."""
    request, target = transfer.request, sim.instances[transfer.target]
    source = sim.instances[transfer.source]
    more = max(0, target.engine.space(request) - request.other_blocks)
    if not sim.fits(target, more):
        abort(sim, transfer)
        return
    target.free -= more
    request.other_blocks += more
    source.running.remove(request)
    request.phase = "moving"
    size = sim.cluster.kv_bytes * (request.computed - transfer.tokens)
    transfer.tokens, transfer.start = request.computed, sim.clock
    sim.network.send(transfer, size, sim.clock)


def abort(sim: "Simulation", transfer: Transfer) -> None:
    """The copy is thrown away; the request is otherwise untouched."""
    request, target = transfer.request, sim.instances[transfer.target]
    sim.network.remove(transfer, sim.clock)
    target.free += request.other_blocks
    request.other, request.other_blocks = None, 0
    target.loading.remove(request)
    target.asked = True
    sim.aborted += 1
    sim.note("abort", request, transfer.source, target.index, request.computed, sim.clock)


def abort_migration_of(sim: "Simulation", request: Request) -> None:
    """If there is one."""
    transfer = sim.network.of(request)
    if transfer is not None:
        abort(sim, transfer)


# --- swap -----------------------------------------------------------------------------------------


def can_swap_out(instance: Instance, request: Request) -> bool:
    swaps = instance.engine.preemption_mode == "swap"
    return swaps and request.computed > 0 and instance.free_host >= request.blocks


def copy_time(sim: "Simulation", instance: Instance, request: Request) -> float:
    """Seconds to copy the KV of a request to the host or back."""
    size = sim.cluster.kv_bytes * request.computed
    sim.swapped += size
    return size / instance.engine.swap_bandwidth


def swap_out(sim: "Simulation", instance: Instance, request: Request) -> None:
    """KV to the host; the blocks are free at once, though still being copied for a while."""
    if instance.swap_out_ends <= sim.clock:
        instance.leaving_blocks = 0
    start = max(sim.clock, instance.swap_out_ends)
    instance.swap_out_ends = start + copy_time(sim, instance, request)
    instance.leaving_blocks += request.blocks
    instance.free_host -= request.blocks
    request.other, request.other_blocks = HOST, request.blocks
    sim.release(instance, request)
    request.swaps += 1
    sim.swap_outs += 1
    request.swap_number = sim.swap_outs
    sim.note(
        "swap_out", request, instance.index, HOST, request.computed, sim.clock,
        instance.swap_out_ends,
    )  # fmt: skip


def swap_in(sim: "Simulation", instance: Instance, request: Request) -> None:
    """KV back from the host."""
    request.prefilling = request.left > 1 or not request.tokens
    request.streamed = 0.0
    start = max(sim.clock, instance.swap_in_ends)
    instance.swap_in_ends = start + copy_time(sim, instance, request)
    if instance.engine.swap_overlap:
        instance.swapped_in.append((instance.swap_in_ends, request))
    else:
        free_host(instance, request)
    sim.note(
        "swap_in", request, HOST, instance.index, request.computed, sim.clock,
        instance.swap_in_ends,
    )  # fmt: skip


def end_swap_in(sim: "Simulation", instance: Instance, request: Request) -> None:
    """A copy beside the computation is in."""
    instance.swapped_in = [copy for copy in instance.swapped_in if copy[1] is not request]
    free_host(instance, request)
    run(instance, request)


def free_host(instance: Instance, request: Request) -> None:
    request.swap_number = 0
    instance.free_host += request.other_blocks
    request.other, request.other_blocks = None, 0


def waits_for_copies_until(sim: "Simulation", instance: Instance) -> float:
    """Seconds; when the iteration that was formed now can begin."""
    if not instance.engine.swap_overlap:
        return max(sim.clock, instance.swap_out_ends, instance.swap_in_ends)
    leaving = instance.leaving_blocks if instance.swap_out_ends > sim.clock else 0
    return max(sim.clock, instance.swap_out_ends) if instance.free < leaving else sim.clock
