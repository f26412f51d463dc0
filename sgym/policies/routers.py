"""Which instance takes an arrival, and which one decodes a finished prefill."""

from sgym._jit import kernel
from sgym.core import random
from sgym.core.layout import NONE
from sgym.policies import arrow, disaggregation, durations, llumnix, loads, mooncake
from sgym.policies.loads import ANYONE, ARRIVALS, HANDOFFS
from sgym.policies.rules import (
    ARROW,
    CONDITIONAL,
    DISTSERVE,
    DYNAMO,
    LEAST_KV,
    LLM_D,
    LLUMNIX,
    MOONCAKE,
    POWER_OF_TWO,
    PREFIX_AWARE,
    RANDOM_RULE,
    ROUND_ROBIN,
    SPLITWISE,
    TOKEN_JSQ,
)

# sgl-model-gateway 053b63f, src/policies/cache_aware.rs
CACHED_SHARE = 0.3  # of the prompt, above which the cache decides
IMBALANCE = 64  # requests by which the most in flight exceed the fewest, and
IMBALANCE_RATIO = 1.5  # how many times as many they are, for load to decide

# llm-d: weights of its default profile
PREFIX_WEIGHT, QUEUE_WEIGHT, KV_WEIGHT = 3.0, 2.0, 2.0


@kernel
def choose_instance(state, policy, memory):
    """Answer ROUTE by the built-in router; `policy` is a POLICY record, `memory` a Memory."""
    cluster = state.cluster[0]
    if cluster["num_instances"] == 1:
        return 0
    r, system = int(cluster["request"]), policy["system"]
    loads.report(state, policy, memory)
    if system == SPLITWISE:
        return disaggregation.prompt_machine(state, policy, r)
    if system == CONDITIONAL:
        return disaggregation.local_or_remote(state, policy, r)
    if system == MOONCAKE:
        return mooncake.fastest_prefill(state, policy, memory, r)
    if system == ARROW:
        return arrow.prefill_instance(state, policy, memory, r)
    if system == LLUMNIX:
        return llumnix.freest(state, r, ARRIVALS)
    cluster["router_counter"] += 1
    asked = ARRIVALS
    if loads.count_takers(state, r, asked) == 0:
        asked = ANYONE
    return choose(state, memory, policy["router"], (r, int(asked), int(cluster["router_counter"])))


@kernel
def choose_target(state, policy, memory):
    """Answer HANDOFF by the built-in rule; the request's own instance where nobody else decodes."""
    cluster = state.cluster[0]
    r, system, own = int(cluster["request"]), policy["system"], int(cluster["instance"])
    loads.report(state, policy, memory)
    if loads.count_takers(state, r, HANDOFFS) == 0 and system != SPLITWISE:
        return own
    if system == SPLITWISE:
        return disaggregation.token_machine(state, r, own)
    if system == MOONCAKE:
        return mooncake.least_loaded_decode(state, r)
    if system == ARROW:
        return arrow.decode_instance(state, policy, memory, (r, own))
    if system == LLUMNIX:
        return llumnix.freest(state, r, HANDOFFS)
    cluster["policy_counter"] += 1
    turn = int(cluster["policy_counter"])
    if policy["handoff"] == ROUND_ROBIN:
        memory.policy[0]["handoffs"] += 1
        turn = int(memory.policy[0]["handoffs"])
    return choose(state, memory, policy["handoff"], (r, int(HANDOFFS), turn))


@kernel
def choose(state, memory, rule, question):
    """The instance that a rule prefers.

    `question`: the request, who is asked (ARRIVALS, HANDOFFS or ANYONE), and a counter: how many
    were asked before, or of random numbers.
    """
    r, asked, turn = question
    count = max(loads.count_takers(state, r, asked), 1)
    if rule == ROUND_ROBIN:
        return loads.nth_taker(state, r, asked, (turn - 1) % count)
    if rule == RANDOM_RULE:
        return loads.nth_taker(state, r, asked, random.integer(turn) % count)
    if rule == POWER_OF_TWO:
        return one_of_two(state, question, count)
    if rule == PREFIX_AWARE:
        return most_cached(state, r, asked)
    if rule == LLM_D:
        return best_score(state, memory, question)
    return least(state, memory, rule, question)


@kernel
def one_of_two(state, question, count):
    """Of two different instances drawn at random, that with fewer requests in flight."""
    r, asked, turn = question
    first = random.integer(turn) % count
    if count == 1:
        return loads.nth_taker(state, r, asked, 0)
    second = (first + 1 + random.integer(turn ^ random.OTHER) % (count - 1)) % count
    a, b = loads.nth_taker(state, r, asked, first), loads.nth_taker(state, r, asked, second)
    return b if loads.in_flight(state, b) < loads.in_flight(state, a) else a


@kernel
def least(state, memory, rule, question):
    """The instance with the smallest burden; ties: the first, or any under the dynamo router."""
    r, asked, turn = question
    best, smallest, ties = 0, 0.0, 0
    for i in range(state.instances.size):
        if not loads.takes(state, i, r, asked):
            continue
        found = burden(state, memory, rule, (r, asked, i))
        if ties == 0 or found < smallest:
            best, smallest, ties = i, found, 1
        elif found == smallest and rule == DYNAMO:
            ties += 1
            if random.integer(turn + (ties << 48)) % ties == 0:
                best = i
    return best


@kernel
def burden(state, memory, rule, place):
    """What a rule compares; `place`: the request, who is asked, and the instance."""
    r, asked, i = place
    if rule == LEAST_KV:
        return loads.kv_share(state, memory, i)
    if rule == TOKEN_JSQ and asked == HANDOFFS:
        return loads.committed_blocks(state, i) / state.engines[i]["num_blocks"]
    if rule == TOKEN_JSQ:
        return loads.prefill_tokens(state, i) * durations.token_time(state, i)
    if rule == DYNAMO:
        return dynamo_cost(state, i, r)
    return loads.in_flight(state, i)


@kernel
def dynamo_cost(state, i, r):
    """KV blocks to prefill on instance i, less those it has cached, plus those it will hold.

    max(0, prefill_load_scale * prefill - overlap_score_credit * overlap) + decode, both 1. Source:
    ai-dynamo/dynamo 07a6c9c, lib/kv-router/src/scheduling/selector/default.rs.
    """
    size = float(state.engines[i]["block_size"])
    prompt, hit = float(state.requests[r]["prompt"]), loads.hit_tokens(state, i, r)
    to_prefill = (loads.prefill_tokens(state, i) + prompt - hit) / size
    held = loads.committed_blocks(state, i) + (prompt - hit) / size
    return max(to_prefill, 0.0) + held


@kernel
def most_cached(state, r, asked):
    """Where most of the prompt is cached, unless that is little or loads differ much."""
    idlest, best = NONE, NONE
    fewest, most, fewest_of_best, longest = 0.0, 0.0, 0.0, -1.0
    for i in range(state.instances.size):
        if not loads.takes(state, i, r, asked):
            continue
        here, hit = loads.in_flight(state, i), float(loads.hit_tokens(state, i, r))
        if idlest == NONE or here < fewest:
            idlest, fewest = i, here
        most = max(most, here)
        if hit > longest or (hit == longest and here < fewest_of_best):
            best, longest, fewest_of_best = i, hit, here
    if most - fewest > IMBALANCE and most > IMBALANCE_RATIO * fewest:
        return max(idlest, 0)
    if longest > CACHED_SHARE * state.requests[r]["prompt"]:
        return max(best, 0)
    return max(idlest, 0)


@kernel
def best_score(state, memory, question):
    """The instance with the highest sum of llm-d's default scorers, each from 0 to 1."""
    r, asked, turn = question
    shortest, longest = -1, -1
    for i in range(state.instances.size):
        if loads.takes(state, i, r, asked):
            waiting = int(memory.reports[i]["num_waiting"])
            shortest = waiting if shortest < 0 else min(shortest, waiting)
            longest = max(longest, waiting)
    best, highest, ties = 0, 0.0, 0
    for i in range(state.instances.size):
        if not loads.takes(state, i, r, asked):
            continue
        queued = 1.0
        if longest > shortest:
            queued = (longest - memory.reports[i]["num_waiting"]) / (longest - shortest)
        cached = loads.hit_tokens(state, i, r) / state.requests[r]["prompt"]
        free = 1.0 - loads.kv_share(state, memory, i)
        score = PREFIX_WEIGHT * cached + QUEUE_WEIGHT * queued + KV_WEIGHT * free
        if ties == 0 or score > highest:
            best, highest, ties = i, score, 1
        elif score == highest:
            ties += 1
            if random.integer(turn + (ties << 48)) % ties == 0:
                best = i
    return best


@kernel
def after_route(state, policy, memory, i):
    """What a system does once a request has joined the queue of instance i."""
    if policy["system"] == MOONCAKE and memory.policy[0]["rejects"]:
        mooncake.reject(state, i)


@kernel
def before_batch(state, policy, memory, i):
    """What a system does over the cluster before instance i forms a batch."""
    system = policy["system"]
    if system == DISTSERVE:
        disaggregation.open_gate(state, policy, i)
    elif system == SPLITWISE:
        disaggregation.return_free_machines(state)
    elif system == ARROW:
        arrow.watch(state, policy, memory)
    elif system == LLUMNIX:
        llumnix.migrate_from(state, policy, memory, i)
