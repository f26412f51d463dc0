"""Which requests an agent sees: who stands in which slot."""

from sgym._jit import kernel
from sgym.core import queue
from sgym.core.layout import HANDOFF, NONE, ROUTE


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
def fill_slots(state, i, slots):
    """Write the requests of instance `i` that an agent sees; NONE where a slot is empty.

    The first half holds running requests, next victims first, the second half the head of the
    queue. Places that one half leaves over are lent to the other from the far end.
    """
    count = slots.size
    half = count // 2
    slots[:] = NONE
    num_running = state.instances[i]["num_running"]
    num_waiting = state.instances[i]["num_waiting"]
    for k in range(num_running - num_hidden_running(state.instances[i], count)):
        place = k if k < half else count - 1 - (k - half)
        slots[place] = state.running[i, num_running - 1 - k]
    shown = min(num_waiting, count - half + max(0, half - num_running))
    r = queue.first(state.instances[i])
    for k in range(shown):
        place = half + k if half + k < count else half - 1 - (half + k - count)
        slots[place] = r
        r = queue.following(state.requests, r)


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
