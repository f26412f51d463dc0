"""A policy, and how it acts: when it is asked, and from which order it begins."""

from dataclasses import dataclass

from sgym.export.adapter import Decides
from sgym.export.runtime import PolicyRuntime
from sgym.export.trigger import EventTrigger
from sgym.export.view import EngineView


class EveryBatch(EventTrigger):
    """Asks before every batch, as sgym's built-in schedulers are asked: choice or not.

    Their order of the running requests moves on even where nobody waits.
    """

    def is_due(self, view: EngineView) -> bool:
        """Yes; notes the edges."""
        super().is_due(view)
        return True


@dataclass(frozen=True, slots=True)
class Controls:
    """A policy, and how it acts.

    Attributes:
        policy: it decides.
        trigger: it says when.
        settles: see InForce.
    """

    policy: Decides
    trigger: EventTrigger
    settles: bool = True


def controls_of(bundle: str) -> Controls:
    """The policy of a bundle, acting as it did when it was trained.

    Args:
        bundle: `zoo:NAME`, `bundle:FOLDER` or a folder.

    Raises:
        PolicyError: it is none, or not for an engine.
    """
    runtime = PolicyRuntime(bundle)
    if runtime.kind == "builtin":
        return Controls(runtime, EveryBatch(), settles=False)
    return Controls(runtime, runtime.trigger())
