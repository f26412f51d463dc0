"""How an engine, in Python, is steered: it shows itself and takes what it is told."""

from typing import Any, Protocol

from sgym.export.view import EngineSteering, EngineView


class Decides(Protocol):
    """What answers: a PolicyRuntime, or a policy of your own."""

    def decide(self, view: EngineView) -> EngineSteering | None:
        """The Steering for the state of an engine; None = all stays as it is."""
        ...


class EngineAdapter(Protocol):
    """What an engine must have to be steered by a bundle.

    `sgym.export.vllm.Pilot` is one. An engine in another language sends the JSON form of the view
    to `sgym serve` instead (`sgym.export.wire`).
    """

    def view(self) -> EngineView:
        """Its state, right before it forms a batch."""
        ...

    def apply(self, steering: EngineSteering) -> Any:
        """Put a Steering into force: preempt, sort, set limits."""
        ...
