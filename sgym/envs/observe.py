"""From the state to the numbers that an agent sees of what is shown, in compiled loops."""

import math

from sgym._jit import kernel
from sgym.core import batch
from sgym.core.layout import (
    DECODE,
    HANDOFF,
    MIXED,
    NONE,
    PREFILL,
    ROUTE,
    RUNNING,
    SCHEDULE,
    WAITING,
)
from sgym.envs.features import (
    ABREAST,
    CLUSTER_FEATURES,
    INSTANCE_FEATURES,
    REQUEST_FEATURES,
    places,
)
from sgym.envs.shown import choose_slots, num_hidden_running, waiting_slots
from sgym.policies import loads
from sgym.policies import trigger as triggers

_R, _I, _C = places(REQUEST_FEATURES), places(INSTANCE_FEATURES), places(CLUSTER_FEATURES)
NUM_RAW = max(len(_R), len(_I), len(_C))

R_PRESENT, R_RUNNING, R_PREFILLING = _R["present"], _R["running"], _R["prefilling"]
R_SLACK, R_LATENESS, R_WAITED = _R["slack"], _R["lateness"], _R["waited"]
R_PROMPT, R_GENERATED, R_KNOWN = _R["prompt"], _R["generated"], _R["known"]
R_TO_PREFILL, R_COMPUTED = _R["to_prefill"], _R["computed"]
R_BLOCKS, R_NEEDS, R_PREEMPTIONS = _R["blocks"], _R["needs"], _R["preemptions"]
R_TOKEN_TIME, R_ALPHA, R_WEIGHT = _R["token_time"], _R["alpha"], _R["weight"]
R_PRIORITY, R_PREDICTED = _R["priority"], _R["predicted"]
R_ELSEWHERE, R_MIGRATING = _R["elsewhere"], _R["migrating"]

I_ASKS, I_RUNNING, I_WAITING = _I["asks"], _I["running"], _I["waiting"]
I_WAITING_TOKENS, I_FREE, I_SHORT = _I["waiting_tokens"], _I["free"], _I["short"]
I_DURATION, I_PREFILL, I_DECODE = _I["duration"], _I["prefill"], _I["decode"]
I_PREEMPTED, I_KV_TOKENS, I_BUDGET = _I["preempted"], _I["kv_tokens"], _I["budget"]
I_CAP, I_CHUNK, I_RESERVE = _I["cap"], _I["chunk"], _I["reserve"]
I_MIXED, I_PREFILLS, I_DECODES = _I["role_mixed"], _I["role_prefill"], _I["role_decode"]
I_DRAINING, I_LOADING, I_LEAVING = _I["draining"], _I["loading"], _I["leaving"]
I_SENDS, I_RECEIVES, I_SWAPPED = _I["sends"], _I["receives"], _I["swapped"]
I_OUTSTANDING, I_PREFILL_TIME = _I["outstanding"], _I["prefill_time"]
I_CACHED, I_IN_FLIGHT = _I["cached"], _I["in_flight"]

C_SCHEDULE, C_ROUTE = _C["decides_schedule"], _C["decides_route"]
C_ARRIVED, C_FINISHED = _C["arrived"], _C["finished"]
C_PRESSURE, C_DRY, C_SINCE = _C["pressure"], _C["dry"], _C["since_decision"]
C_HIDDEN_RUNNING, C_HIDDEN_WAITING = _C["hidden_running"], _C["hidden_waiting"]
C_HIDDEN_TOKENS, C_OVERDUE = _C["hidden_tokens"], _C["overdue"]
C_LOSS, C_TIME_LEFT, C_HANDOFF = _C["loss"], _C["time_left"], _C["decides_handoff"]


@kernel
def scaled(columns, j, raw):
    """The raw number of column `j`, scaled and clipped."""
    x = raw[columns.raw[j]]
    x = x / (columns.squash[j] * abs(x) + columns.scale[j])
    return min(max(x, columns.low[j]), columns.high[j])


@kernel
def pick(columns, numbers):
    """Keep the chosen ones of all raw numbers, from the first place on; they stay in order."""
    count = columns.raw.size
    if columns.raw[count - 1] != count - 1:
        for j in range(count):
            numbers[j] = numbers[columns.raw[j]]


@kernel
def encode(columns, numbers, out):
    """Write the numbers from `pick`, of one row or of up to ABREAST, scaled and clipped."""
    squash, scale, low, high = columns.squash, columns.scale, columns.low, columns.high
    for j in range(out.size):
        x = numbers[j] / (squash[j] * abs(numbers[j]) + scale[j])
        out[j] = min(max(x, low[j]), high[j])


@kernel
def show_requests(state, desk, measure, requests_out):
    """Write what is seen of the requests in `desk.slots`; they are measured by an engine's limits.

    Several are scaled at once, as one row of numbers. Each is written with all raw numbers, of
    which the next one takes what is too much.
    """
    columns, now = desk.request_columns, state.cluster[0]["clock"]
    slots, rows, width = desk.slots, desk.rows, columns.raw.size
    for first in range(0, slots.size, ABREAST):
        behind = end = min(first + ABREAST, slots.size)
        while end > first and slots[end - 1] == NONE:
            end -= 1
        for k in range(first, end):
            row = rows[(k - first) * width :]
            if slots[k] == NONE:
                row[:width] = 0.0
                continue
            request_numbers(state.requests[slots[k]], state.engines[measure], now, row)
            pick(columns, row)
        encode(columns, rows, requests_out[first * width : end * width])
        requests_out[end * width : behind * width] = 0.0


@kernel
def request_numbers(request, engine, now, raw):
    """Raw features of a request."""
    known = request["prompt"] + request["generated"]
    blocks = float(engine["num_blocks"])
    lateness = max(request["lateness"], -1e6)  # far below any before the first token
    raw[R_PRESENT] = 1.0
    raw[R_RUNNING] = 1.0 if request["phase"] == RUNNING else 0.0
    raw[R_PREFILLING] = 1.0 if request["phase"] == RUNNING and request["prefilling"] else 0.0
    raw[R_SLACK] = request["due"] + max(lateness, 0.0) - now
    raw[R_LATENESS] = lateness
    raw[R_WAITED] = now - request["arrival"]
    raw[R_PROMPT] = request["prompt"]
    raw[R_GENERATED] = request["generated"]
    raw[R_KNOWN] = known
    raw[R_TO_PREFILL] = known - request["computed"]
    raw[R_COMPUTED] = request["computed"] / known
    raw[R_BLOCKS] = request["blocks"] / blocks
    raw[R_NEEDS] = batch.blocks_for(known, engine["block_size"]) / blocks
    raw[R_PREEMPTIONS] = request["preemptions"]
    raw[R_TOKEN_TIME] = request["token_time"]
    raw[R_ALPHA] = request["alpha"]
    raw[R_WEIGHT] = request["weight"]
    raw[R_PRIORITY] = request["priority"]
    raw[R_PREDICTED] = 0.0
    if not math.isnan(request["predicted"]):
        raw[R_PREDICTED] = max(0.0, request["predicted"] - request["generated"])
    has_other = request["other"] != NONE
    raw[R_ELSEWHERE] = 1.0 if has_other and request["phase"] == WAITING else 0.0
    raw[R_MIGRATING] = 1.0 if has_other and request["phase"] == RUNNING else 0.0


@kernel
def instance_numbers(instance, engine, asks, raw):
    """Raw features of an instance."""
    seqs = float(engine["max_num_seqs"])
    most = float(engine["max_num_batched_tokens"])
    blocks = float(engine["num_blocks"])
    raw[I_ASKS] = 1.0 if asks else 0.0
    raw[I_RUNNING] = instance["num_running"] / seqs
    raw[I_WAITING] = instance["num_waiting"]
    raw[I_WAITING_TOKENS] = instance["waiting_tokens"]
    raw[I_FREE] = instance["free_blocks"] / blocks
    raw[I_SHORT] = 1.0 if triggers.is_short(instance) else 0.0
    raw[I_DURATION] = instance["duration"]
    raw[I_PREFILL] = instance["prefill_tokens"] / most
    raw[I_DECODE] = instance["decode_seqs"] / seqs
    raw[I_PREEMPTED] = instance["num_preempted"]
    raw[I_KV_TOKENS] = instance["kv_tokens"]
    raw[I_BUDGET] = instance["token_budget"] / most
    raw[I_CAP] = instance["active_cap"] / seqs
    raw[I_CHUNK] = instance["chunk_cap"] / most
    raw[I_RESERVE] = instance["reserve"] / blocks


@kernel
def router_numbers(state, j, raw):
    """Raw features of instance `j` that whoever places requests knows without a report."""
    instance, cluster = state.instances[j], state.cluster[0]
    raw[I_MIXED] = 1.0 if instance["role"] == MIXED else 0.0
    raw[I_PREFILLS] = 1.0 if instance["role"] == PREFILL else 0.0
    raw[I_DECODES] = 1.0 if instance["role"] == DECODE else 0.0
    raw[I_DRAINING] = 1.0 if instance["next_role"] != NONE else 0.0
    raw[I_IN_FLIGHT] = loads.in_flight(state, j)
    raw[I_CACHED] = 0.0
    if cluster["decision"] == ROUTE or cluster["decision"] == HANDOFF:
        r = cluster["request"]
        raw[I_CACHED] = loads.hit_tokens(state, j, r) / state.requests[r]["prompt"]


@kernel
def cluster_instance_numbers(instance, engine, prefill_time, raw):
    """Raw features of an instance that matter where there are several, by its own report."""
    used = engine["num_blocks"] - instance["free_blocks"]
    raw[I_LOADING] = instance["num_loading"] / engine["max_num_seqs"]
    raw[I_LEAVING] = instance["num_leaving"]
    raw[I_SENDS] = instance["num_out"]
    raw[I_RECEIVES] = instance["num_in"]
    raw[I_SWAPPED] = instance["num_swapped"]
    raw[I_OUTSTANDING] = instance["waiting_tokens"] + used * engine["block_size"]
    raw[I_PREFILL_TIME] = instance["waiting_tokens"] * prefill_time


@kernel
def hidden_numbers(state, i, slots, raw):
    """Raw features of the requests of instance `i` that have no slot."""
    instance, tokens = state.instances[i], 0
    first, end = waiting_slots(instance, slots.size)
    hidden = instance["num_waiting"] - (end - first)
    if hidden > 0:
        tokens = instance["waiting_tokens"]
        for r in slots[first:end]:
            request = state.requests[r]
            tokens -= request["prompt"] + request["generated"] - request["computed"]
    raw[C_HIDDEN_RUNNING] = num_hidden_running(instance, slots.size)
    raw[C_HIDDEN_WAITING] = hidden
    raw[C_HIDDEN_TOKENS] = tokens


@kernel
def cluster_numbers(state, desk, i, now, raw):
    """Raw features of the cluster and of the decision."""
    cluster, settings = state.cluster[0], desk.settings[0]
    decision = cluster["decision"]
    raw[:] = 0.0
    raw[C_SCHEDULE] = 1.0 if decision == SCHEDULE else 0.0
    raw[C_ROUTE] = 1.0 if decision == ROUTE else 0.0
    raw[C_HANDOFF] = 1.0 if decision == HANDOFF else 0.0
    raw[C_OVERDUE] = cluster["accruing"]
    raw[C_LOSS] = cluster["dry_w"]
    raw[C_TIME_LEFT] = 1.0 - (now - settings["start"]) / settings["duration"]
    if decision == ROUTE or decision == HANDOFF:
        raw[C_SINCE] = now - settings["last_time"]
        return
    reasons = desk.triggers[i]["reasons"]
    raw[C_ARRIVED] = 1.0 if reasons & triggers.ARRIVAL else 0.0
    raw[C_FINISHED] = 1.0 if reasons & triggers.FINISH else 0.0
    raw[C_PRESSURE] = 1.0 if reasons & triggers.PRESSURE else 0.0
    raw[C_DRY] = 1.0 if reasons & triggers.DRY else 0.0
    raw[C_SINCE] = now - desk.triggers[i]["decided"]
    if settings["schedules"]:  # else no slot holds a request of a queue
        hidden_numbers(state, i, desk.slots, raw)


@kernel
def observe(state, desk, requests_out, instances_out, cluster_out):
    """Write the observation of the decision that `state` waits for; fills `desk.slots` too.

    Where reports are stale, an instance that forms a batch knows itself, and others as reported;
    who places a request knows all of them as reported.
    """
    cluster, raw = state.cluster[0], desk.raw
    now, decision = cluster["clock"], cluster["decision"]
    places, stale = decision == ROUTE or decision == HANDOFF, desk.policy[0]["staleness"] > 0.0
    i = max(cluster["instance"], 0)  # nobody has asked in an episode without a decision
    measure = 0 if decision == ROUTE else i
    choose_slots(state, desk, i)
    show_requests(state, desk, measure, requests_out)
    width = desk.instance_columns.raw.size
    asks = decision == SCHEDULE or decision == HANDOFF
    for j in range(state.instances.size):
        reports = desk.memory.reports if stale and (places or j != i) else state.instances
        instance_numbers(reports[j], state.engines[j], asks and j == i, raw)
        if desk.settings[0]["num_destinations"] > 0:
            cluster_instance_numbers(reports[j], state.engines[j], desk.prefill_times[j], raw)
            router_numbers(state, j, raw)
        out = instances_out[j * width : (j + 1) * width]
        pick(desk.instance_columns, raw)
        encode(desk.instance_columns, raw, out)
    cluster_numbers(state, desk, i, now, raw)
    pick(desk.cluster_columns, raw)
    encode(desk.cluster_columns, raw, cluster_out)
