"""Llumnix (OSDI 2024): requests go where memory is free, and running ones follow it.

Source: AlibabaPAI/llumnix 24220fb, load_computation.py (RemainingStepsLoad),
global_scheduler/migration_policy.py, llumlet/local_migration_scheduler.py.
"""

import math

from sgym._jit import kernel
from sgym.core import migration, queue
from sgym.core.layout import NONE, PREFILL
from sgym.policies import loads

DEFRAG, BALANCED = range(2)
"""Parameter `pairing`: all pairs, or only those that come closer by it."""
SHORTEST, LONGEST, LAST = range(3)
"""Parameter `moves`: which running request does."""


@kernel
def supply(state, i):
    """KV blocks of instance i that its first waiting request would leave free, and its requests.

    Those are the ones that run, and the first that waits.
    """
    instance = state.instances[i]
    running = int(instance["num_running"]) + int(instance["num_loading"])
    free = int(instance["free_blocks"])
    r = queue.first(instance)
    if r != NONE:
        running += 1
        free -= loads.known_blocks(state.requests[r], state.engines[i]["block_size"])
    return free, running


@kernel
def ratio(free, running):
    """Freeness: free KV blocks per request, so about how long memory lasts; inf if idle."""
    if running <= 0:
        return math.inf
    return free / running


@kernel
def freeness(state, i):
    """Freeness of instance i; below 0 if a request waits for memory."""
    free, running = supply(state, i)
    return ratio(free, running)


@kernel
def freest(state, r, asked):
    """The instance with the most free memory per request; ties: fewest requests, then the first."""
    if loads.count_takers(state, r, asked) == 0:
        asked = loads.ANYONE
    best, most = NONE, 0.0
    fewest = 0.0
    for i in range(state.instances.size):
        if not loads.takes(state, i, r, asked):
            continue
        found, here = freeness(state, i), loads.in_flight(state, i)
        if best == NONE or found > most or (found == most and here < fewest):
            best, most, fewest = i, found, here
    return max(best, 0)


@kernel
def migrate_from(state, policy, memory, i):
    """Pair instances, each `poll` seconds; begin to move a request if instance i is a source."""
    if policy["migration"] == 0:
        return
    now = state.cluster[0]["clock"]
    if now >= memory.policy[0]["next_check"]:
        memory.policy[0]["next_check"] = now + policy["poll"]
        pair(state, policy, memory)
    j = int(memory.instances[i]["target"])
    if j == NONE:
        return
    memory.instances[i]["target"] = NONE
    if state.instances[i]["migrating_out"] >= state.cluster[0]["max_migrations"]:
        return
    r = mover(state, policy, i)
    if r != NONE:
        migration.migrate(state, r, j)


@kernel
def pair(state, policy, memory):
    """The k-th of the sources, least free first, sends to the k-th target, most free first."""
    total = state.instances.size
    for i in range(total):
        memo = memory.instances[i]
        memo["target"] = NONE
        memo["freeness"] = freeness(state, i)
        memo["side"] = side(state, policy, memo["freeness"], i)
    while True:
        source, target = NONE, NONE
        for i in range(total):
            memo = memory.instances[i]
            if memo["side"] < 0 and (
                source == NONE or memo["freeness"] < memory.instances[source]["freeness"]
            ):
                source = i
            if memo["side"] > 0 and (
                target == NONE or memo["freeness"] > memory.instances[target]["freeness"]
            ):
                target = i
        if source == NONE or target == NONE:
            return
        memory.instances[source]["side"] = 0
        memory.instances[target]["side"] = 0
        if policy["pairing"] == DEFRAG or evens_out(state, policy, int(source), int(target)):
            memory.instances[source]["target"] = target


@kernel
def side(state, policy, free, i):
    """-1: instance i sends requests away, 1: it takes some, 0: neither."""
    instance = state.instances[i]
    if instance["role"] == PREFILL:
        return 0
    r = queue.first(instance)
    killed = r != NONE and state.requests[r]["preemptions"] > 0  # victims wait in front
    if free <= -policy["threshold"] or killed or instance["next_role"] != NONE:
        return -1
    return 1


@kernel
def evens_out(state, policy, source, target):
    """Whether moving one request leaves the target above the threshold, and the two closer."""
    r = mover(state, policy, source)
    if r == NONE:
        return False
    blocks = int(state.requests[r]["blocks"])
    free, running = supply(state, source)
    free_there, running_there = supply(state, target)
    before = ratio(free_there, running_there) - ratio(free, running)
    received = ratio(free_there - blocks, running_there + 1)
    after = received - ratio(free + blocks, running - 1)
    return received > -policy["threshold"] and 0.0 < after < before


@kernel
def mover(state, policy, i):
    """The decoding request of instance i that moves, or NONE."""
    best, length = NONE, 0
    for k in range(state.instances[i]["num_running"]):
        r = state.running[i, k]
        request = state.requests[r]
        if request["prefilling"] or request["other"] != NONE:
            continue
        known = request["prompt"] + request["generated"]
        shorter = policy["moves"] == SHORTEST and known < length
        longer = policy["moves"] == LONGEST and known > length
        if best == NONE or shorter or longer or policy["moves"] == LAST:
            best, length = r, known
    return best
