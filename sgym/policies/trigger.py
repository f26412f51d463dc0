"""When a policy is asked: one edge-triggered function of what an engine can see of itself.

It is evaluated each time an idle instance is about to form a batch. An edge is a change since the
last evaluation on that instance. Decisions without a choice are never due: at least two requests
must be there, and either one of them waits or memory is short. A policy that migrates has a choice
too as soon as a single request may move to another instance; what others can take is no edge.
"""

import numpy as np

from sgym._jit import kernel
from sgym.core import batch, queue
from sgym.core.layout import NEVER, NONE, WAITING
from sgym.policies import moves

TRIGGERS = ("event", "iteration", "admission", "interval")
"""Names of the triggers; their places are the `kind` of a TRIGGER."""
EVENT, ITERATION, ADMISSION, INTERVAL = range(4)

ARRIVAL, FINISH, PRESSURE, DRY = 1, 2, 4, 8  # bits of `reasons`
DRY_LEAD = 0.1  # seconds before a reader runs dry at which a policy is told
LOOKED_AT = 32  # waiting requests that `admission` tries, from the head of the queue

# One per instance: the trigger's settings and what it remembers.
TRIGGER = np.dtype(
    [
        ("kind", np.int32),
        ("interval", np.float64),  # seconds
        ("migrates", np.int32),  # 1: the policy may move requests to other instances
        ("num_running", np.int32),  # when the last batch was formed
        ("num_waiting", np.int32),  # same
        ("num_endangered", np.int32),  # running requests about to run dry, at the last evaluation
        ("short", np.int32),  # 1: memory was short, same
        ("reasons", np.int32),  # edges since the last decision
        ("looked", np.float64),  # seconds; the last evaluation
        ("decided", np.float64),  # seconds; the last decision
        ("next_dry", np.float64),  # seconds; no waiting request comes near running dry before
    ],
    align=True,
)


def fresh_triggers(
    name: str, interval: float, count: int, start: float, migrates: bool = False
) -> np.ndarray:
    """TRIGGER (count,), nothing seen yet.

    Args:
        name: one of TRIGGERS.
        interval: seconds between decisions, for `interval`.
        count: instances.
        start: seconds; when the episode starts.
        migrates: whether the policy may move requests to other instances.
    """
    triggers = np.zeros(count, TRIGGER)
    triggers["kind"] = TRIGGERS.index(name)
    triggers["interval"] = interval
    triggers["migrates"] = migrates
    restart(triggers, start)
    return triggers


def restart(triggers: np.ndarray, start: float) -> None:
    """Let TRIGGER (n,) forget what it has seen; an episode starts at `start` seconds."""
    for name in ("num_running", "num_waiting", "num_endangered", "short", "reasons"):
        triggers[name] = 0
    for name in ("looked", "decided", "next_dry"):
        triggers[name] = start


@kernel
def is_short(instance):
    """Memory pressure: fewer free blocks than running requests, so an iteration may preempt."""
    return instance["free_blocks"] < instance["num_running"]


@kernel
def has_choice(state, trigger, i):
    """Whether a Steering could make a difference."""
    instance = state.instances[i]
    present = instance["num_running"] + instance["num_waiting"]
    if present >= 2 and (instance["num_waiting"] > 0 or is_short(instance)):
        return True
    return trigger["migrates"] == 1 and moves.can_move_any(state, i)


@kernel
def endangered_from(request):
    """When a policy is told that this request's reader is about to run dry, in seconds."""
    return request["due"] + max(request["lateness"], 0.0) - DRY_LEAD


@kernel
def is_due(state, triggers, i):
    """Whether instance `i` asks the policy now; notes the edges in `triggers[i]`."""
    instance, trigger = state.instances[i], triggers[i]
    now = state.cluster[0]["clock"]
    note_edges(state, instance, trigger, i, now)
    if not has_choice(state, trigger, i):
        trigger["reasons"] = 0
        return False
    kind = trigger["kind"]
    if kind == EVENT:
        return trigger["reasons"] != 0
    if kind == ADMISSION:
        return can_admit(state, instance, i)
    if kind == INTERVAL:
        return now >= trigger["decided"] + trigger["interval"]
    return True


@kernel
def note_edges(state, instance, trigger, i, now):
    """Add what changed since the last evaluation to `reasons`."""
    reasons = trigger["reasons"]
    if instance["num_waiting"] > trigger["num_waiting"]:
        reasons |= ARRIVAL
    if instance["num_running"] < trigger["num_running"]:
        reasons |= FINISH
    short = is_short(instance)
    if instance["num_preempted"] > 0 or (short and not trigger["short"]):
        reasons |= PRESSURE
        trigger["next_dry"] = min(trigger["next_dry"], now)  # the preempted ones wait again
    trigger["short"] = 1 if short else 0
    endangered = num_endangered(state, instance, i, now)
    if endangered > trigger["num_endangered"]:
        reasons |= DRY
    trigger["num_endangered"] = endangered
    if now >= trigger["next_dry"] and waiting_runs_dry(state, trigger, i, now):
        reasons |= DRY
    trigger["looked"] = now
    trigger["reasons"] = reasons


@kernel
def num_endangered(state, instance, i, now):
    """Running requests whose readers are about to run dry, or have."""
    count = 0
    if now < instance["next_dry"] - DRY_LEAD:
        return count
    for k in range(instance["num_running"]):
        if endangered_from(state.requests[state.running[i, k]]) <= now:
            count += 1
    return count


@kernel
def waiting_runs_dry(state, trigger, i, now):
    """Whether a waiting request came near running dry since the last look; finds the next one.

    One that came near since a look less than DRY_LEAD ago has not run dry, so it is in the heap of
    dry times, where few have to be looked at; but running requests are there too. Where lateness
    may be below 0, readers who wait count as dry from the start, and are not in it.
    """
    cluster, num_waiting = state.cluster[0], state.instances[i]["num_waiting"]
    has_all = cluster["track"] == 1 and cluster["clamp"] == 1
    has_all = has_all and now - trigger["looked"] < 0.9 * DRY_LEAD
    if has_all and cluster["num_dry"] < 4 * num_waiting:
        return look_in_heap(state, trigger, i, now)
    requests, found, following = state.requests, False, NEVER
    r = queue.first(state.instances[i])
    while r != NONE:
        moment = endangered_from(requests[r])
        if moment > now:
            following = min(following, moment)
        elif moment > trigger["looked"]:
            found = True
        r = queue.following(state.links, r)
    trigger["next_dry"] = following
    return found


@kernel
def look_in_heap(state, trigger, i, now):
    """`waiting_runs_dry` by the heap of dry times, whose entries are never later than these.

    It is walked from parents to children, and not below an entry that is too late to matter.
    """
    dry, size = state.dry, state.cluster[0]["num_dry"]
    found, following, k = False, NEVER, 0
    while True:
        if k < size and dry[k]["time"] - DRY_LEAD < following:
            request = state.requests[dry[k]["index"]]
            if request["phase"] == WAITING and request["instance"] == i:
                moment = endangered_from(request)
                if moment > now:
                    following = min(following, moment)
                elif moment > trigger["looked"]:
                    found = True
            k = 2 * k + 1
            continue
        while k > 0 and k % 2 == 0:  # right children, whose parents are done with them
            k = (k - 1) // 2
        if k == 0:
            break
        k += 1
    trigger["next_dry"] = following
    return found


@kernel
def can_admit(state, instance, i):
    """Whether the engine's own limits would let one of the first waiting requests in now."""
    engine = state.engines[i]
    if instance["num_running"] >= engine["max_num_seqs"]:
        return False
    tried = 0
    r = queue.first(instance)
    while r != NONE and tried < LOOKED_AT:
        request = state.requests[r]
        if engine["former"] == batch.ORCA:
            blocks = batch.orca_blocks(engine, request)
        else:
            known = request["prompt"] + request["generated"]
            blocks = batch.blocks_for(known, engine["block_size"])
        if blocks + engine["watermark_blocks"] <= instance["free_blocks"]:
            return True
        tried += 1
        r = queue.following(state.links, r)
    return False


@kernel
def note_arrival(trigger, request):
    """A request joined the waiting queue."""
    trigger["next_dry"] = min(trigger["next_dry"], endangered_from(request))


@kernel
def note_batch(instance, trigger):
    """A batch was formed: later changes of the queues are arrivals and finishes."""
    trigger["num_running"] = instance["num_running"]
    trigger["num_waiting"] = instance["num_waiting"]


@kernel
def note_decision(trigger, now):
    """The policy has decided: edges count from here."""
    trigger["reasons"] = 0
    trigger["decided"] = now
