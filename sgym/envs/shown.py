"""Which requests an agent sees: who stands in which slot."""

from sgym._jit import fetch, kernel
from sgym.core import queue
from sgym.core.layout import HANDOFF, NONE, ROUTE

WAITS = 2  # cache lines of REQUEST that a waiting request needs in a slot


@kernel
def num_hidden_running(instance, count):
    """Running requests, the first ones, for which `count` slots have no place."""
    half = count // 2
    places = half + max(0, count - half - instance["num_waiting"])
    return max(0, instance["num_running"] - places)


@kernel
def waiting_slots(instance, count):
    """Where among `count` slots the waiting requests stand: from the first one to before the last.

    Those in places that are lent to them come first, in reverse.
    """
    half, num_waiting = count // 2, instance["num_waiting"]
    lent = min(max(0, num_waiting - (count - half)), max(0, half - instance["num_running"]))
    return half - lent, min(count, half + num_waiting)


@kernel
def slot_in_order(n, first, end, count):
    """The n-th of `count` slots, those of waiting requests last, in the order of the queue.

    `first` and `end` are from `waiting_slots`.
    """
    others = count - (end - first)
    if n < others:
        return n if n < first else n + end - first
    behind = n - others  # the head of the queue
    return count // 2 + behind if count // 2 + behind < end else end - 1 - behind


@kernel
def fill_slots(state, i, slots):
    """Write the requests of instance `i` that an agent sees; NONE where a slot is empty.

    The first half holds running requests, next victims first, the second half the head of the
    queue. Places that one half leaves over are lent to the other from the far end. The walk asks
    for the memory of whom it finds, as those who were not shown before are in no near cache.
    """
    instance, running, count = state.instances[i], state.running[i], slots.size
    half, last = count // 2, instance["num_running"] - 1
    slots[:] = NONE
    shown = instance["num_running"] - num_hidden_running(instance, count)
    for k in range(min(shown, half)):
        slots[k] = running[last - k]
    for k in range(half, shown):
        slots[count - 1 - (k - half)] = running[last - k]
    first, end = waiting_slots(instance, count)
    r = queue.first(instance)
    for place in range(half, end):
        slots[place] = r
        fetch(state.requests, r, WAITS)
        r = queue.following(state.links, r)
    for place in range(half - 1, first - 1, -1):
        slots[place] = r
        fetch(state.requests, r, WAITS)
        r = queue.following(state.links, r)


@kernel
def choose_slots(state, desk, i):
    """Fill `desk.slots`: with an instance's queues, or with the request that is placed alone."""
    decision = state.cluster[0]["decision"]
    if desk.settings[0]["schedules"] and decision != ROUTE and decision != HANDOFF:
        fill_slots(state, i, desk.slots)
        return
    desk.slots[:] = NONE
    if decision == ROUTE or decision == HANDOFF:
        desk.slots[0] = state.cluster[0]["request"]
