"""What the registry says of a scheduler that comes with sgym."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sgym.policies import kinds, rules


@dataclass(frozen=True, slots=True)
class Builtin:
    """A scheduler that comes with sgym: an engine that forms batches, a compiled policy on it."""

    about: str
    source: str
    kind: int = kinds.NEUTRAL
    simplified: str = "nothing"
    system: int = rules.ALONE
    """Number of a system that decides over the whole cluster, and so replaces the scenario's
    router and rule of hand-off."""
    router: str | None = None
    """The router it comes with, one of ROUTERS; None = the scenario's, or the system's own."""
    handoff: str | None = None
    """Same for the rule of hand-off."""
    migration: int = 0
    """1: it moves running requests between instances."""
    disaggregated: bool = False
    """Whether it makes no sense without instances that only prefill."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Settings of scenario.engine that make it this scheduler."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Parameters it reads, with defaults."""
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the values 0, 1, ... of a parameter that is no quantity."""

    def named(self, key: str, value: float) -> str:
        """A parameter's value as a person writes it."""
        return self.choices[key][int(value)] if key in self.choices else f"{value:g}"
