"""From an action to the Steering that core carries out, and which actions are valid."""

import math

from sgym._jit import kernel
from sgym.core import queue, steer
from sgym.core.layout import NONE, RUNNING, Former
from sgym.envs.actions import (
    BUDGET_LEVELS,
    CLOSED,
    EDF,
    FCFS,
    GENTLE,
    HOLD,
    LIMITS,
    LLF,
    NEUTRAL,
    NUM_INDEX_KNOBS,
    ORDERINGS,
    PREEMPT,
    PROMOTE,
    REJECT,
    RESERVATIONS,
    SPF,
    VERBS,
)
from sgym.envs.desk import KNOBS, SCORES, SLOTS
from sgym.envs.observe import request_numbers

NUM_VERBS, NUM_LIMITS, NUM_RESERVATIONS = len(VERBS), len(LIMITS), len(RESERVATIONS)
NUM_KNOBS = len(ORDERINGS) * NUM_RESERVATIONS * NUM_LIMITS
SARATHI, ORCA = int(Former.SARATHI), int(Former.ORCA)

FIRST = 1e6  # score before anything is taken off: scored requests stand ahead of later arrivals
TOKENS, SECONDS = 512.0, 1.0  # units of a base score, so that weights of size 1 matter
AGING = 20.0  # tokens per second, as the built-in spf
PREFILL_TIME = 1e-4  # seconds per prompt token, as the built-in llf


@kernel
def chunks_prompts(engine):
    """Whether prompts are split, so that a smaller token budget delays but never blocks one."""
    if engine["former"] == SARATHI:
        return True
    return engine["former"] != ORCA and engine["chunked_prefill"] == 1


@kernel
def is_valid_verb(state, settings, r, verb):
    """Whether a verb applies to request `r` of a slot."""
    if verb == NEUTRAL:
        return True
    if r == NONE:
        return False
    if verb == PROMOTE:
        return True
    if state.requests[r]["phase"] == RUNNING:
        return verb == PREEMPT
    return verb == HOLD or (verb == REJECT and settings["allow_reject"] == 1)


@kernel
def is_valid_limit(instance, engine, limit):
    """Whether a limit of `knobs` applies."""
    if limit == CLOSED:
        return instance["num_running"] > 0
    return limit != GENTLE or chunks_prompts(engine)


@kernel
def fill_mask(state, desk, mask):
    """Write the flat action mask, 1 = valid; something always is."""
    settings = desk.settings[0]
    i = max(state.cluster[0]["instance"], 0)
    instance, engine = state.instances[i], state.engines[i]
    if settings["action"] == SLOTS:
        for k in range(desk.slots.size):
            for verb in range(NUM_VERBS):
                valid = is_valid_verb(state, settings, desk.slots[k], verb)
                mask[k * NUM_VERBS + verb] = 1 if valid else 0
        chunks = chunks_prompts(engine)
        for level in range(BUDGET_LEVELS):
            mask[desk.slots.size * NUM_VERBS + level] = 1 if level == 0 or chunks else 0
    elif settings["action"] == KNOBS:
        for knob in range(NUM_KNOBS):
            valid = is_valid_limit(instance, engine, knob % NUM_LIMITS)
            mask[knob] = 1 if valid else 0


@kernel
def act(state, desk, action):
    """Put an action into force on the instance that asks; returns how many parts did not apply.

    `action` is float64, shaped as the action space says, 1 entry for Discrete.
    """
    kind = desk.settings[0]["action"]
    i = state.cluster[0]["instance"]
    if kind == SLOTS:
        return act_slots(state, desk, action, i)
    if kind == SCORES:
        return act_scores(state, desk, action, i)
    if kind == KNOBS:
        return act_knobs(state, desk, int(action[0]), i)
    return act_index(state, desk, action, i)


@kernel
def open_limits(instance, engine):
    """The knobs of a Steering that changes nothing."""
    instance["token_budget"] = engine["max_num_batched_tokens"]
    instance["active_cap"] = engine["max_num_seqs"]
    instance["chunk_cap"] = 0
    instance["reserve"] = 0
    instance["hold_prefill"] = 0


@kernel
def apply(state, desk, i, count):
    """Hand the first `count` entries of `desk.steered` to core."""
    steer.steer(state, i, desk.steered[:count])


@kernel
def name(entry, r):
    """Begin an entry of a Steering: request `r`, neutral."""
    entry["request"] = r
    entry["preempt"] = 0
    entry["reject"] = 0
    entry["migrate_to"] = NONE
    entry["waiting_score"] = 0.0
    entry["running_score"] = 0.0


@kernel
def act_slots(state, desk, action, i):
    """One verb per slot and a level of the token budget."""
    settings, instance, engine = desk.settings[0], state.instances[i], state.engines[i]
    invalid = 0
    count = 0
    for k in range(desk.slots.size):
        verb, r = int(action[k]), desk.slots[k]
        if verb == NEUTRAL:
            continue
        if not is_valid_verb(state, settings, r, verb):
            invalid += 1
            continue
        entry = desk.steered[count]
        name(entry, r)
        count += 1
        if verb == PREEMPT:
            entry["preempt"] = 1
        elif verb == HOLD:
            entry["waiting_score"] = -math.inf
        elif verb == REJECT:
            entry["reject"] = 1
        else:
            entry["waiting_score"] = 1.0
            entry["running_score"] = 1.0
    open_limits(instance, engine)
    level = int(action[desk.slots.size])
    if level > 0 and not chunks_prompts(engine):
        invalid += 1
        level = 0
    instance["token_budget"] = max(1, engine["max_num_batched_tokens"] >> level)
    apply(state, desk, i, count)
    return invalid


@kernel
def act_scores(state, desk, action, i):
    """A score per slot: admission order where it waits, budget order and victims where it runs."""
    count = 0
    for k in range(desk.slots.size):
        r = desk.slots[k]
        if r != NONE and action[k] != 0.0:
            name(desk.steered[count], r)
            desk.steered[count]["waiting_score"] = action[k]
            desk.steered[count]["running_score"] = action[k]
            count += 1
    open_limits(state.instances[i], state.engines[i])
    apply(state, desk, i, count)
    return 0


@kernel
def waiting_order(ordering, request):
    """Score of a waiting request under one of ORDERINGS, above 0."""
    late = max(request["lateness"], 0.0)
    if ordering == SPF:
        behind = (request["prompt"] + AGING * request["arrival"]) / TOKENS
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
    limit = knob % NUM_LIMITS
    reservation = RESERVATIONS[knob // NUM_LIMITS % NUM_RESERVATIONS]
    ordering = knob // (NUM_LIMITS * NUM_RESERVATIONS)
    if not is_valid_limit(instance, engine, limit):
        return 1
    open_limits(instance, engine)
    if reservation > 0.0:
        expected = expected_blocks(state, i, desk.settings[0]["expected_output"])
        instance["reserve"] = int(reservation * expected)
    if limit == CLOSED:
        instance["active_cap"] = instance["num_running"]
    elif limit == GENTLE:
        instance["token_budget"] = max(1, engine["max_num_batched_tokens"] // 4)
        instance["chunk_cap"] = max(1, engine["max_num_batched_tokens"] // 8)
    force = desk.in_force[i]
    if force["ordering"] == ordering and force["preemptions"] == instance["preemptions"]:
        order_newcomers(state, desk, ordering, i)
    else:
        order_all(state, desk, ordering, i)
    force["ordering"] = ordering
    force["preemptions"] = instance["preemptions"]
    return 0


@kernel
def rank(entry, request, ordering, extra):
    """Write the scores of a request under an ordering, plus `extra`, for both queues."""
    entry["waiting_score"] = waiting_order(ordering, request) + extra
    entry["running_score"] = running_order(ordering, request) + extra


@kernel
def order_all(state, desk, ordering, i):
    """Score every request of the instance."""
    count = 0
    for k in range(state.instances[i]["num_running"]):
        r = state.running[i, k]
        name(desk.steered[count], r)
        rank(desk.steered[count], state.requests[r], ordering, 0.0)
        count += 1
    r = queue.first(state.requests, state.instances[i])
    while r != NONE:
        name(desk.steered[count], r)
        rank(desk.steered[count], state.requests[r], ordering, 0.0)
        count += 1
        r = queue.following(state.requests, r)
    apply(state, desk, i, count)


@kernel
def order_newcomers(state, desk, ordering, i):
    """What `order_all` would do where the same ordering is in force: O(log n) per new arrival.

    A waiting request's score depends on nothing that changes while it waits; those without a score,
    the new ones, are the last of the queue.
    """
    requests, instance, entry = state.requests, state.instances[i], desk.steered[0]
    for k in range(instance["num_running"]):
        r = state.running[i, k]
        name(entry, r)
        rank(entry, requests[r], ordering, 0.0)
        steer.score(requests, instance, entry)
    r = queue.last(requests, instance)
    while r != NONE and requests[r]["waiting_score"] == 0.0:
        name(entry, r)
        rank(entry, requests[r], ordering, 0.0)
        steer.score(requests, instance, entry)
        r = queue.last(requests, instance)


@kernel
def act_index(state, desk, action, i):
    """Base ordering plus weights on features, over all requests; then reserve, budget and cap."""
    settings, instance, engine = desk.settings[0], state.instances[i], state.engines[i]
    base, now = settings["base"], state.cluster[0]["clock"]
    count = 0
    for k in range(instance["num_running"]):
        r = state.running[i, k]
        name(desk.steered[count], r)
        extra = weighted(state, desk, action, r, i, now)
        rank(desk.steered[count], state.requests[r], base, extra)
        count += 1
    r = queue.first(state.requests, instance)
    while r != NONE:
        name(desk.steered[count], r)
        extra = weighted(state, desk, action, r, i, now)
        rank(desk.steered[count], state.requests[r], base, extra)
        count += 1
        r = queue.following(state.requests, r)
    set_index_knobs(state, settings, instance, engine, action[-NUM_INDEX_KNOBS:], i)
    apply(state, desk, i, count)
    return 0


@kernel
def weighted(state, desk, action, r, i, now):
    """Weights times features of one request."""
    raw = desk.raw
    request_numbers(state.requests[r], state.engines[i], now, raw)
    total = 0.0
    for j in range(desk.request_columns.size):
        column = desk.request_columns[j]
        x = raw[column["raw"]]
        x = x / (abs(x) + column["scale"]) if column["squash"] else x / column["scale"]
        total += action[j] * min(max(x, column["low"]), column["high"])
    return total


@kernel
def set_index_knobs(state, settings, instance, engine, knobs, i):
    """Reserve, budget and cap of `index`: 0 = as the base, below 0 = down to 1/16 and 1/64."""
    open_limits(instance, engine)
    share = min(max(settings["reservation"] + 0.5 * knobs[0], 0.0), 1.0)
    if share > 0.0:
        instance["reserve"] = int(share * expected_blocks(state, i, settings["expected_output"]))
    if knobs[1] < 0.0 and chunks_prompts(engine):
        budget = engine["max_num_batched_tokens"] * 2.0 ** (4.0 * knobs[1])
        instance["token_budget"] = max(1, int(budget))
    if knobs[2] < 0.0:
        instance["active_cap"] = max(1, int(engine["max_num_seqs"] * 2.0 ** (6.0 * knobs[2])))
