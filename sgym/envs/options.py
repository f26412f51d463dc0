"""What a caller may choose of an environment, and the rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgym.envs import actions
from sgym.envs.desk import ACTIONS, PLACING
from sgym.errors import ScenarioError
from sgym.policies.trigger import TRIGGERS

CONTROLS = ("schedule", "route", "handoff", "migrate")
"""What an agent may decide: how an instance forms its batches, which instance takes an arrival,
which one decodes what a prefill instance has prefilled, and which requests move between instances.
The scenario's policies decide the rest."""

HINTS = ("none", "noisy", "bucket", "oracle")


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments of an environment, beside the scenario."""

    controls: tuple[str, ...] = ("schedule",)
    action: str = "slots"
    decision: str = "event"
    interval: float = 0.1
    num_slots: int = 64
    length_hint: str = "none"
    base: str = "spf"
    allow_reject: bool = False
    expected_output: float = 256.0
    aging: float = actions.AGING
    extra_features: tuple[str, ...] = ()

    @property
    def schedules(self) -> bool:
        """Whether the agent says how batches are formed."""
        return "schedule" in self.controls

    def check(self) -> None:
        """Raise what is wrong.

        Raises:
            ScenarioError: an argument breaks a rule; the message names it.
        """
        self._check_controls()
        one_of("decision", self.decision, TRIGGERS)
        one_of("length_hint", self.length_hint, HINTS)
        one_of("base", self.base, actions.ORDERINGS)
        at_least("num_slots", self.num_slots, 2 if self.schedules else 1)
        if self.num_slots != int(self.num_slots):
            raise ScenarioError(f"num_slots must be a whole number, got {self.num_slots!r}")
        at_least("interval", self.interval, 0)
        at_least("expected_output", self.expected_output, 0)
        at_least("aging", self.aging, 0)

    def _check_controls(self) -> None:
        if not self.controls:
            raise ScenarioError(f"controls must name at least one of {', '.join(CONTROLS)}")
        for name in self.controls:
            one_of("controls", name, CONTROLS)
        if self.schedules:
            one_of("action", self.action, ACTIONS)
        elif "migrate" in self.controls:
            raise ScenarioError(
                "controls has 'migrate', but not 'schedule': requests are moved when their "
                "instance forms a batch, so name both"
            )
        elif self.action != PLACING:
            raise ScenarioError(
                f"controls={list(self.controls)} only places requests: "
                f"action must be {PLACING!r}, got {self.action!r}"
            )
        if "migrate" in self.controls and self.action != "slots":
            raise ScenarioError(
                f"controls has 'migrate', which is a verb of action='slots', got {self.action!r}"
            )


def named(controls: Sequence[str] | str) -> tuple[str, ...]:
    """Controls as a tuple; one name alone is that one."""
    return (controls,) if isinstance(controls, str) else tuple(controls)


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse what is not among the allowed values.

    Raises:
        ScenarioError: naming them.
    """
    if value not in allowed:
        raise ScenarioError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


def at_least(name: str, value: Any, least: float) -> None:
    """Refuse what is no finite number of at least `least`.

    Raises:
        ScenarioError: naming the rule.
    """
    wrong_kind = isinstance(value, bool) or not isinstance(value, int | float | np.number)
    if wrong_kind or not least <= value < np.inf:
        raise ScenarioError(f"{name} must be at least {least}, got {value!r}")
