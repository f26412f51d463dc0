"""What an agent may do: the verbs of a slot, the named knobs, and the spaces they make."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from sgym.envs.desk import PLACING
from sgym.policies.registry import builtin

VERBS = ("neutral", "preempt", "promote", "hold", "reject")
"""What `slots` does with one request. promote: score 1, where all others have 0. hold: not admitted
before the next decision. reject needs `allow_reject`. Running requests are dealt with in the order
of their slots, then waiting ones in the order of the queue."""
CLUSTER_VERBS = (*VERBS, "migrate")
"""With more than one instance to decide about. migrate: go on at the action's destination."""
NEUTRAL, PREEMPT, PROMOTE, HOLD, REJECT, MIGRATE = range(6)

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

INDEX_KNOBS = ("reserve", "token_budget", "active_cap", "chunk_cap")
"""After its weights, an `index` action has a number for each of these."""
AGING = 20.0
"""Tokens per second by which waiting shortens a prompt under spf, as the built-in policy has it."""
GAIN = 4.0
"""Weight that a number of 1 in an `index` action stands for, in units of the base score."""


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


@dataclass(frozen=True, slots=True)
class Layout:
    """What makes an action space.

    Attributes:
        action: one of desk.ACTIONS, or desk.PLACING.
        num_slots: requests shown.
        num_features: features of a request, for `index`.
        num_destinations: instances that an action can name; 0 = none, where each decision concerns
            the instance that asks.
    """

    action: str
    num_slots: int
    num_features: int
    num_destinations: int = 0

    @property
    def verbs(self) -> tuple[str, ...]:
        """What can be said of a slot."""
        return CLUSTER_VERBS if self.num_destinations else VERBS

    @property
    def space(self) -> spaces.Space[Any]:
        """The action space."""
        if self.action == "slots":
            return spaces.MultiDiscrete(self._factors)
        if self.action in ("knobs", PLACING):
            return spaces.Discrete(self.mask_length)
        numbers = self.num_slots
        if self.action == "index":
            numbers = 2 * self.num_features + len(INDEX_KNOBS)
        return spaces.Box(-1.0, 1.0, (numbers + self.num_destinations,), np.float32)

    @property
    def _factors(self) -> list[int]:
        destination = [self.num_destinations] if self.num_destinations else []
        return [len(self.verbs)] * self.num_slots + [BUDGET_LEVELS] + destination

    @property
    def mask_length(self) -> int:
        """Entries of the flat action mask; 0 for Box spaces, which have none."""
        if self.action == "slots":
            return sum(self._factors)
        if self.action == "knobs":
            return max(len(KNOBS), self.num_destinations)
        return self.num_destinations if self.action == PLACING else 0

    def shaped(self, flat: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """The flat mask, int8, in the shape that `space.sample(mask)` takes. Makes no copy."""
        if self.action != "slots":
            return flat
        width = len(self.verbs)
        verbs = flat[: self.num_slots * width].reshape(-1, width)
        rest = flat[self.num_slots * width :]
        if not self.num_destinations:
            return (*verbs, rest)
        return (*verbs, rest[:BUDGET_LEVELS], rest[BUDGET_LEVELS:])
