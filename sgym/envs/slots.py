"""Actions on the requests that an agent sees: a verb or a score per slot."""

import math

from sgym._jit import kernel
from sgym.core.layout import NONE, RUNNING
from sgym.envs.actions import HOLD, MIGRATE, NEUTRAL, PREEMPT, PROMOTE, REJECT
from sgym.envs.entries import apply, chunks_prompts, name, open_limits
from sgym.policies import moves, trigger


@kernel
def offer_migrations(state, desk, i):
    """Write into `desk.destinations` where requests of instance `i` may migrate to."""
    for j in range(desk.destinations.size):
        desk.destinations[j] = 1 if moves.is_offered(state, i, j) else 0


@kernel
def valid_verbs(state, desk, r):
    """Which verbs apply to request `r` of a slot: bit v is set for verb v."""
    verbs = 1 << NEUTRAL
    if r == NONE:
        return verbs
    settings, request = desk.settings[0], state.requests[r]
    verbs |= 1 << PROMOTE
    if request["phase"] == RUNNING:
        verbs |= 1 << PREEMPT
    else:
        verbs |= 1 << HOLD
        if settings["allow_reject"]:
            verbs |= 1 << REJECT
    if settings["migrates"] and moves.may_move(state, request["instance"], r):
        verbs |= 1 << MIGRATE
    return verbs


@kernel
def act_slots(state, desk, action, i):
    """One verb per slot, a level of the token budget and, if there is one, a destination."""
    instance, engine, count = state.instances[i], state.engines[i], desk.slots.size
    destination, invalid = NONE, 0
    if desk.settings[0]["num_destinations"] > 0:
        destination = int(action[count + 1])
        if not desk.destinations[destination]:
            invalid += 1 if destination > 0 else 0
            destination = NONE
    named = 0
    for k in range(count):
        verb, r = int(action[k]), desk.slots[k]
        applies = (valid_verbs(state, desk, r) >> verb) & 1
        if verb == MIGRATE and destination == NONE:
            applies = 0
        say(desk.steered[named], r, verb, destination)  # what does not apply is written over
        says = 0 if verb == NEUTRAL else 1
        named += applies & says
        invalid += says - (applies & says)
    open_limits(instance, engine)
    level = int(action[count])
    if level > 0 and not chunks_prompts(engine):
        invalid += 1
        level = 0
    instance["token_budget"] = max(1, engine["max_num_batched_tokens"] >> level)
    apply(state, desk, i, named)
    note_moved(state, desk, i, named)
    return invalid


@kernel
def say(entry, r, verb, destination):
    """Write what a verb means for request `r` into an entry of a Steering.

    Without branches, as no processor can guess what an agent says.
    """
    promoted = 1.0 if verb == PROMOTE else 0.0
    entry["request"] = r
    entry["preempt"] = 1 if verb == PREEMPT else 0
    entry["reject"] = 1 if verb == REJECT else 0
    entry["migrate_to"] = destination if verb == MIGRATE else NONE
    entry["waiting_score"] = -math.inf if verb == HOLD else promoted
    entry["running_score"] = promoted


@kernel
def note_moved(state, desk, i, named):
    """Tell the triggers of the requests that have just joined another queue."""
    for entry in desk.steered[:named]:
        j = state.requests[entry["request"]]["instance"]
        if j != i:
            trigger.note_arrival(desk.triggers[j], state.requests[entry["request"]])


@kernel
def act_scores(state, desk, action, i):
    """A score per slot: admission order where it waits, budget order and victims where it runs."""
    count = 0
    for k in range(desk.slots.size):
        r = desk.slots[k]
        if r != NONE and action[k] != 0.0:
            name(desk.steered[count], r)
            desk.steered[count]["waiting_score"] = action[k]
            desk.steered[count]["running_score"] = action[k]
            count += 1
    open_limits(state.instances[i], state.engines[i])
    apply(state, desk, i, count)
    return 0
