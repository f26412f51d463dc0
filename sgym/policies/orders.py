"""Orders that follow from a request alone, and the reservation that goes with them.

A score given at arrival stays, so a static order costs O(log n) per request and nothing per
iteration.
"""

import math

from sgym._jit import kernel
from sgym.core import random
from sgym.policies.kinds import EDF, LLF, RANDOM, SJF, SLACK_VICTIM, SPF, SRPT


@kernel
def expected_output(policy, request):
    """Tokens that a request is expected to generate in all: its prediction, else the mean."""
    if math.isnan(request["predicted"]):
        return policy["expected_output"]
    return float(request["predicted"])


@kernel
def waiting_score(policy, cluster, request):
    """Score of a waiting request: at arrival, and kept current while it runs, for preemption."""
    kind = policy["kind"]
    aged = policy["aging"] * request["arrival"]
    if kind == SPF:
        return -(request["prompt"] + aged)
    if kind == SJF:
        work = policy["output_weight"] * expected_output(policy, request)
        return -(work + policy["prompt_weight"] * request["prompt"] + aged)
    if kind == SRPT:
        return -(expected_output(policy, request) - request["generated"] + aged)
    if kind == EDF:
        return -request["due"]
    if kind == LLF:
        known = request["prompt"] + request["generated"]
        return -(request["due"] + request["lateness"] - policy["prefill_time"] * known)
    if kind == RANDOM:
        cluster["policy_counter"] += 1
        return random.uniform(int(cluster["policy_counter"]))
    return 0.0


@kernel
def running_score(policy, request):
    """Score of a running request: the lowest one is preempted first."""
    kind = policy["kind"]
    if kind == SRPT:
        return -(expected_output(policy, request) - request["generated"])
    if kind == EDF:
        return -request["due"]
    if kind == LLF or kind == SLACK_VICTIM:
        return -(request["due"] + request["lateness"])
    if kind == RANDOM:
        return request["waiting_score"]
    return 0.0


@kernel
def score_running(state, policy, i):
    """Bring the scores of instance i's running requests up to date, where they change."""
    instance, kind = state.instances[i], policy["kind"]
    if kind != SRPT and kind != EDF and kind != LLF and kind != SLACK_VICTIM and kind != RANDOM:
        return
    instance["running_scored"] = 1
    for k in range(instance["num_running"]):
        request = state.requests[state.running[i, k]]
        request["running_score"] = running_score(policy, request)
        if kind == SRPT or kind == EDF or kind == LLF:
            request["waiting_score"] = waiting_score(policy, state.cluster[0], request)


@kernel
def reserve(state, policy, i):
    """Keep blocks free for a share of what the running requests are expected to generate yet."""
    instance = state.instances[i]
    if policy["reservation"] <= 0.0 or instance["num_waiting"] == 0:
        return
    ahead = 0.0
    for k in range(instance["num_running"]):
        request = state.requests[state.running[i, k]]
        ahead += max(0.0, expected_output(policy, request) - request["generated"])
    blocks = policy["reservation"] * ahead / state.engines[i]["block_size"]
    instance["reserve"] = int(blocks)
