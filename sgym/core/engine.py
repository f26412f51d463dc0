"""The event loop: `advance` runs until somebody must decide, `route` and others carry it out."""

from sgym._jit import kernel
from sgym.core import (
    ahead,
    batch,
    events,
    handoff,
    heap,
    metric,
    migration,
    network,
    prefix,
    swap,
)
from sgym.core.handoff import hand_off, set_role
from sgym.core.iteration import complete, iterate
from sgym.core.landing import land
from sgym.core.layout import (
    DONE,
    FULL,
    HANDOFF,
    NEVER,
    NONE,
    REFUSED,
    ROUTE,
    SCHEDULE,
    Transfer,
)

__all__ = ["advance", "hand_off", "iterate", "route", "set_role"]

STAGE, LAST_STAGE = int(Transfer.STAGE), int(Transfer.LAST_STAGE)


@kernel
def advance(state):
    """Run until a decision is due, and say which: DONE, ROUTE, HANDOFF, SCHEDULE or FULL.

    Everything that happens at one time is applied before an instance is asked: arrivals, iterations
    that end (lowest instance first), KV that arrives, then hand-offs (lowest request first), and
    roles that change.
    """
    cluster = state.cluster[0]
    while True:
        if is_full(state, cluster):
            return stop(cluster, FULL)
        arrival = NEVER
        if cluster["next_arrival"] < cluster["num_requests"]:
            arrival = state.requests[cluster["next_arrival"]]["arrival"]
        event = NEVER
        if cluster["num_events"] > 0:
            event = state.events[0]["time"]
        event = min(event, cluster["next_transfer"])
        if min(arrival, event) > cluster["horizon"]:
            cluster["clock"] = max(cluster["clock"], cluster["horizon"])
            return stop(cluster, DONE)
        if min(arrival, event) == NEVER:  # what is left waits for a Steering that never comes
            return stop(cluster, DONE)
        if cluster["num_unfinished"] == 0 and event > cluster["clock"]:
            return stop(cluster, DONE)
        if arrival <= event:
            cluster["clock"] = arrival
            if arrive(state.requests, state.engines, cluster, state.dry):
                return stop(cluster, ROUTE)
            continue
        cluster["clock"] = event
        if cluster["next_transfer"] <= event:
            network.send(state)
            continue
        kind, i = state.events[0]["kind"], state.events[0]["index"]
        if kind == events.INSTANCE_ASKS and state.tables.size > 0 and not prefix.has_room(state, i):
            return stop(cluster, FULL)
        cluster["num_events"] = heap.pop(state.events, cluster["num_events"])
        if kind == events.ITERATION_ENDS:
            if state.engines[i]["async_scheduling"]:
                land(state, i)
            else:
                complete(state, state.instances[i], cluster, i)
            events.ask(state, i)
            continue
        if kind == events.TRANSFER_ENDS:
            arrive_kv(state, i)
            continue
        if kind == events.SWAP_ENDS:
            swap.arrive(state, i)
            continue
        if kind == events.HANDOFF_DUE:
            cluster["request"] = i
            cluster["instance"] = state.requests[i]["instance"]
            return stop(cluster, HANDOFF)
        instance = state.instances[i]
        if kind == events.ROLE_DUE:
            if instance["next_role"] != NONE and events.is_empty(instance):
                events.change_role(state, i, instance["next_role"])
            continue
        instance["asked"] = 0
        events.check_role(state, i)
        if instance["num_running"] > 0 or instance["num_waiting"] > 0:
            cluster["instance"] = i
            if state.engines[i]["async_scheduling"]:
                ahead.clear_scheduled(state, i)
            return stop(cluster, SCHEDULE)


@kernel
def stop(cluster, decision):
    """Remember what `advance` stopped for."""
    cluster["decision"] = decision
    return decision


@kernel
def is_full(state, cluster):
    """Whether a log or a pool might not hold what happens next."""
    room = 3 * state.running.shape[1] + 8
    return (
        cluster["num_events"] + room > state.events.size
        or cluster["num_transfers"] + room > state.transfers.size
        or is_log_full(state.tokens, cluster["num_tokens_logged"], room)
        or is_log_full(state.batches, cluster["num_batches_logged"], room)
        or is_log_full(state.iterations, cluster["num_iterations_logged"], room)
        or is_log_full(state.moves, cluster["num_moves_logged"], room)
    )


@kernel
def is_log_full(log, count, room):
    """Whether a log that is wanted has no room left."""
    return log.size > 0 and count + room > log.size


@kernel
def arrive(requests, engines, cluster, dry):
    """Let the next request arrive; False if no engine can ever serve it."""
    r = cluster["next_arrival"]
    cluster["next_arrival"] += 1
    cluster["request"] = r
    metric.track(requests, cluster, dry, r)
    for engine in engines:
        if not batch.never_fits(engine, requests[r]):
            return True
    requests[r]["phase"] = REFUSED
    cluster["num_unfinished"] -= 1
    return False


@kernel
def route(state, i):
    """Answer ROUTE: the request joins the waiting queue of instance `i`."""
    cluster = state.cluster[0]
    r = cluster["request"]
    state.requests[r]["instance"] = i
    if batch.never_fits(state.engines[i], state.requests[r]):
        state.requests[r]["phase"] = REFUSED
        cluster["num_unfinished"] -= 1
        return
    batch.enqueue(state.requests, state.links, state.engines[i], state.instances[i], r, False)
    events.ask(state, i)


@kernel
def arrive_kv(state, r):
    """A transfer of request r is done, unless it was given up before."""
    if not network.has_arrived(state, r):
        return
    kind = state.transfers[state.requests[r]["transfer"]]["kind"]
    if kind == STAGE:
        migration.stage_arrived(state, r)
    elif kind == LAST_STAGE:
        migration.last_stage_arrived(state, r)
    else:
        handoff.arrive(state, r)
