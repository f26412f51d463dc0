"""One step of an environment, compiled: act, run to the next decision, reward, observe."""

from sgym._jit import kernel
from sgym.core import engine, metric
from sgym.core.layout import DONE, ROUTE, SCHEDULE
from sgym.envs import decode, observe
from sgym.policies import routers, trigger


@kernel
def run_until_due(state, desk):
    """Iterate under the Steering in force until an agent has to decide, or all is over."""
    cluster = state.cluster[0]
    while True:
        decision = engine.advance(state)
        if decision == ROUTE:
            i = routers.choose_instance(state, desk.policy[0], desk.memory)
            engine.route(state, i)
            trigger.note_arrival(desk.triggers[i], state.requests[cluster["request"]])
            continue
        if decision != SCHEDULE:
            return decision
        if trigger.is_due(state, desk.triggers, cluster["instance"]):
            return decision
        iterate(state, desk)


@kernel
def iterate(state, desk):
    """Form a batch on the instance that asks."""
    i = state.cluster[0]["instance"]
    engine.iterate(state)
    trigger.note_batch(state.instances[i], desk.triggers[i])


@kernel
def begin(state, desk, requests_out, instances_out, cluster_out, mask):
    """From a fresh state to the first decision; returns what it is."""
    decision = state.cluster[0]["decision"]
    if decision == SCHEDULE:
        if not trigger.is_due(state, desk.triggers, state.cluster[0]["instance"]):
            iterate(state, desk)
            decision = run_until_due(state, desk)
    potential(state)  # brings the sums over overdue requests up to now, for the observation
    show(state, desk, requests_out, instances_out, cluster_out, mask)
    return decision


@kernel
def show(state, desk, requests_out, instances_out, cluster_out, mask):
    """Write the observation and the mask of the decision that `state` waits for."""
    observe.observe(state, desk, requests_out, instances_out, cluster_out)
    decode.fill_mask(state, desk, mask)


@kernel
def step(state, desk, action, requests_out, instances_out, cluster_out, mask):
    """Carry out an action and run to the next decision; reward and counts go to `desk.settings`."""
    cluster, settings = state.cluster[0], desk.settings[0]
    decision = cluster["decision"]
    settings["invalid"] = 0
    settings["last_time"] = cluster["clock"]
    if decision == SCHEDULE:
        settings["invalid"] = decode.act(state, desk, action)
        trigger.note_decision(desk.triggers[cluster["instance"]], cluster["clock"])
        iterate(state, desk)
        decision = run_until_due(state, desk)
    settings["reward"] = earn(state, settings)
    show(state, desk, requests_out, instances_out, cluster_out, mask)
    return decision


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
