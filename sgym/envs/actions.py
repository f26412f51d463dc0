"""What an agent may do: the verbs of a slot, the named knobs, and the spaces they make."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from sgym.policies.registry import builtin

VERBS = ("neutral", "preempt", "promote", "hold", "reject")
"""What `slots` does with one request. promote: score 1, where all others have 0. hold: not admitted
before the next decision. reject needs `allow_reject`."""
NEUTRAL, PREEMPT, PROMOTE, HOLD, REJECT = range(5)

BUDGET_LEVELS = 4
"""Level n of the token budget is max_num_batched_tokens / 2**n."""

ORDERINGS = ("fcfs", "spf", "edf", "llf", "slack-victim")
"""Orders of waiting requests and victims; what each is stands in the registry of policies."""
FCFS, SPF, EDF, LLF, SLACK_VICTIM = range(5)

RESERVATIONS = (0.0, 0.2, 0.5)
"""Share of the tokens that the running requests are expected to generate still, kept free."""

LIMITS = ("open", "closed", "gentle")
"""open: the engine's own limits. closed: no more running requests than now. gentle: a quarter of
the token budget, and chunks of an eighth, so that decodes wait less for prefills."""
OPEN, CLOSED, GENTLE = range(3)

NUM_INDEX_KNOBS = 3
"""After its weights, an `index` action has: reserve, token budget, active cap."""


def reservation_of(ordering: str) -> float:
    """The reservation that the built-in policy of an ordering has."""
    entry = builtin("stock" if ordering == "fcfs" else ordering)
    return entry.parameters.get("reservation", 0.0)


@dataclass(frozen=True, slots=True)
class Knobs:
    """One action of `knobs`."""

    ordering: str
    reservation: float
    limit: str

    @property
    def name(self) -> str:
        """Such as spf+0.2+open."""
        return f"{self.ordering}+{self.reservation:g}+{self.limit}"


KNOBS = tuple(
    Knobs(ordering, reservation, limit)
    for ordering in ORDERINGS
    for reservation in RESERVATIONS
    for limit in LIMITS
)
"""The actions of `knobs`, in order; the first is the stock engine under first come first served."""


def action_space(action: str, num_slots: int, num_features: int) -> spaces.Space[Any]:
    """The space of one of desk.ACTIONS.

    Args:
        action: slots, scores, knobs or index.
        num_slots: requests shown.
        num_features: features of a request, for `index`.
    """
    if action == "slots":
        return spaces.MultiDiscrete([len(VERBS)] * num_slots + [BUDGET_LEVELS])
    if action == "knobs":
        return spaces.Discrete(len(KNOBS))
    length = num_slots if action == "scores" else num_features + NUM_INDEX_KNOBS
    return spaces.Box(-1.0, 1.0, (length,), np.float32)


def mask_length(action: str, num_slots: int) -> int:
    """Entries of the flat action mask; 0 for Box spaces, which have none."""
    if action == "slots":
        return num_slots * len(VERBS) + BUDGET_LEVELS
    return len(KNOBS) if action == "knobs" else 0


def shaped_mask(action: str, flat: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
    """The flat mask, int8, in the shape that `space.sample(mask)` takes. Makes no copy."""
    if action == "knobs":
        return flat
    verbs = flat[:-BUDGET_LEVELS].reshape(-1, len(VERBS))
    return (*verbs, flat[-BUDGET_LEVELS:])
