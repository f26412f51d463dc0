"""Policies of sgym in vLLM V1, by its own hook for scheduler classes.

    SGYM_BUNDLE=zoo:chat_8b vllm serve MODEL --scheduler-cls sgym.export.vllm.SgymScheduler

`SgymScheduler` is vLLM's AsyncScheduler, `SgymSyncScheduler` its Scheduler (for
`--no-async-scheduling`), both with a Pilot at the controls: before a batch is formed, it asks the
policy if that is due, and puts what it says into force through what schedule() reads anyway. If the
policy fails, this is logged once, and vLLM schedules by itself from then on.

Written for, and compared with, vLLM 0.33.0, which says that this hook is not a stable interface.
vLLM is imported when one of the two classes is first asked for. `sgym.export.vllm.settings` says
what can be set, `sgym.export.slo` what clients may send.
"""

import importlib
from typing import TYPE_CHECKING, Any

from sgym.export.slo import Slo, slo_of
from sgym.export.vllm.in_force import InForce
from sgym.export.vllm.pilot import Pilot
from sgym.export.vllm.scheduler import SteeredScheduler, steered
from sgym.export.vllm.settings import Settings, settings_of

if TYPE_CHECKING:
    SgymScheduler: type[Any]
    SgymSyncScheduler: type[Any]

BASES = {
    "SgymScheduler": ("vllm.v1.core.sched.async_scheduler", "AsyncScheduler"),
    "SgymSyncScheduler": ("vllm.v1.core.sched.scheduler", "Scheduler"),
}

__all__ = [
    "InForce",
    "Pilot",
    "Settings",
    "SgymScheduler",
    "SgymSyncScheduler",
    "Slo",
    "SteeredScheduler",
    "settings_of",
    "slo_of",
    "steered",
]


def __getattr__(name: str) -> Any:
    """Make one of the two classes when it is asked for."""
    if name not in BASES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, base = BASES[name]
    made = steered(getattr(importlib.import_module(module), base), name, __name__)
    globals()[name] = made
    return made
