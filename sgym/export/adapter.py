"""How an engine, in Python, is steered: it shows itself and takes what it is told."""

from typing import Protocol

from sgym.export.view import EngineSteering, EngineView


class Decides(Protocol):
    """What answers: a PolicyRuntime, or a policy of your own."""

    def decide(self, view: EngineView) -> EngineSteering:
        """The Steering for the state of an engine."""
        ...


class EngineAdapter(Protocol):
    """What an engine must have to be steered by a bundle.

    `sgym.export.vllm` is one. An engine in another language sends the JSON form of the view to
    `sgym serve` instead (`sgym.export.wire`).
    """

    def view(self) -> EngineView:
        """Its state, right before it forms a batch."""
        ...

    def apply(self, steering: EngineSteering) -> None:
        """Put a Steering into force: preempt, sort, set limits."""
        ...


def decide_for(engine: EngineAdapter, policy: Decides) -> EngineSteering:
    """One decision: from what the engine shows to what it does.

    Returns:
        What was applied.
    """
    steering = policy.decide(engine.view())
    engine.apply(steering)
    return steering
