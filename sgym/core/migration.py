"""Moving a request that runs to another instance (Llumnix, OSDI 2024), or one that waits.

A live migration copies the full blocks computed so far while the request goes on decoding, then
those computed in the meantime, and so on; when few are left the request stops for the rest. The
blocks are taken at the target before each copy. If it has no room, the request ends or is
preempted, or too many copies were not enough, all is as if nothing had been tried.
"""

from sgym._jit import kernel
from sgym.core import batch, events, handoff, kv, log, metric, network
from sgym.core.layout import (
    HOST,
    MOVING,
    NONE,
    RUNNING,
    WAITING,
    Migration,
    Move,
    Transfer,
)

LIVE, RECOMPUTE = int(Migration.LIVE), int(Migration.RECOMPUTE)
STAGE, LAST_STAGE = int(Transfer.STAGE), int(Transfer.LAST_STAGE)
MIGRATED = int(Move.MIGRATION)


@kernel
def seems_possible(state, r, j):
    """Whether a migration of request r to instance `j` may begin, as far as anybody can know."""
    cluster, request = state.cluster[0], state.requests[r]
    i = request["instance"]
    if j < 0 or j >= cluster["num_instances"] or j == i:
        return False
    if state.engines[i]["async_scheduling"] or state.engines[j]["async_scheduling"]:
        return False
    source, target = state.instances[i], state.instances[j]
    if not batch.fits_so_far(state.engines[j], request):
        return False
    if request["phase"] == WAITING:
        return request["other"] != j
    if request["phase"] != RUNNING or request["prefilling"] or request["other"] != NONE:
        return False
    if source["migrating_out"] >= cluster["max_migrations"]:
        return False
    if target["migrating_in"] >= cluster["max_migrations"]:
        return False
    return target["num_running"] + target["num_loading"] < state.engines[j]["max_num_seqs"]


@kernel
def migrate(state, r, j):
    """Begin to move request r, whose instance is idle, to instance `j`, if that is possible.

    An instance that could never serve it to its end turns it away: nothing changes.
    """
    if not seems_possible(state, r, j) or batch.never_fits(state.engines[j], state.requests[r]):
        return
    request, cluster = state.requests[r], state.cluster[0]
    i = request["instance"]
    if request["phase"] == WAITING:
        requeue(state, r, j)
        return
    if cluster["migration"] == RECOMPUTE:
        restart(state, r, j)
        return
    state.instances[i]["migrating_out"] += 1
    state.instances[j]["migrating_in"] += 1
    state.instances[j]["num_loading"] += 1
    request["other"] = j
    if cluster["migration"] == LIVE and left(state, r) >= cluster["migration_last_blocks"]:
        copy_stage(state, r, 1)
    else:
        pause(state, r)


@kernel
def requeue(state, r, j):
    """A waiting request joins the back of another queue; KV on the host of the old one is lost."""
    request = state.requests[r]
    batch.dequeue(state.requests, state.links, state.instances[request["instance"]], r)
    if request["other"] == HOST:
        handoff.drop_kv(state, r)
    request["waiting_score"] = 0.0
    handoff.go_to(state, r, j)


@kernel
def restart(state, r, j):
    """Drop the KV of a running request, and have it computed again on instance `j`."""
    request, cluster = state.requests[r], state.cluster[0]
    i, computed = request["instance"], request["computed"]
    take_out(state, i, r)
    kv.release(state, i, r)
    request["recomputed"] += computed
    request["lost"] = computed
    request["computed"] = 0
    request["stays"] = 0
    request["waiting_score"] = 0.0
    count(state, r, 0.0)
    log.move(state, MIGRATED, r, i, j, computed, cluster["clock"], cluster["clock"])
    metric.track(state.requests, cluster, state.dry, r)
    handoff.go_to(state, r, j)


@kernel
def take_out(state, i, r):
    """Remove request r from the running ones of an idle instance."""
    kv.count_up(state, i)
    for k in range(state.instances[i]["num_running"]):
        if state.running[i, k] == r:
            batch.take_out(state.instances[i], state.running[i], k)
            return


@kernel
def count(state, r, size):
    """A migration has succeeded."""
    state.requests[r]["migrations"] += 1
    state.cluster[0]["migrations"] += 1
    state.cluster[0]["transferred"] += size


@kernel
def left(state, r):
    """KV blocks of request r that are there by now, and not at the target yet."""
    request = state.requests[r]
    size = state.engines[request["instance"]]["block_size"]
    there = request["computed"] - request["scheduled"]  # not what is being computed
    return batch.blocks_for(there, size) - request["other_blocks"]


@kernel
def copy_stage(state, r, stage):
    """Copy the full blocks computed since the last stage, while the request goes on decoding."""
    request, cluster = state.requests[r], state.cluster[0]
    i, j = request["instance"], request["other"]
    size = state.engines[i]["block_size"]
    there = request["computed"] - request["scheduled"]
    blocks = there // size - request["other_blocks"]
    if not batch.can_hold(state.engines[j], state.instances[j], blocks):
        network.abort(state, r)
        return
    kv.count_up(state, j)
    kv.grow_other(state, j, r, blocks)
    bytes_now = cluster["kv_bytes"] * blocks * size
    transfer = network.start(state, r, STAGE, i, j, bytes_now)
    transfer["stage"] = stage
    transfer["tokens"] = blocks * size


@kernel
def stage_arrived(state, r):
    """A stage is there: make another, stop the request for the rest, or give up."""
    cluster, request = state.cluster[0], state.requests[r]
    stage = state.transfers[request["transfer"]]["stage"]
    cluster["transferred"] += cluster["kv_bytes"] * state.transfers[request["transfer"]]["tokens"]
    network.remove(state, r)
    if left(state, r) < cluster["migration_last_blocks"]:
        if request["scheduled"] == 0:
            pause(state, r)
    elif stage >= cluster["migration_stages"]:
        network.abort(state, r)
    else:
        copy_stage(state, r, stage + 1)


@kernel
def pause(state, r):
    """Stop a request that is in no batch under way, for the last copy, if the target has room."""
    i = state.requests[r]["instance"]
    if stop(state, r):
        take_out(state, i, r)
        events.check_role(state, i)


@kernel
def wants_to_stop(request):
    """Whether a running request waits for its iteration to end, to be stopped for the last copy."""
    return request["other"] != NONE and request["transfer"] == NONE


@kernel
def stop(state, r):
    """Begin the last copy; False if there is no room. The caller takes r out of `running`."""
    request, cluster = state.requests[r], state.cluster[0]
    i, j = request["instance"], request["other"]
    size = state.engines[i]["block_size"]
    copied = request["other_blocks"] * size
    blocks = batch.blocks_to_resume(state.engines[j], request) - request["other_blocks"]
    if not batch.can_hold(state.engines[j], state.instances[j], blocks):
        network.abort(state, r)
        return False
    kv.count_up(state, j)
    kv.grow_other(state, j, r, blocks)
    request["phase"] = MOVING
    state.instances[i]["num_leaving"] += 1
    metric.track(state.requests, cluster, state.dry, r)
    tokens = request["computed"] - copied
    transfer = network.start(state, r, LAST_STAGE, i, j, cluster["kv_bytes"] * tokens)
    transfer["tokens"] = tokens
    return True


@kernel
def last_stage_arrived(state, r):
    """All KV is at the target: the request goes on there."""
    cluster, request = state.cluster[0], state.requests[r]
    i, j = request["instance"], request["other"]
    transfer = state.transfers[request["transfer"]]
    start, tokens = transfer["start"], transfer["tokens"]
    network.remove(state, r)
    kv.adopt(state, r)
    state.instances[i]["num_leaving"] -= 1
    state.instances[i]["migrating_out"] -= 1
    state.instances[j]["migrating_in"] -= 1
    request["steering"] = NONE
    request["running_score"] = 0.0
    request["waiting_score"] = 0.0
    request["stays"] = 0
    count(state, r, cluster["kv_bytes"] * tokens)
    log.move(state, MIGRATED, r, i, j, request["computed"], start, cluster["clock"])
    handoff.take_seat(state, j, r)
    events.ask(state, i)
    events.ask(state, j)
