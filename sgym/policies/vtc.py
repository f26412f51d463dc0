"""The virtual token counter (OSDI 2024): the client that was served least goes first."""

import math

from sgym._jit import kernel
from sgym.core import queue
from sgym.core.layout import NONE
from sgym.policies import acting


@kernel
def order_by_counter(state, policy, memory, i):
    """Order the queue as repeatedly serving the client with the smallest counter would.

    A request's tag is its client's counter plus what the client's earlier requests will add.
    """
    requests, instance, clients = state.requests, state.instances[i], memory.clients
    if instance["num_waiting"] == 0:
        return
    for client in clients:
        client["was_queued"] = client["queued"]
        client["queued"] = 0
    r = queue.first(instance)
    while r != NONE:
        clients[requests[r]["tenant"]]["queued"] += 1
        r = queue.following(state.links, r)
    lift_newcomers(clients)
    for client in clients:
        client["tag"] = client["counter"]
    r = queue.first(instance)
    while r != NONE:
        request = requests[r]
        client = clients[request["tenant"]]
        request["running_score"] = -client["tag"]
        if memory.requests[r]["charged"] == 0:
            client["tag"] += policy["prompt_weight"] * request["prompt"]
        r = queue.following(state.links, r)
    acting.reorder_waiting(state, i)


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
def charge(state, policy, memory, i):
    """Charge what was just scheduled on instance i to its clients.

    A prompt costs once, when its first tokens are computed, and in whole, cached or not.
    """
    for k in range(state.instances[i]["num_running"]):
        r = state.running[i, k]
        request, memo = state.requests[r], memory.requests[r]
        if request["scheduled"] == 0:
            continue
        client = memory.clients[request["tenant"]]
        if memo["charged"] == 0:
            memo["charged"] = 1
            client["counter"] += policy["prompt_weight"] * request["prompt"]
        if request["prefilling"] == 0:
            client["counter"] += policy["output_weight"]
