"""The built-in schedulers and routers: each a few compiled lines over the Steering.

A policy may speak at three moments: when a request arrives (its `waiting_score`), before an
instance forms a batch (scores of running requests, `reserve`), and after it (counters). A score
given at arrival stays, so a static order costs O(log n) per request and nothing per iteration.
"""

import math

import numpy as np

from sgym._jit import kernel
from sgym.core import batch, engine, queue, random
from sgym.core.layout import NONE, ROUTE, SCHEDULE

# Which built-in policy decides, and its parameters. Meaning of each parameter: see registry.
POLICY = np.dtype(
    [
        ("kind", np.int32),
        ("router", np.int32),
        ("aging", np.float64),  # tokens per second
        ("reservation", np.float64),  # share of the expected remaining output kept free
        ("expected_output", np.float64),  # tokens
        ("prefill_time", np.float64),  # seconds per prompt token
        ("prompt_weight", np.float64),
        ("output_weight", np.float64),
    ]
)

# A client of vtc: its virtual counter.
CLIENT = np.dtype(
    [("counter", np.float64), ("tag", np.float64), ("queued", np.int64), ("was_queued", np.int64)]
)

NEUTRAL, SPF, SJF, SRPT, EDF, LLF, SLACK_VICTIM, VTC, RANDOM = range(9)
ROUND_ROBIN, RANDOM_ROUTER, LEAST_OUTSTANDING, LEAST_KV, POWER_OF_TWO = range(5)


@kernel
def expected_output(policy, request):
    """Tokens that a request is expected to generate in all: its prediction, else the mean."""
    if math.isnan(request["predicted"]):
        return policy["expected_output"]
    return float(request["predicted"])


@kernel
def waiting_score(policy, cluster, request):
    """Score of a waiting request: at arrival, and kept current while it runs, for preemption."""
    kind = policy["kind"]
    aged = policy["aging"] * request["arrival"]
    if kind == SPF:
        return -(request["prompt"] + aged)
    if kind == SJF:
        work = policy["output_weight"] * expected_output(policy, request)
        return -(work + policy["prompt_weight"] * request["prompt"] + aged)
    if kind == SRPT:
        return -(expected_output(policy, request) - request["generated"] + aged)
    if kind == EDF:
        return -request["due"]
    if kind == LLF:
        known = request["prompt"] + request["generated"]
        return -(request["due"] + request["lateness"] - policy["prefill_time"] * known)
    if kind == RANDOM:
        cluster["policy_counter"] += 1
        return random.uniform(int(cluster["policy_counter"]))
    return 0.0


@kernel
def running_score(policy, request):
    """Score of a running request: the lowest one is preempted first."""
    kind = policy["kind"]
    if kind == SRPT:
        return -(expected_output(policy, request) - request["generated"])
    if kind == EDF:
        return -request["due"]
    if kind == LLF or kind == SLACK_VICTIM:
        return -(request["due"] + request["lateness"])
    if kind == RANDOM:
        return request["waiting_score"]
    return 0.0


@kernel
def before_batch(state, policy, clients, i):
    """Set the scores and knobs that depend on the present state of instance `i`."""
    cluster, instance, running = state.cluster[0], state.instances[i], state.running[i]
    kind = policy["kind"]
    if kind == SRPT or kind == EDF or kind == LLF or kind == SLACK_VICTIM or kind == RANDOM:
        instance["running_scored"] = 1
        for k in range(instance["num_running"]):
            request = state.requests[running[k]]
            request["running_score"] = running_score(policy, request)
            if kind == SRPT or kind == EDF or kind == LLF:
                request["waiting_score"] = waiting_score(policy, cluster, request)
    if kind == VTC and instance["num_waiting"] > 0:
        order_by_counter(state.requests, instance, clients, policy)
    if policy["reservation"] > 0.0 and instance["num_waiting"] > 0:
        ahead = 0.0
        for k in range(instance["num_running"]):
            request = state.requests[running[k]]
            ahead += max(0.0, expected_output(policy, request) - request["generated"])
        blocks = policy["reservation"] * ahead / state.engines[i]["block_size"]
        instance["reserve"] = int(blocks)


@kernel
def order_by_counter(requests, instance, clients, policy):
    """Order the queue as repeatedly serving the client with the smallest counter would.

    A request's tag is its client's counter plus what the client's earlier requests will add.
    """
    for client in clients:
        client["was_queued"] = client["queued"]
        client["queued"] = 0
    r = queue.first(requests, instance)
    while r != NONE:
        clients[requests[r]["tenant"]]["queued"] += 1
        r = queue.following(requests, r)
    lift_newcomers(clients)
    for client in clients:
        client["tag"] = client["counter"]
    chain = NONE
    r = queue.first(requests, instance)
    while r != NONE:
        request = requests[r]
        client = clients[request["tenant"]]
        request["running_score"] = -client["tag"]
        if request["preemptions"] == 0:
            client["tag"] += policy["prompt_weight"] * request["prompt"]
        r = queue.following(requests, r)
    r = queue.first(requests, instance)
    while r != NONE:
        batch.dequeue(requests, instance, r)
        requests[r]["parent"] = chain
        chain = r
        r = queue.first(requests, instance)
    while chain != NONE:
        following = requests[chain]["parent"]
        requests[chain]["waiting_score"] = requests[chain]["running_score"]
        requests[chain]["running_score"] = 0.0
        batch.count_waiting(instance, requests[chain], 1)
        queue.insert(requests, instance, chain)
        chain = following


@kernel
def lift_newcomers(clients):
    """A client whose queue was empty gets no credit for the time it was away."""
    least = math.inf
    for client in clients:
        if client["was_queued"] > 0 and client["queued"] > 0:
            least = min(least, client["counter"])
    if least == math.inf:
        return
    for client in clients:
        if client["was_queued"] == 0 and client["queued"] > 0:
            client["counter"] = max(client["counter"], least)


@kernel
def after_batch(state, policy, clients, i):
    """Charge what was just scheduled."""
    if policy["kind"] != VTC:
        return
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        client = clients[request["tenant"]]
        first = request["scheduled"] > 0 and request["computed"] == request["scheduled"]
        if first and request["preemptions"] == 0:
            client["counter"] += policy["prompt_weight"] * request["prompt"]
        if request["scheduled"] > 0 and request["prefilling"] == 0:
            client["counter"] += policy["output_weight"]


@kernel
def choose_instance(state, policy):
    """Answer ROUTE by the built-in router."""
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


@kernel
def answer(state, policy, clients):
    """Decide what `advance` stopped for, and carry it out."""
    cluster, rules = state.cluster[0], policy[0]
    if cluster["decision"] == ROUTE:
        request = state.requests[cluster["request"]]
        request["waiting_score"] = waiting_score(rules, cluster, request)
        engine.route(state, choose_instance(state, rules))
    elif cluster["decision"] == SCHEDULE:
        i = cluster["instance"]
        before_batch(state, rules, clients, i)
        engine.iterate(state)
        after_batch(state, rules, clients, i)


@kernel
def drive(state, policy, clients):
    """Run a whole episode, or until a log is full, under one built-in policy."""
    while True:
        decision = engine.advance(state)
        if decision != ROUTE and decision != SCHEDULE:
            return decision
        answer(state, policy, clients)
