"""KV on its way between instances: transfers share the ports of their two ends.

A transfer sends at min(bandwidth out / transfers out of its source, bandwidth in / transfers into
its target). Once all is sent it leaves the ports, and a latency later it has arrived.
"""

from sgym._jit import kernel
from sgym.core import events, kv, log
from sgym.core.layout import NEVER, NONE, Move

ABORT = int(Move.ABORT)
SENT = 1.0  # bytes; what may remain of a transfer that has sent all, for rounding


@kernel
def start(state, r, kind, source, target, size):
    """Begin to send `size` bytes of request r's KV; returns the transfer's record."""
    settle(state)
    cluster = state.cluster[0]
    k = cluster["num_transfers"]
    cluster["num_transfers"] += 1
    transfer = state.transfers[k]
    transfer["request"] = r
    transfer["kind"] = kind
    transfer["source"] = source
    transfer["target"] = target
    transfer["active"] = 1
    transfer["start"] = cluster["clock"]
    transfer["remaining"] = size
    transfer["ends"] = NEVER
    state.requests[r]["transfer"] = k
    state.instances[source]["num_out"] += 1
    state.instances[target]["num_in"] += 1
    share(state)
    return transfer


@kernel
def settle(state):
    """Bring the bytes that remain to be sent up to now."""
    cluster = state.cluster[0]
    passed = cluster["clock"] - cluster["transfers_since"]
    cluster["transfers_since"] = cluster["clock"]
    if passed == 0.0:
        return
    for k in range(cluster["num_transfers"]):
        transfer = state.transfers[k]
        if transfer["active"]:
            transfer["remaining"] -= passed * transfer["rate"]


@kernel
def share(state):
    """Give each transfer its part of the ports, and note when the first will have sent all."""
    cluster = state.cluster[0]
    first = NEVER
    for k in range(cluster["num_transfers"]):
        transfer = state.transfers[k]
        if not transfer["active"]:
            continue
        source, target = transfer["source"], transfer["target"]
        outwards = state.engines[source]["link_bandwidth"] / state.instances[source]["num_out"]
        inwards = state.engines[target]["link_bandwidth"] / state.instances[target]["num_in"]
        transfer["rate"] = min(outwards, inwards)
        left = max(transfer["remaining"], 0.0) / transfer["rate"]
        first = min(first, cluster["clock"] + left)
    cluster["next_transfer"] = first


@kernel
def send(state):
    """It is `next_transfer`: what has sent all leaves its ports, and arrives after the latency."""
    settle(state)
    cluster = state.cluster[0]
    for k in range(cluster["num_transfers"]):
        transfer = state.transfers[k]
        if transfer["active"] and transfer["remaining"] <= SENT:
            free_ports(state, transfer)
            transfer["ends"] = cluster["clock"] + cluster["link_latency"]
            events.push(state, transfer["ends"], events.TRANSFER_ENDS, transfer["request"])
    share(state)


@kernel
def free_ports(state, transfer):
    """A transfer sends no more."""
    transfer["active"] = 0
    state.instances[transfer["source"]]["num_out"] -= 1
    state.instances[transfer["target"]]["num_in"] -= 1


@kernel
def has_arrived(state, r):
    """Whether TRANSFER_ENDS now is that of request r's transfer, not of an aborted one."""
    k = state.requests[r]["transfer"]
    return k != NONE and state.transfers[k]["ends"] == state.cluster[0]["clock"]


@kernel
def remove(state, r):
    """Forget request r's transfer, whether it has arrived or is given up."""
    cluster, k = state.cluster[0], state.requests[r]["transfer"]
    settle(state)
    if state.transfers[k]["active"]:
        free_ports(state, state.transfers[k])
    state.requests[r]["transfer"] = NONE
    last = cluster["num_transfers"] - 1
    if k != last:
        state.transfers[k] = state.transfers[last]
        state.requests[state.transfers[k]["request"]]["transfer"] = k
    cluster["num_transfers"] = last
    share(state)


@kernel
def abort(state, r):
    """Give up the migration of a running request: what the target had set aside is free again."""
    request, cluster = state.requests[r], state.cluster[0]
    i, j = request["instance"], request["other"]
    if request["transfer"] != NONE:
        remove(state, r)
    kv.release_other(state, r)
    state.instances[i]["migrating_out"] -= 1
    state.instances[j]["migrating_in"] -= 1
    state.instances[j]["num_loading"] -= 1
    cluster["aborted"] += 1
    log.move(state, ABORT, r, i, j, request["computed"], cluster["clock"], cluster["clock"])
    events.ask(state, j)
