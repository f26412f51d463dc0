"""Which instance takes a request: an arrival, or one that is handed off."""

from sgym._jit import kernel
from sgym.core import engine
from sgym.core.layout import HANDOFF, NONE, ROUTE
from sgym.envs.desk import KNOBS, ROUTING, SLOTS
from sgym.policies import kernels, loads, trigger


@kernel
def is_placement(decision):
    """Whether a decision is about where a request goes."""
    return decision == ROUTE or decision == HANDOFF


@kernel
def is_open(state, decision, r, j):
    """Whether request `r` may be placed on instance `j`."""
    if decision == ROUTE:
        return loads.takes(state, j, r, loads.ARRIVALS)
    if j == state.requests[r]["instance"]:
        return loads.takes(state, j, r, loads.ANYONE)
    return loads.takes(state, j, r, loads.HANDOFFS)


@kernel
def offer_places(state, desk):
    """Write into `desk.destinations` where the request may go; returns how many these are.

    If no instance takes arrivals, all do that can serve what is known of it.
    """
    cluster, open_ones = state.cluster[0], desk.destinations
    r, count = cluster["request"], 0
    for j in range(open_ones.size):
        open_ones[j] = 1 if is_open(state, cluster["decision"], r, j) else 0
        count += open_ones[j]
    if count == 0:
        for j in range(open_ones.size):
            open_ones[j] = 1 if loads.takes(state, j, r, loads.ANYONE) else 0
            count += open_ones[j]
    return count


@kernel
def named(desk, action):
    """The instance that an action names, or NONE if it names none that is open."""
    kind = desk.settings[0]["action"]
    if kind == SLOTS or kind == KNOBS or kind == ROUTING:
        j = int(action[action.size - 1])  # its last factor, or its only one
        return j if j < desk.destinations.size and desk.destinations[j] else NONE
    best = NONE
    first = action.size - desk.destinations.size
    for j in range(desk.destinations.size):
        if desk.destinations[j] and (best == NONE or action[first + j] > action[first + best]):
            best = j
    return best


@kernel
def act(state, desk, action):
    """Place the request where an action says; returns how many of its parts did not apply.

    If it names no open instance, the scenario's rule decides.
    """
    invalid = 0
    if desk.settings[0]["action"] == SLOTS:
        for k in range(desk.slots.size + 1):
            invalid += 1 if action[k] != 0.0 else 0
    j = named(desk, action)
    if j == NONE:
        by_rule(state, desk)
        return invalid + 1
    put(state, desk, j)
    return invalid


@kernel
def put(state, desk, j):
    """Place the request on instance `j`."""
    cluster = state.cluster[0]
    kernels.on_arrival(state, desk.policy[0], desk.memory, j)
    if cluster["decision"] == ROUTE:
        engine.route(state, j)
    else:
        engine.hand_off(state, j)
    note(state, desk)


@kernel
def by_rule(state, desk):
    """Place the request where the scenario's router or rule of hand-off says."""
    leave(state, desk)
    note(state, desk)


@kernel
def leave(state, desk):
    """Leave a decision to the scenario's policies; in one place, as they are compiled into it."""
    kernels.answer(state, desk.policy, desk.memory)


@kernel
def forced(state, desk):
    """Place the request where it has to go, as there is only one open instance."""
    for j in range(desk.destinations.size):
        if desk.destinations[j]:
            put(state, desk, j)
            return


@kernel
def note(state, desk):
    """Tell the trigger of the instance that the request has joined."""
    request = state.requests[state.cluster[0]["request"]]
    trigger.note_arrival(desk.triggers[request["instance"]], request)
