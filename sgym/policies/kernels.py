"""The built-in schedulers and routers, compiled: who speaks when.

A policy may speak at three moments: when a request arrives (its `waiting_score`), before an
instance forms a batch (scores of running requests, `reserve`), and after it (counters). What each
says is in a file of its own.
"""

from sgym._jit import inlined, kernel
from sgym.core import engine
from sgym.core.layout import HANDOFF, ROUTE, SCHEDULE
from sgym.policies import orders, routers, vtc
from sgym.policies.kinds import VTC


@inlined
def on_arrival(state, policy, memory, i):  # noqa: ARG001  (as the others below)
    """Score the request that is about to join the queue of instance i."""
    cluster = state.cluster[0]
    request = state.requests[cluster["request"]]
    request["waiting_score"] = orders.waiting_score(policy, cluster, request)


@inlined
def before_batch(state, policy, memory, i):
    """Set the scores and knobs that depend on the present state of instance i."""
    orders.score_running(state, policy, i)
    if policy["kind"] == VTC and state.instances[i]["num_waiting"] > 0:
        vtc.order_by_counter(state.requests, state.instances[i], memory.clients, policy)
    orders.reserve(state, policy, i)


@inlined
def after_batch(state, policy, memory, i):
    """Note what was just scheduled."""
    if policy["kind"] == VTC:
        vtc.charge(state, policy, memory.clients, i)


@inlined
def answer(state, policy, memory):
    """Decide what `advance` stopped for, and carry it out."""
    cluster, rules = state.cluster[0], policy[0]
    if cluster["decision"] == ROUTE:
        i = routers.choose_instance(state, rules, memory)
        on_arrival(state, rules, memory, i)
        engine.route(state, i)
    elif cluster["decision"] == HANDOFF:
        i = routers.choose_target(state, rules, memory)
        on_arrival(state, rules, memory, i)
        engine.hand_off(state, i)
    elif cluster["decision"] == SCHEDULE:
        i = cluster["instance"]
        before_batch(state, rules, memory, i)
        engine.iterate(state)
        after_batch(state, rules, memory, i)


@kernel
def drive(state, policy, memory):
    """Run a whole episode, or until a log is full, under one built-in policy."""
    while True:
        decision = engine.advance(state)
        if decision != ROUTE and decision != SCHEDULE and decision != HANDOFF:
            return decision
        answer(state, policy, memory)
