"""Random steerings that both sides compute alike: functions of the case's seed alone.

Imports only the standard library, because it runs in sgym's environment and in vLLM's.
"""

import math
import random
from dataclasses import dataclass, field
from typing import Any

LAST = 400  # calls after which a neutral steering lets the case end


@dataclass(frozen=True)
class Steering:
    """What a policy says before a batch is formed; requests are numbered by arrival."""

    token_budget: int
    active_cap: int
    chunk_cap: int = 0  # 0 = none
    reserve: int = 0  # KV blocks
    hold_prefill: bool = False
    waiting_score: dict[int, float] = field(default_factory=dict)  # highest first; -inf = held
    running_score: dict[int, float] = field(default_factory=dict)
    preempt: tuple[int, ...] = ()


def draw(
    case: dict[str, Any], number: int, waiting: list[int], running: list[int]
) -> Steering | None:
    """The steering before schedule() call `number` of a case, or None where the last one stays.

    Args:
        case: the case; its `steer` says how often each knob is used, as probabilities.
        number: calls of schedule() before this one.
        waiting: numbers of the waiting requests, in any order.
        running: numbers of the running requests, in any order.
    """
    use = case.get("steer")
    if use is None or number > LAST:
        return None
    config = case["config"]
    budget, cap = config["max_num_batched_tokens"], config["max_num_seqs"]
    if number == LAST:
        return Steering(budget, cap)
    rng = random.Random(f"{case['seed']}-{number}")
    if rng.random() >= use["often"]:
        return None
    usable = config["num_blocks"] - 1
    by_priority = config["scheduling_policy"] == "priority"
    preempt = [r for r in sorted(running) if rng.random() < use["preempt"]]
    hold = 0.0 if by_priority and preempt else use["hold"]  # see the caveats in README.md
    return Steering(
        token_budget=rng.randint(1, budget) if rng.random() < use["token_budget"] else budget,
        active_cap=rng.randint(1, cap) if rng.random() < use["active_cap"] else cap,
        chunk_cap=rng.randint(1, budget) if rng.random() < use["chunk_cap"] else 0,
        reserve=rng.randint(0, usable // 4) if rng.random() < use["reserve"] else 0,
        hold_prefill=rng.random() < use["hold_prefill"],
        waiting_score=scores(rng, sorted(waiting + running), use["order"], hold, by_priority),
        running_score=scores(rng, sorted(waiting + running), use["order"], 0.0, False),
        preempt=tuple(preempt),
    )


def scores(
    rng: random.Random, requests: list[int], order: float, hold: float, fixed: bool
) -> dict[int, float]:
    """Scores from few levels, so that ties occur; `fixed` leaves the order to the engine."""
    ordered = rng.random() < order and not fixed
    result = {}
    for r in requests:
        level = float(rng.choice((-1, 0, 0, 1, 2))) if ordered else 0.0
        result[r] = -math.inf if rng.random() < hold else level
    return result
