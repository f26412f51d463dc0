"""Acting on a Steering: reject, preempt, sort. Its caps stay in INSTANCE until the next one."""

from sgym._jit import kernel
from sgym.core import ahead, arrange, batch, handoff, log, migration, queue
from sgym.core.layout import HOST, NONE, REJECTED, RUNNING, WAITING, Move

REJECTION = int(Move.REJECTION)
MANY = 8  # waiting requests for each one that a Steering moves


@kernel
def steer(state, i, steered):
    """Apply what a Steering says of single requests; whatever it does not name is neutral.

    `steered` is STEERED (n,), each request at most once and of this instance; entries that no
    longer apply (a reject of a running request, say) are ignored. The caller has set the knobs of
    INSTANCE.
    """
    requests, instance, running = state.requests, state.instances[i], state.running[i]
    forget(state, i)
    if MANY * steered.size >= instance["num_waiting"]:
        instance["waiting_root"] = NONE  # no tree: moving so many along the list takes less time
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
    for k in range(steered.size):  # held ones go to the end of the queue, from the first one on
        if steered[k]["waiting_score"] <= 0.0 and is_here(requests, steered[k], i):
            score(requests, state.links, instance, steered[k])
    for k in range(steered.size - 1, -1, -1):  # and promoted ones to its head, from the last one on
        if steered[k]["waiting_score"] > 0.0 and is_here(requests, steered[k], i):
            score(requests, state.links, instance, steered[k])
    sort_running(requests, instance, running)


@kernel
def is_here(requests, entry, i):
    """Whether what a Steering says of a request is for instance `i` still."""
    return requests[entry["request"]]["instance"] == i


@kernel
def forget(state, i):
    """End what the last Steering said of single requests; the order that it led to persists."""
    settle(state.requests, state.links, state.engines[i], state.instances[i])
    forget_running(state.requests, state.instances[i], state.running[i])


@kernel
def forget_running(requests, instance, running):
    """What `forget` does to running requests; the number of the Steering is a new one."""
    sort_running(requests, instance, running)
    for k in range(instance["num_running"]):
        request = requests[running[k]]
        request["running_score"] = 0.0
        request["waiting_score"] = 0.0
        request["held"] = 0
    instance["running_scored"] = 0
    instance["steerings"] += 1


@kernel
def start_order(state, i):
    """`forget`, for who then gives all requests scores; returns the rank of the first in the queue.

    `score_running` for each that runs and `score_waiting` for each that waits have to follow, then
    `put_in_order`.
    """
    instance = state.instances[i]
    sort_running(state.requests, instance, state.running[i])
    instance["running_scored"] = 0
    instance["num_held"] = 0
    instance["num_scored"] = 0
    instance["steerings"] += 1
    instance["front_rank"] -= instance["num_waiting"]
    return instance["front_rank"]


@kernel
def score_running(instance, request, waiting_score, running_score):
    """Give a running request finite scores; `sort_running` then moves it."""
    request["held"] = 0
    request["steering"] = instance["steerings"]
    request["waiting_score"] = waiting_score
    request["running_score"] = running_score
    if running_score != 0.0 or instance["running_scored"]:
        instance["running_scored"] = 1


@kernel
def score_waiting(engine, instance, request, rank, waiting_score, running_score):
    """Give a waiting request finite scores and its rank at equal ones; `arrange` then moves it."""
    request["held"] = 0
    set_rank(engine, request, rank)
    request["steering"] = instance["steerings"]
    request["waiting_score"] = waiting_score
    request["running_score"] = running_score
    if waiting_score != 0.0:
        instance["num_scored"] += 1


@kernel
def put_in_order(state, i):
    """Act on the scores that all requests of an instance have been given."""
    arrange.arrange(state.requests, state.links, state.instances[i])
    sort_running(state.requests, state.instances[i], state.running[i])


@kernel
def reject(state, i, r):
    """Refuse a waiting request; it stays in the denominator and its reader keeps waiting."""
    batch.dequeue(state.requests, state.links, state.instances[i], r)
    ahead.end_deferral(state.instances[i], state.requests[r])
    handoff.drop_kv(state, r)
    state.requests[r]["phase"] = REJECTED
    state.cluster[0]["num_unfinished"] -= 1
    now = state.cluster[0]["clock"]
    log.move(state, REJECTION, r, i, i, 0, now, now)


@kernel
def score(requests, links, instance, entry):
    """Give one request its scores; one for the other queue holds when it comes there."""
    r = entry["request"]
    request = requests[r]
    if request["phase"] == RUNNING:
        score_running(instance, request, entry["waiting_score"], entry["running_score"])
    elif request["phase"] == WAITING:
        request["steering"] = instance["steerings"]
        request["running_score"] = entry["running_score"]
        if entry["waiting_score"] != request["waiting_score"]:
            rescore(requests, links, instance, r, entry["waiting_score"])


@kernel
def rescore(requests, links, instance, r, waiting_score):
    """Move a waiting request to the place of another score."""
    queue.remove(requests, links, instance, r)
    batch.count_scored(instance, requests[r], -1)
    requests[r]["waiting_score"] = waiting_score
    batch.count_scored(instance, requests[r], 1)
    queue.insert(requests, links, instance, r)


@kernel
def settle(requests, links, engine, instance):
    """Make the present order of the waiting queue its order at equal scores; end all holds.

    Requests ahead of the unscored ones get ranks before theirs, those behind get ranks after, which
    leaves the tree as it is and costs nothing for the others.
    """
    room = instance["num_scored"]
    if room == 0:
        return
    instance["front_rank"] -= room
    instance["back_rank"] += room
    rank = instance["front_rank"]
    r = queue.first(instance)
    while r != NONE and requests[r]["waiting_score"] > 0.0:
        unscore(engine, instance, requests[r], rank)
        rank += 1
        r = queue.following(links, r)
    rank = instance["back_rank"]
    r = queue.last(instance)
    while r != NONE and requests[r]["waiting_score"] < 0.0:
        unscore(engine, instance, requests[r], rank)
        rank -= 1
        r = queue.preceding(links, r)
    release(requests, links, instance)
    if engine["by_priority"] == 1 or instance["num_swapped"] > 0:  # some ranks have not changed
        arrange.arrange(requests, links, instance)


@kernel
def unscore(engine, instance, request, rank):
    """Take score and hold from a waiting request, and give it a rank."""
    batch.count_scored(instance, request, -1)
    request["waiting_score"] = 0.0
    request["held"] = 0
    set_rank(engine, request, rank)


@kernel
def set_rank(engine, request, rank):
    """Give a waiting request a rank, which never changes by priority, nor where it is swapped."""
    if engine["by_priority"] == 0 and request["other"] != HOST:
        request["rank"] = rank


@kernel
def release(requests, links, instance):
    """End the holds of requests that a Steering preempted."""
    r = queue.first(instance)
    while instance["num_held"] > 0 and r != NONE:
        request = requests[r]
        if request["held"]:
            batch.let_go(instance, request)
        r = queue.following(links, r)


@kernel
def sort_running(requests, instance, running):
    """Highest running score first; stable, and cheap when nearly sorted."""
    if instance["running_scored"] != 1:
        return
    for k in range(1, instance["num_running"]):
        r = running[k]
        own = requests[r]["running_score"]
        place = k
        while place > 0 and requests[running[place - 1]]["running_score"] < own:
            running[place] = running[place - 1]
            place -= 1
        running[place] = r
    instance["running_scored"] = 2
