"""Which instance takes an arrival."""

from sgym._jit import kernel
from sgym.core import random
from sgym.core.layout import DECODE, NONE, PREFILL

ROUND_ROBIN, RANDOM_ROUTER, LEAST_OUTSTANDING, LEAST_KV, POWER_OF_TWO = range(5)

ROUTERS: dict[str, tuple[int, str]] = {
    "round_robin": (ROUND_ROBIN, "in turn"),
    "random": (RANDOM_ROUTER, "any, with equal probability"),
    "least_outstanding": (LEAST_OUTSTANDING, "fewest requests waiting or running"),
    "least_kv": (LEAST_KV, "smallest share of KV blocks in use"),
    "power_of_two": (POWER_OF_TWO, "the less busy of two random ones"),
}
"""Name -> number, what it does."""

HANDOFFS: dict[str, tuple[int, str]] = {
    "least_kv": (0, "smallest share of KV blocks in use"),
}
"""Same for who decodes what a prefill instance has prefilled."""


@kernel
def accepts_arrivals(state, i):
    """Whether routers offer instance i to arrivals: it prefills, and does not change its role."""
    instance = state.instances[i]
    return instance["role"] != DECODE and instance["next_role"] == NONE


@kernel
def accepts_handoffs(state, i):
    """Whether instance i may be chosen to decode what others have prefilled."""
    instance = state.instances[i]
    return instance["role"] != PREFILL and instance["next_role"] == NONE


@kernel
def choose_instance(state, policy, memory):  # noqa: ARG001  (reports, once they are stale)
    """Answer ROUTE by the built-in router; `policy` is a POLICY record, `memory` a Memory."""
    cluster = state.cluster[0]
    total = int(cluster["num_instances"])
    if total == 1:
        return 0
    count = 0
    for i in range(total):
        count += 1 if accepts_arrivals(state, i) else 0
    router = policy["router"]
    cluster["router_counter"] += 1
    turn = int(cluster["router_counter"])
    if router == ROUND_ROBIN:
        return nth_open(state, (turn - 1) % max(count, 1))
    if router == RANDOM_ROUTER:
        return nth_open(state, random.integer(turn) % max(count, 1))
    if router == POWER_OF_TWO:
        a = nth_open(state, random.integer(turn) % max(count, 1))
        b = nth_open(state, random.integer(turn ^ random.OTHER) % max(count, 1))
        if load(state, router, b) < load(state, router, a):
            return b
        return a
    best = nth_open(state, 0)
    for i in range(best + 1, total):
        if accepts_arrivals(state, i) and load(state, router, i) < load(state, router, best):
            best = i
    return best


@kernel
def nth_open(state, place):
    """The n-th instance that accepts arrivals, counted from 0; the first of all if none does."""
    for i in range(state.instances.size):
        if accepts_arrivals(state, i):
            if place == 0:
                return i
            place -= 1
    return 0


@kernel
def choose_target(state, policy, memory):  # noqa: ARG001
    """Answer HANDOFF by the built-in rule: an instance that decodes; its own if none does."""
    best = NONE
    for i in range(state.instances.size):
        if accepts_handoffs(state, i) and (
            best == NONE or load(state, LEAST_KV, i) < load(state, LEAST_KV, best)
        ):
            best = i
    return int(state.cluster[0]["instance"]) if best == NONE else best


@kernel
def load(state, router, i):
    """What a router compares: requests in flight, or the share of KV blocks in use."""
    instance = state.instances[i]
    if router == LEAST_KV:
        return 1.0 - instance["free_blocks"] / state.engines[i]["num_blocks"]
    return float(instance["num_running"] + instance["num_waiting"])
