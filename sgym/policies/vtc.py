"""The virtual token counter (OSDI 2024): the client that was served least goes first."""

import math

from sgym._jit import kernel
from sgym.core import batch, queue
from sgym.core.layout import NONE


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
def charge(state, policy, clients, i):
    """Charge what was just scheduled on instance i to its clients."""
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        client = clients[request["tenant"]]
        first = request["scheduled"] > 0 and request["computed"] == request["scheduled"]
        if first and request["preemptions"] == 0:
            client["counter"] += policy["prompt_weight"] * request["prompt"]
        if request["scheduled"] > 0 and request["prefilling"] == 0:
            client["counter"] += policy["output_weight"]
