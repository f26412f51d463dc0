"""One step of an environment, compiled: act, run to the next decision, reward, observe."""

from sgym._jit import kernel
from sgym.core import engine, metric
from sgym.core.layout import DONE, FULL, HANDOFF, NONE, ROUTE, SCHEDULE
from sgym.envs import decode, observe, placement
from sgym.envs.fleet import ACT, BEGIN, GO_ON, REST, SHOW, desk_at, state_at
from sgym.envs.prefetch import look_ahead
from sgym.policies import loads, trigger


@kernel
def run(fleet, first, last):
    """Do the tasks of lanes first to last - 1; returns how many of them are over or FULL.

    Of a lane that is FULL the caller must enlarge the state and call again, which goes on. One
    kernel for all, because whatever Python calls is compiled with all that it calls itself.
    """
    stopped = 0
    for k in range(first, last):
        look_ahead(fleet, k, last)
        lane = fleet.lanes[k]
        if lane["task"] == REST:
            continue
        decision = step(state_at(fleet.states[k]), desk_at(fleet.desks[k]), fleet, k)
        lane["decision"] = decision
        if decision == DONE or decision == FULL:
            stopped += 1
        if decision != FULL:
            lane["task"] = REST
    return stopped


@kernel
def step(state, desk, fleet, k):
    """Do the task of lane `k`, and show the decision that is due then; returns it, or FULL.

    ACT carries out an action and runs to the next decision; BEGIN runs from a fresh state to the
    first one. SHOW runs nowhere.
    """
    cluster, settings, lane = state.cluster[0], desk.settings[0], fleet.lanes[k]
    task, decision = lane["task"], cluster["decision"]
    if task == ACT:
        lane["invalid"] = carry_out(state, desk, fleet.actions[k])
        lane["task"] = GO_ON
    if task == ACT and (decision == ROUTE or decision == HANDOFF):
        decision = NONE  # it is answered
    if task == BEGIN:
        hear(state, desk)
    if task != SHOW:
        decision = run_until_due(state, desk, decision, task == ACT)
    if decision == FULL:
        return decision
    if task == BEGIN:
        potential(state)  # brings the sums over overdue requests up to now, for the observation
    elif task != SHOW:
        lane["reward"] = earn(state, settings)
    lane["time"] = cluster["clock"]
    lane["dt"] = cluster["clock"] - settings["last_time"]
    lane["drained"] = 1 if cluster["num_unfinished"] == 0 else 0
    observe.observe(state, desk, fleet.requests[k], fleet.instances[k], fleet.cluster[k])
    decode.fill_mask(state, desk, fleet.masks[k])
    return decision


@kernel
def carry_out(state, desk, action):
    """Put a Steering into force, or place a request; there is nothing to do when all is over.

    Returns how many parts of the action did not apply.
    """
    cluster = state.cluster[0]
    desk.settings[0]["last_time"] = cluster["clock"]
    if cluster["decision"] == DONE:
        return 0
    if cluster["decision"] == SCHEDULE:
        trigger.note_decision(desk.triggers[cluster["instance"]], cluster["clock"])
    return decode.act(state, desk, action)


@kernel
def run_until_due(state, desk, decision, asked):
    """Go on until the agent has to decide, or all is over; returns what `advance` stopped for.

    `decision` is what the state waits for (NONE, FULL: nothing), `asked` whether the agent has just
    been asked about it.
    """
    while decision != DONE:
        if decision != NONE and decision != FULL:
            if not asked and is_for_agent(state, desk, decision):
                return decision
            answer(state, desk, decision)
        decision = engine.advance(state)
        asked = False
        if decision == FULL:
            return decision
        hear(state, desk)
    return decision


@kernel
def hear(state, desk):
    """Let the instances report, if who places requests relies on that, and it is time."""
    if desk.policy[0]["staleness"] > 0.0:
        loads.report(state, desk.policy[0], desk.memory)


@kernel
def is_for_agent(state, desk, decision):
    """Whether the agent decides this, and has a choice."""
    settings = desk.settings[0]
    if decision == SCHEDULE:
        i = state.cluster[0]["instance"]
        return settings["schedules"] == 1 and trigger.is_due(state, desk.triggers, i)
    if (decision == ROUTE and settings["routes"]) or (
        decision == HANDOFF and settings["hands_off"]
    ):
        return placement.offer_places(state, desk) > 1
    return False


@kernel
def answer(state, desk, decision):
    """Answer for the agent: what is not its to decide, what is not due, and what is forced."""
    settings = desk.settings[0]
    if decision == SCHEDULE:
        if settings["schedules"]:  # a batch under the Steering in force
            i = state.cluster[0]["instance"]
            engine.iterate(state)
            trigger.note_batch(state.instances[i], desk.triggers[i])
        else:
            placement.leave(state, desk)
    elif settings["routes"] if decision == ROUTE else settings["hands_off"]:
        placement.forced(state, desk)
    else:
        placement.by_rule(state, desk)


@kernel
def potential(state):
    """B now, or at the horizon if all is over."""
    cluster = state.cluster[0]
    at = cluster["horizon"] if cluster["decision"] == DONE else cluster["clock"]
    return metric.value(state.requests, state.instances, cluster, state.dry, at)


@kernel
def earn(state, settings):
    """The reward since the last one: the change of the potential over the duration."""
    value = potential(state)
    reward = (value - settings["before"]) / settings["duration"]
    settings["before"] = value
    return reward
