"""Actions on the requests that an agent sees: a verb or a score per slot."""

import math

import numpy as np

from sgym._jit import kernel
from sgym.core.layout import NONE, RUNNING
from sgym.envs.actions import CLUSTER_VERBS, HOLD, MIGRATE, NEUTRAL, PREEMPT, PROMOTE, REJECT
from sgym.envs.entries import apply, chunks_prompts, name, open_limits
from sgym.envs.shown import slot_in_order, waiting_slots
from sgym.policies import moves, trigger

VERB_SCORES = np.zeros(len(CLUSTER_VERBS))
"""Score that each verb gives a waiting request."""
VERB_SCORES[PROMOTE], VERB_SCORES[HOLD] = 1.0, -math.inf


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
        verbs |= 1 << HOLD | settings["allow_reject"] << REJECT
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
    named, inapplicable = say_verbs(state, desk, action, i, destination)
    invalid += inapplicable
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
def say_verbs(state, desk, action, i, destination):
    """Write what the verbs of all slots say into `desk.steered`, without those that do not apply.

    Returns how many entries there are, and how many verbs did not apply. Promoted requests come
    last, and waiting ones in the order of the queue, so that each that moves goes to its very end.
    No branch depends on a verb: no processor can guess what an agent says.
    """
    entries, count, invalid = desk.steered, desk.slots.size, 0
    first, end = waiting_slots(state.instances[i], count)
    others, promoted = 0, 0  # the entries of promoted ones begin at `count` until all are known
    for n in range(count):
        k = slot_in_order(n, first, end, count)
        verb, r = int(action[k]), desk.slots[k]
        says, promotes = int(verb != NEUTRAL), int(verb == PROMOTE)
        applies = (valid_verbs(state, desk, r) >> verb) & says
        if verb == MIGRATE and destination == NONE:
            applies = 0
        place = others + promotes * (count + promoted - others)
        say(entries[place], r, verb, destination)  # what does not apply is written over
        promoted += applies & promotes
        others += applies - (applies & promotes)
        invalid += says - applies
    for k in range(promoted):
        entries[others + k] = entries[count + k]
    return others + promoted, invalid


@kernel
def say(entry, r, verb, destination):
    """Write what a verb means for request `r` into an entry of a Steering."""
    entry["request"] = r
    entry["preempt"] = int(verb == PREEMPT)
    entry["reject"] = int(verb == REJECT)
    entry["migrate_to"] = destination if verb == MIGRATE else NONE
    entry["waiting_score"] = VERB_SCORES[verb]
    entry["running_score"] = int(verb == PROMOTE)


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
