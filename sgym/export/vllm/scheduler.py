"""What both scheduler classes do beside vLLM's own: tell the pilot, and let it steer."""

from collections.abc import Iterable
from typing import Any

from sgym.export.vllm.controls import Controls, controls_of
from sgym.export.vllm.pilot import Pilot
from sgym.export.vllm.settings import Settings, settings_of


class SteeredScheduler:
    """Stands before a scheduler of vLLM among the bases of a class; see `steered`.

    Args:
        given: of vLLM's scheduler.
        named: same; `vllm_config` among them.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        config: Any = getattr(self, "vllm_config", None)
        settings = settings_of(getattr(config, "additional_config", None))
        self.pilot = Pilot(self, self.controls(settings), settings)

    def controls(self, settings: Settings) -> Controls:
        """The policy that the settings name."""
        return controls_of(settings.bundle)

    def schedule(self, throttle_prefills: bool = False) -> Any:
        """Form a batch, as the policy says."""
        return self.pilot.schedule(self._form, throttle_prefills)

    def _form(self, throttle_prefills: bool) -> Any:
        base: Any = super()
        return base.schedule(throttle_prefills)

    def add_request(self, request: Any) -> None:
        """Queue a request."""
        base: Any = super()
        base.add_request(request)
        self.pilot.guard(self.pilot.note_arrival, request)

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """A batch has ended."""
        base: Any = super()
        outputs = base.update_from_output(scheduler_output, model_runner_output)
        self.pilot.guard(self.pilot.note_output, scheduler_output, outputs)
        return outputs

    def finish_requests(self, request_ids: str | Iterable[str] | None, finished_status: Any) -> Any:
        """Requests are aborted from outside."""
        base: Any = super()
        gone = base.finish_requests(request_ids, finished_status)
        self.pilot.guard(self.pilot.note_gone, [request.request_id for request in gone])
        return gone


def steered(base: type, name: str, module: str) -> type:
    """A scheduler class of vLLM with a pilot.

    Args:
        base: vLLM's.
        name: of the new class.
        module: where it can be imported from, as other processes do.
    """
    doc = f"vLLM's {base.__name__}, steered by a policy of sgym."
    return type(name, (SteeredScheduler, base), {"__module__": module, "__doc__": doc})
