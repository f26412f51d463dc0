"""Acting on a Steering: reject, preempt, sort. Its caps stay in INSTANCE until the next one."""

from sgym._jit import kernel
from sgym.core import ahead, batch, handoff, log, migration, queue
from sgym.core.layout import HOST, NONE, REJECTED, RUNNING, WAITING, Move

REJECTION = int(Move.REJECTION)


@kernel
def steer(state, i, steered):
    """Apply what a Steering says of single requests; whatever it does not name is neutral.

    `steered` is STEERED (n,), each request at most once and of this instance; entries that no
    longer apply (a reject of a running request, say) are ignored. The caller has set the knobs of
    INSTANCE.
    """
    requests, instance, running = state.requests, state.instances[i], state.running[i]
    settle(requests, state.engines[i], instance)
    sort_running(requests, instance, running)
    for k in range(instance["num_running"]):
        requests[running[k]]["running_score"] = 0.0
        requests[running[k]]["waiting_score"] = 0.0
        requests[running[k]]["held"] = 0
    instance["running_scored"] = 0
    instance["steerings"] += 1
    for entry in steered:
        if entry["reject"] and requests[entry["request"]]["phase"] == WAITING:
            reject(state, i, entry["request"])
    for entry in steered:
        r = entry["request"]
        if entry["preempt"] and requests[r]["phase"] == RUNNING:
            for k in range(instance["num_running"]):
                if running[k] == r:
                    batch.take_out(instance, running, k)
                    break
            requests[r]["held"] = 1
            batch.preempt(state, i, r)
    for entry in steered:
        if entry["migrate_to"] != NONE and requests[entry["request"]]["instance"] == i:
            migration.migrate(state, entry["request"], entry["migrate_to"])
    for entry in steered:
        if requests[entry["request"]]["instance"] == i:
            score(requests, instance, entry)
    sort_running(requests, instance, running)


@kernel
def reject(state, i, r):
    """Refuse a waiting request; it stays in the denominator and its reader keeps waiting."""
    batch.dequeue(state.requests, state.instances[i], r)
    ahead.end_deferral(state.instances[i], state.requests[r])
    handoff.drop_kv(state, r)
    state.requests[r]["phase"] = REJECTED
    state.cluster[0]["num_unfinished"] -= 1
    now = state.cluster[0]["clock"]
    log.move(state, REJECTION, r, i, i, 0, now, now)


@kernel
def score(requests, instance, entry):
    """Give one request its scores; one for the other queue holds when it comes there."""
    r = entry["request"]
    request = requests[r]
    request["steering"] = instance["steerings"]
    if request["phase"] == RUNNING:
        request["running_score"] = entry["running_score"]
        request["waiting_score"] = entry["waiting_score"]
        if entry["running_score"] != 0.0:
            instance["running_scored"] = 1
    elif request["phase"] == WAITING:
        request["running_score"] = entry["running_score"]
        if entry["waiting_score"] != request["waiting_score"]:
            rescore(requests, instance, r, entry["waiting_score"])


@kernel
def rescore(requests, instance, r, waiting_score):
    """Move a waiting request to the place of another score."""
    batch.dequeue(requests, instance, r)
    requests[r]["waiting_score"] = waiting_score
    batch.count_waiting(instance, requests[r], 1)
    queue.insert(requests, instance, r)


@kernel
def settle(requests, engine, instance):
    """Make the present order of the waiting queue its order at equal scores; end all holds.

    Requests ahead of the unscored ones get ranks before theirs, those behind get ranks after, so
    this costs O(log n) for each scored request and nothing for the others.
    """
    if instance["num_scored"] == 0:
        return
    by_priority = engine["by_priority"] == 1
    r = queue.first(requests, instance)
    in_front = NONE
    while r != NONE and requests[r]["waiting_score"] > 0.0:
        batch.dequeue(requests, instance, r)
        requests[r]["parent"] = in_front  # a chain, last first
        in_front = r
        r = queue.first(requests, instance)
    r = queue.last(requests, instance)
    behind = NONE
    while r != NONE and requests[r]["waiting_score"] < 0.0:
        batch.dequeue(requests, instance, r)
        requests[r]["parent"] = behind  # a chain, first first
        behind = r
        r = queue.last(requests, instance)
    while in_front != NONE:
        following = requests[in_front]["parent"]
        instance["front_rank"] -= 1
        put_back(requests, instance, in_front, instance["front_rank"], by_priority)
        in_front = following
    while behind != NONE:
        following = requests[behind]["parent"]
        instance["back_rank"] += 1
        put_back(requests, instance, behind, instance["back_rank"], by_priority)
        behind = following
    release(requests, instance)


@kernel
def put_back(requests, instance, r, rank, by_priority):
    """Insert a dequeued request unscored; under the priority policy its rank never changes."""
    request = requests[r]
    if not by_priority and request["other"] != HOST:
        request["rank"] = rank
    request["waiting_score"] = 0.0
    request["held"] = 0
    batch.count_waiting(instance, request, 1)
    queue.insert(requests, instance, r)


@kernel
def release(requests, instance):
    """End the holds of requests that a Steering preempted."""
    r = queue.first(requests, instance)
    while instance["num_held"] > 0 and r != NONE:
        request = requests[r]
        if request["held"]:
            batch.let_go(instance, request)
        r = queue.following(requests, r)


@kernel
def sort_running(requests, instance, running):
    """Highest running score first; stable, and cheap when nearly sorted."""
    if not instance["running_scored"]:
        return
    for k in range(1, instance["num_running"]):
        r = running[k]
        own = requests[r]["running_score"]
        place = k
        while place > 0 and requests[running[place - 1]]["running_score"] < own:
            running[place] = running[place - 1]
            place -= 1
        running[place] = r
