"""Asking for the memory of the next lanes while one is stepped; changes nothing but the time.

What hundreds of lanes touch does not fit into the caches near a processor. A lane is found in three
steps, each of which reads what the one before has asked for: the tables that say where its arrays
are, three lanes ahead; the heads of these arrays, two ahead; and the requests that it showed last,
or that run, one ahead.
"""

from sgym._jit import LINE, fetch, fetch_at, kernel, table_size
from sgym.core.layout import CLUSTER, ENGINE, INSTANCE, NONE, State
from sgym.envs.desk import SETTINGS, Desk
from sgym.envs.fleet import desk_at, state_at
from sgym.envs.shown import WAITS, waiting_slots
from sgym.policies.trigger import TRIGGER


def _lines(size: int) -> int:
    """Cache lines that so many bytes touch, wherever they begin."""
    return size // LINE + 1


STATE_LINES, DESK_LINES = _lines(table_size(State)), _lines(table_size(Desk))
CLUSTER_LINES = _lines(CLUSTER.fields["gaps"][1])  # type: ignore[index]  # all before the histogram
INSTANCE_LINES, ENGINE_LINES = _lines(INSTANCE.itemsize), _lines(ENGINE.itemsize)
SETTINGS_LINES, TRIGGER_LINES = _lines(SETTINGS.itemsize), _lines(TRIGGER.itemsize)
RUNS = 3  # lines of REQUEST that a running request needs
SLOTS_LINES = 4  # 64 slots


@kernel
def look_ahead(fleet, k, last):
    """Ask for what lanes `k` + 1 to `k` + 3 will need, if they come before `last`."""
    if k + 3 < last:
        fetch_at(fleet.states[k + 3], STATE_LINES)
        fetch_at(fleet.desks[k + 3], DESK_LINES)
    if k + 2 < last:
        fetch_heads(state_at(fleet.states[k + 2]), desk_at(fleet.desks[k + 2]))
    if k + 1 < last:
        fetch_requests(state_at(fleet.states[k + 1]), desk_at(fleet.desks[k + 1]))


@kernel
def fetch_heads(state, desk):
    """Ask for the heads of a lane's arrays."""
    fetch(state.cluster, 0, CLUSTER_LINES)
    fetch(state.instances, 0, INSTANCE_LINES)
    fetch(state.engines, 0, ENGINE_LINES)
    fetch(state.events, 0, 1)
    fetch(state.dry, 0, 1)
    fetch(desk.settings, 0, SETTINGS_LINES)
    fetch(desk.policy, 0, 1)
    fetch(desk.triggers, 0, TRIGGER_LINES)
    fetch(desk.in_force, 0, 1)
    fetch(desk.slots, 0, SLOTS_LINES)
    fetch(state.running[max(state.cluster[0]["instance"], 0)], 0, SLOTS_LINES)


@kernel
def fetch_requests(state, desk):
    """Ask for the requests that run or are shown, the latter's links, and what comes next.

    That is the next arrival, and the count of the newest gap.
    """
    cluster = state.cluster[0]
    i = max(cluster["instance"], 0)
    instance = state.instances[i]
    for k in range(instance["num_running"]):
        fetch(state.requests, state.running[i, k], RUNS)
    first, last = waiting_slots(instance, desk.slots.size)
    for place in range(first, last):
        if desk.slots[place] != NONE:
            fetch(state.requests, desk.slots[place], WAITS)
            fetch(state.links, desk.slots[place], 1)
    fetch(state.requests, cluster["next_arrival"], RUNS)
    fetch(cluster["gaps"], cluster["last_bin"], 1)
