"""Which instance takes an arrival."""

from sgym._jit import kernel
from sgym.core import random

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
def choose_instance(state, policy, memory):  # noqa: ARG001  (reports, once they are stale)
    """Answer ROUTE by the built-in router; `policy` is a POLICY record, `memory` a Memory."""
    cluster = state.cluster[0]
    count = int(cluster["num_instances"])
    if count == 1:
        return 0
    router = policy["router"]
    cluster["router_counter"] += 1
    turn = int(cluster["router_counter"])
    if router == ROUND_ROBIN:
        return (turn - 1) % count
    if router == RANDOM_ROUTER:
        return random.integer(turn) % count
    if router == POWER_OF_TWO:
        a, b = random.integer(turn) % count, random.integer(turn ^ random.OTHER) % count
        if load(state, router, b) < load(state, router, a):
            return b
        return a
    best = 0
    for i in range(1, count):
        if load(state, router, i) < load(state, router, best):
            best = i
    return best


@kernel
def load(state, router, i):
    """What a router compares: requests in flight, or the share of KV blocks in use."""
    instance = state.instances[i]
    if router == LEAST_KV:
        return 1.0 - instance["free_blocks"] / state.engines[i]["num_blocks"]
    return float(instance["num_running"] + instance["num_waiting"])
