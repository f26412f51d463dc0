"""The event loop: `advance` runs until somebody must decide, `route` and others carry it out."""

from sgym._jit import kernel
from sgym.core import batch, events, heap, metric
from sgym.core.iteration import complete, iterate
from sgym.core.layout import DONE, FULL, NEVER, REFUSED, ROUTE, SCHEDULE

__all__ = ["advance", "iterate", "route"]


@kernel
def advance(state):
    """Run until a decision is due, and say which: DONE, ROUTE, SCHEDULE or FULL.

    Everything that happens at one time is applied before an instance is asked: arrivals first, then
    iterations that end, lowest instance first.
    """
    cluster = state.cluster[0]
    while True:
        if logs_are_full(state, cluster):
            return stop(cluster, FULL)
        arrival = NEVER
        if cluster["next_arrival"] < cluster["num_requests"]:
            arrival = state.requests[cluster["next_arrival"]]["arrival"]
        event = NEVER
        if cluster["num_events"] > 0:
            event = state.events[0]["time"]
        if min(arrival, event) > cluster["horizon"]:
            cluster["clock"] = max(cluster["clock"], cluster["horizon"])
            return stop(cluster, DONE)
        if min(arrival, event) == NEVER:  # what is left waits for a Steering that never comes
            return stop(cluster, DONE)
        if cluster["num_unfinished"] == 0:
            return stop(cluster, DONE)
        if arrival <= event:
            cluster["clock"] = arrival
            if arrive(state.requests, state.engines, cluster, state.dry):
                return stop(cluster, ROUTE)
            continue
        cluster["clock"] = event
        kind, i = state.events[0]["kind"], state.events[0]["index"]
        cluster["num_events"] = heap.pop(state.events, cluster["num_events"])
        instance = state.instances[i]
        if kind == events.ITERATION_ENDS:
            complete(state, instance, cluster, i)
            events.ask(state, i)
            continue
        instance["asked"] = 0
        if instance["num_running"] > 0 or instance["num_waiting"] > 0:
            cluster["instance"] = i
            return stop(cluster, SCHEDULE)


@kernel
def stop(cluster, decision):
    """Remember what `advance` stopped for."""
    cluster["decision"] = decision
    return decision


@kernel
def logs_are_full(state, cluster):
    """Whether a log might not hold what the next iteration writes."""
    room = 3 * state.running.shape[1] + 8
    return (
        (state.tokens.size > 0 and cluster["num_tokens_logged"] + room > state.tokens.size)
        or (state.moves.size > 0 and cluster["num_moves_logged"] + room > state.moves.size)
        or (state.batches.size > 0 and cluster["num_batches_logged"] + room > state.batches.size)
        or (
            state.iterations.size > 0
            and cluster["num_iterations_logged"] + room > state.iterations.size
        )
    )


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
    batch.enqueue(state.requests, state.engines[i], state.instances[i], r, False)
    events.ask(state, i)
