"""The built-in schedulers and routers, compiled: who speaks when.

A policy may speak at three moments: when a request arrives (its `waiting_score`), before an
instance forms a batch (scores of running requests, `reserve`), and after it (counters). What each
says is in a file of its own.
"""

from sgym._jit import kernel
from sgym.core import engine
from sgym.core.layout import HANDOFF, ROUTE, SCHEDULE
from sgym.policies import andes, fastserve, lightllm, loads, ltr, orders, routers, slack_chunk, vtc
from sgym.policies.kinds import (
    ANDES,
    ANDES_SMOOTH,
    FASTSERVE,
    LTR,
    PAST_FUTURE,
    SLACK_CHUNK,
    VTC,
)
from sgym.policies.rules import ALONE


@kernel
def on_arrival(state, policy, memory, i):
    """Score the request that is about to join the queue of instance i."""
    cluster, kind = state.cluster[0], policy["kind"]
    if kind == LTR:
        ltr.on_arrival(state, policy, memory, i)
    elif kind == SLACK_CHUNK:
        slack_chunk.on_arrival(state, policy, i)
    elif kind == FASTSERVE:
        fastserve.on_arrival(state, policy, memory, i)
    else:
        request = state.requests[cluster["request"]]
        request["waiting_score"] = orders.waiting_score(policy, cluster, request)


@kernel
def before_batch(state, policy, memory, i):
    """Set the scores and knobs that depend on the present state of instance i."""
    if policy["system"] != ALONE:
        routers.before_batch(state, policy, memory, i)
    kind = policy["kind"]
    if kind == VTC:
        vtc.order_by_counter(state, policy, memory, i)
    elif kind == LTR:
        ltr.before_batch(state, policy, memory, i)
    elif kind == SLACK_CHUNK:
        slack_chunk.before_batch(state, policy, i)
    elif kind == ANDES or kind == ANDES_SMOOTH:
        andes.before_batch(state, policy, memory, i)
    elif kind == PAST_FUTURE:
        lightllm.before_batch(state, policy, memory, i)
    elif kind == FASTSERVE:
        fastserve.before_batch(state, policy, memory, i)
    else:
        orders.score_running(state, policy, i)
    orders.reserve(state, policy, i)


@kernel
def after_batch(state, policy, memory, i):
    """Note what was just scheduled."""
    kind = policy["kind"]
    if kind == VTC:
        vtc.charge(state, policy, memory, i)
    elif kind == LTR:
        ltr.after_batch(state, memory, i)
    elif kind == PAST_FUTURE:
        lightllm.after_batch(state, memory, i)
    elif kind == FASTSERVE:
        fastserve.after_batch(state, policy, memory, i)


@kernel
def answer(state, policy, memory):
    """Decide what `advance` stopped for, and carry it out."""
    cluster, rules = state.cluster[0], policy[0]
    if rules["staleness"] > 0.0:
        loads.report(state, rules, memory)
    if cluster["decision"] == ROUTE:
        i = routers.choose_instance(state, rules, memory)
        on_arrival(state, rules, memory, i)
        engine.route(state, i)
        if rules["system"] != ALONE:
            routers.after_route(state, rules, memory, i)
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
def drive(state, policy, memory, asks, pending):
    """Run and answer until a decision is the caller's, a log is full, or all is over; returns it.

    `asks` has bit d set if the caller answers decisions of number d; `pending` says whether the
    state waits for a decision that is to be answered first.
    """
    while True:
        if pending:
            answer(state, policy, memory)
        pending = True
        decision = engine.advance(state)
        known = decision == ROUTE or decision == SCHEDULE or decision == HANDOFF
        if not known or (asks >> decision) & 1:
            return decision
