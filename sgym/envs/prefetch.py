"""Asking for the memory of the next lanes while one is stepped; changes nothing but the time.

What hundreds of lanes touch does not fit into the caches near a processor. A lane is found in three
steps, each of which reads what the one before has asked for: the tables that say where its arrays
are, three lanes ahead; the heads of these arrays, two ahead; and the requests that it showed last,
one ahead.
"""

from sgym._jit import fetch, fetch_at, kernel, table_size
from sgym.core.layout import NONE, State
from sgym.envs.desk import Desk
from sgym.envs.fleet import desk_at, state_at

LINE = 64  # bytes
STATE_LINES, DESK_LINES = table_size(State) // LINE + 1, table_size(Desk) // LINE + 1


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
    fetch(state.cluster, 0, 6)
    fetch(state.instances, 0, 6)
    fetch(state.engines, 0, 2)
    fetch(state.events, 0, 1)
    fetch(state.dry, 0, 1)
    fetch(desk.settings, 0, 2)
    fetch(desk.policy, 0, 1)
    fetch(desk.triggers, 0, 2)
    fetch(desk.in_force, 0, 1)
    fetch(desk.slots, 0, 4)


@kernel
def fetch_requests(state, desk):
    """Ask for the requests that a lane has shown, its next arrival, and its newest gap's count."""
    cluster = state.cluster[0]
    for r in desk.slots:
        if r != NONE:
            fetch(state.requests, r, 3)
    fetch(state.requests, cluster["next_arrival"], 2)
    fetch(cluster["gaps"], cluster["last_bin"], 1)
