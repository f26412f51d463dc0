"""From an action to what it does, and which actions are valid."""

from sgym._jit import kernel
from sgym.core.layout import NONE, SCHEDULE
from sgym.envs import placement
from sgym.envs.actions import (
    BUDGET_LEVELS,
    HOLD,
    MIGRATE,
    NEUTRAL,
    PREEMPT,
    PROMOTE,
    REJECT,
)
from sgym.envs.desk import KNOBS, ROUTING, SCORES, SLOTS
from sgym.envs.entries import chunks_prompts
from sgym.envs.orderings import NUM_KNOBS, NUM_LIMITS, act_index, act_knobs, is_valid_knob
from sgym.envs.slots import act_scores, act_slots, offer_migrations, valid_verbs


@kernel
def accept(given, choices, actions):
    """Write the whole numbers of actions, int64 (N, numbers); False if one is no choice.

    There are `choices` of each, int64 (numbers,), from 0.
    """
    fine = True
    for k in range(given.shape[0]):
        for j in range(given.shape[1]):
            fine &= (given[k, j] >= 0) & (given[k, j] < choices[j])
            actions[k, j] = given[k, j]
    return fine


@kernel
def act(state, desk, action):
    """Carry an action out; returns how many of its parts did not apply.

    `action` is float64, shaped as the action space says, 1 entry for Discrete.
    """
    if placement.is_placement(state.cluster[0]["decision"]):
        return placement.act(state, desk, action)
    kind = desk.settings[0]["action"]
    i = state.cluster[0]["instance"]
    if kind == SLOTS:
        return act_slots(state, desk, action, i)
    if kind == SCORES:
        return act_scores(state, desk, action, i)
    if kind == KNOBS:
        return act_knobs(state, desk, int(action[0]), i)
    return act_index(state, desk, action, i)


@kernel
def offer_destinations(state, desk):
    """Write into `desk.destinations` which instances an action may name now."""
    cluster = state.cluster[0]
    desk.destinations[:] = 0
    if placement.is_placement(cluster["decision"]):
        placement.offer_places(state, desk)
    elif cluster["decision"] == SCHEDULE and desk.settings[0]["migrates"]:
        offer_migrations(state, desk, cluster["instance"])


@kernel
def fill_mask(state, desk, mask):
    """Write the flat action mask, 1 = valid; something always is."""
    settings, decision = desk.settings[0], state.cluster[0]["decision"]
    if settings["num_destinations"] > 0:
        offer_destinations(state, desk)
    if settings["action"] == SLOTS:
        fill_slots_mask(state, desk, mask)
    elif settings["action"] == ROUTING or (
        settings["action"] == KNOBS and placement.is_placement(decision)
    ):
        mask[:] = 0
        fill_destinations_mask(desk, mask)
    elif settings["action"] == KNOBS:
        i = max(state.cluster[0]["instance"], 0)
        mask[:] = 0
        for limit in range(NUM_LIMITS):  # nothing else makes a knob invalid
            if is_valid_knob(state.instances[i], state.engines[i], limit):
                for knob in range(limit, NUM_KNOBS, NUM_LIMITS):
                    mask[knob] = 1


@kernel
def fill_slots_mask(state, desk, mask):
    """Write the mask of `slots`; at a placement only the destination is free."""
    settings, count = desk.settings[0], desk.slots.size
    width = settings["num_verbs"]
    places = placement.is_placement(state.cluster[0]["decision"])
    for k in range(count):
        verbs = valid_verbs(state, desk, NONE if places else desk.slots[k])
        row = mask[k * width : (k + 1) * width]
        row[NEUTRAL] = 1
        row[PREEMPT] = (verbs >> PREEMPT) & 1
        row[PROMOTE] = (verbs >> PROMOTE) & 1
        row[HOLD] = (verbs >> HOLD) & 1
        row[REJECT] = (verbs >> REJECT) & 1
        if width > MIGRATE:
            row[MIGRATE] = (verbs >> MIGRATE) & 1
    chunks = chunks_prompts(state.engines[max(state.cluster[0]["instance"], 0)])
    levels = mask[count * width :]
    for level in range(BUDGET_LEVELS):
        levels[level] = 1 if level == 0 or (chunks and not places) else 0
    if settings["num_destinations"] > 0:
        fill_destinations_mask(desk, levels[BUDGET_LEVELS:])


@kernel
def fill_destinations_mask(desk, mask):
    """Write which instances may be named; where none may, 0, which then means nothing."""
    some = 0
    for j in range(desk.destinations.size):
        mask[j] = desk.destinations[j]
        some += desk.destinations[j]
    if some == 0:
        mask[0] = 1
