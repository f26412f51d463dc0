"""Actions that order all requests of an instance, with a slot or not: `knobs` and `index`."""

from sgym._jit import kernel
from sgym.core import queue, steer
from sgym.core.layout import NONE
from sgym.envs.actions import (
    CLOSED,
    EDF,
    FCFS,
    GAIN,
    GENTLE,
    LIMITS,
    LLF,
    ORDERINGS,
    RESERVATIONS,
    SPF,
)
from sgym.envs.entries import chunks_prompts, open_limits
from sgym.envs.observe import request_numbers, scaled

NUM_LIMITS, NUM_RESERVATIONS = len(LIMITS), len(RESERVATIONS)
NUM_KNOBS = len(ORDERINGS) * NUM_RESERVATIONS * NUM_LIMITS

FIRST = 1e6  # score before anything is taken off: scored requests stand ahead of later arrivals
TOKENS, SECONDS = 512.0, 1.0  # units of a base score, so that weights of size 1 matter
PREFILL_TIME = 1e-4  # seconds per prompt token, as the built-in llf


@kernel
def is_valid_knob(instance, engine, knob):
    """Whether an action of `knobs` applies to an instance."""
    if knob >= NUM_KNOBS:
        return False
    limit = knob % NUM_LIMITS
    if limit == CLOSED:
        return instance["num_running"] > 0
    return limit != GENTLE or chunks_prompts(engine)


@kernel
def waiting_order(ordering, request, aging):
    """Score of a waiting request under one of ORDERINGS, above 0."""
    late = max(request["lateness"], 0.0)
    if ordering == SPF:
        behind = (request["prompt"] + aging * request["arrival"]) / TOKENS
    elif ordering == EDF:
        behind = request["due"] / SECONDS
    elif ordering == LLF:
        known = request["prompt"] + request["generated"]
        behind = (request["due"] + late - PREFILL_TIME * known) / SECONDS
    else:
        behind = request["arrival"] / SECONDS
    return FIRST - min(behind, FIRST - 1.0)


@kernel
def running_order(ordering, request):
    """Score of a running request under one of ORDERINGS; 0 = stay in order of admission."""
    if ordering == FCFS or ordering == SPF:
        return 0.0
    late = 0.0 if ordering == EDF else max(request["lateness"], 0.0)
    return FIRST - min((request["due"] + late) / SECONDS, FIRST - 1.0)


@kernel
def expected_blocks(state, i, expected_output):
    """KV blocks that the running requests are expected to ask for still."""
    tokens = 0.0
    for k in range(state.instances[i]["num_running"]):
        generated = state.requests[state.running[i, k]]["generated"]
        tokens += max(0.0, expected_output - generated)
    return tokens / state.engines[i]["block_size"]


@kernel
def act_knobs(state, desk, knob, i):
    """An ordering, a reservation and a limit; an invalid knob leaves the Steering in force."""
    instance, engine = state.instances[i], state.engines[i]
    if not is_valid_knob(instance, engine, knob):
        return 1
    limit = knob % NUM_LIMITS
    reservation = RESERVATIONS[knob // NUM_LIMITS % NUM_RESERVATIONS]
    ordering = knob // (NUM_LIMITS * NUM_RESERVATIONS)
    open_limits(instance, engine)
    if reservation > 0.0:
        expected = expected_blocks(state, i, desk.settings[0]["expected_output"])
        instance["reserve"] = int(reservation * expected)
    if limit == CLOSED:
        instance["active_cap"] = instance["num_running"]
    elif limit == GENTLE:
        instance["token_budget"] = max(1, engine["max_num_batched_tokens"] // 4)
        instance["chunk_cap"] = max(1, engine["max_num_batched_tokens"] // 8)
    force, aging = desk.in_force[i], desk.settings[0]["aging"]
    if force["ordering"] == ordering and force["preemptions"] == instance["preemptions"]:
        order_newcomers(state, ordering, aging, i)
    else:
        order_all(state, ordering, aging, i)
    force["ordering"] = ordering
    force["preemptions"] = instance["preemptions"]
    return 0


@kernel
def order_all(state, ordering, aging, i):
    """Score every request of the instance."""
    requests, engine, instance = state.requests, state.engines[i], state.instances[i]
    rank = steer.start_order(state, i)
    order_running(state, ordering, aging, i)
    r = queue.first(instance)
    while r != NONE:
        request = requests[r]
        waiting = waiting_order(ordering, request, aging)
        running = running_order(ordering, request)
        steer.score_waiting(engine, instance, request, rank, waiting, running)
        rank += 1
        r = queue.following(state.links, r)
    steer.put_in_order(state, i)


@kernel
def order_running(state, ordering, aging, i):
    """Score the running requests of the instance, for both queues.

    Under FCFS and SPF a score never changes: those that have one by the Steering in force keep it.
    """
    instance, lasting = state.instances[i], ordering == FCFS or ordering == SPF
    for k in range(instance["num_running"]):
        request = state.requests[state.running[i, k]]
        if lasting and request["steering"] == instance["steerings"]:
            continue
        waiting = waiting_order(ordering, request, aging)
        running = running_order(ordering, request)
        steer.score_running(instance, request, waiting, running)


@kernel
def order_newcomers(state, ordering, aging, i):
    """What `order_all` would do where the same ordering is in force: O(log n) per new arrival.

    A waiting request's score depends on nothing that changes while it waits; those without a score,
    the new ones, are the last of the queue.
    """
    requests, instance = state.requests, state.instances[i]
    order_running(state, ordering, aging, i)
    r = queue.last(instance)
    while r != NONE and requests[r]["waiting_score"] == 0.0:
        requests[r]["steering"] = instance["steerings"]
        requests[r]["running_score"] = running_order(ordering, requests[r])
        steer.rescore(
            requests, state.links, instance, r, waiting_order(ordering, requests[r], aging)
        )
        r = queue.last(instance)


@kernel
def act_index(state, desk, action, i):
    """Base ordering plus weights on features, over all requests; then the limits.

    The first weights are those of waiting requests, the second those of running ones.
    """
    settings, requests, instance = desk.settings[0], state.requests, state.instances[i]
    base, aging, width = settings["base"], settings["aging"], desk.request_columns.raw.size
    set_limits(state, settings, instance, state.engines[i], action[2 * width :], i)
    rank = steer.start_order(state, i)
    for k in range(instance["num_running"]):
        r = state.running[i, k]
        extra = weighted(state, desk, action[width : 2 * width], r, i)
        waiting = waiting_order(base, requests[r], aging) + extra
        running = running_order(base, requests[r]) + extra
        steer.score_running(instance, requests[r], waiting, running)
    r = queue.first(instance)
    while r != NONE:
        extra = weighted(state, desk, action[:width], r, i)
        waiting = waiting_order(base, requests[r], aging) + extra
        running = running_order(base, requests[r]) + extra
        steer.score_waiting(state.engines[i], instance, requests[r], rank, waiting, running)
        rank += 1
        r = queue.following(state.links, r)
    steer.put_in_order(state, i)
    return 0


@kernel
def weighted(state, desk, weights, r, i):
    """Weights times features of one request."""
    raw = desk.raw
    request_numbers(state.requests[r], state.engines[i], state.cluster[0]["clock"], raw)
    total = 0.0
    for j in range(weights.size):
        if weights[j] != 0.0:
            total += weights[j] * scaled(desk.request_columns, j, raw)
    return GAIN * total


@kernel
def set_limits(state, settings, instance, engine, knobs, i):
    """Reserve, token budget, active cap and chunk cap of `index`: 0 = as the base.

    Below 0 the budget goes down to 1/16, the cap to 1/64 and chunks to 1/16 of the most tokens.
    """
    open_limits(instance, engine)
    share = min(max(settings["reservation"] + 0.5 * knobs[0], 0.0), 1.0)
    if share > 0.0:
        instance["reserve"] = int(share * expected_blocks(state, i, settings["expected_output"]))
    most = engine["max_num_batched_tokens"]
    if knobs[1] < 0.0 and chunks_prompts(engine):
        instance["token_budget"] = max(1, int(most * 2.0 ** (4.0 * knobs[1])))
    if knobs[2] < 0.0:
        instance["active_cap"] = max(1, int(engine["max_num_seqs"] * 2.0 ** (6.0 * knobs[2])))
    if knobs[3] < 0.0 and chunks_prompts(engine):
        instance["chunk_cap"] = max(1, int(most * 2.0 ** (4.0 * knobs[3])))
