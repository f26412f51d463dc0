"""Names and numbers of routers, of rules of hand-off, and of whole systems that bring their own."""

from typing import NamedTuple

(
    ROUND_ROBIN,
    RANDOM_RULE,
    LEAST_OUTSTANDING,
    LEAST_KV,
    POWER_OF_TWO,
    TOKEN_JSQ,
    PREFIX_AWARE,
    DYNAMO,
    LLM_D,
) = range(9)


class Rule(NamedTuple):
    """One way to choose an instance."""

    number: int
    about: str


ROUTERS = {
    "round_robin": Rule(ROUND_ROBIN, "in turn"),
    "random": Rule(RANDOM_RULE, "any, with equal probability"),
    "least_outstanding": Rule(
        LEAST_OUTSTANDING,
        "fewest requests in flight, as the router counts them (vidur, lor_global_scheduler.py)",
    ),
    "token_jsq": Rule(
        TOKEN_JSQ,
        "fewest tokens still to prefill, as the router counts them, in seconds of that GPU "
        "(splitwise-sim, TokenJSQScheduler)",
    ),
    "power_of_two": Rule(
        POWER_OF_TWO,
        "of two different random ones, that with fewer requests in flight (Ray Serve, "
        "PowerOfTwoChoicesRequestRouter)",
    ),
    "least_kv": Rule(
        LEAST_KV,
        "smallest share of KV blocks in use, as last reported (llm-d, kv-cache-utilization-scorer)",
    ),
    "prefix_aware": Rule(
        PREFIX_AWARE,
        "longest cached prefix, if above 0.3 of the prompt; else, and always if the most requests "
        "in flight exceed the fewest by 64 and by half, the fewest (sgl-model-gateway)",
    ),
    "dynamo": Rule(
        DYNAMO,
        "fewest KV blocks: to prefill, less those cached, plus those of all in flight; ties: any "
        "(NVIDIA Dynamo, selector/default.rs with its weights)",
    ),
    "llm_d": Rule(
        LLM_D,
        "highest score: 3 * cached share of the prompt + 2 * short queue + 2 * free KV, the last "
        "two as last reported; ties: any (llm-d, default scorers)",
    ),
}
"""Who takes an arrival. Ties go to the first instance where nothing else is said. What is cached
is known exactly, as from events of the engines; routers that only guess it do worse."""

HANDOFFS = {
    "round_robin": Rule(ROUND_ROBIN, "in turn"),
    "random": Rule(RANDOM_RULE, "any, with equal probability"),
    "least_outstanding": Rule(
        LEAST_OUTSTANDING, "fewest requests waiting, on their way or running (simdistserve)"
    ),
    "token_jsq": Rule(
        TOKEN_JSQ,
        "fewest tokens of context for its memory, those on their way included "
        "(splitwise-sim, KVTokenJSQScheduler)",
    ),
    "power_of_two": Rule(POWER_OF_TWO, "of two different random ones, that with fewer requests"),
    "least_kv": Rule(LEAST_KV, "smallest share of KV blocks in use, as last reported"),
}
"""Who decodes what a prefill instance has prefilled."""

ALONE, DISTSERVE, SPLITWISE, CONDITIONAL, MOONCAKE, ARROW, LLUMNIX = range(7)
"""Systems that decide over the whole cluster; ALONE: the scenario's router and hand-off do."""
