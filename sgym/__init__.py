"""sgym: the Gymnasium environment in which schedulers for LLM serving are designed.

Names are loaded when they are asked for: an engine that imports `sgym.export.runtime` has numpy
and onnxruntime, but neither numba nor a simulator.
"""

import contextlib
import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgym.comparison import Comparison, compare
    from sgym.config import Scenario
    from sgym.errors import SgymError
    from sgym.export import simulate
    from sgym.loading import load_scenario
    from sgym.policies import HOLD, Policy, Steering
    from sgym.simulator import Decision, Result, Simulator

__version__ = "0.1.0"

_MODULES = {
    "HOLD": "policies",
    "Comparison": "comparison",
    "Decision": "simulator",
    "Policy": "policies",
    "Result": "simulator",
    "Scenario": "config",
    "SgymError": "errors",
    "Simulator": "simulator",
    "Steering": "policies",
    "compare": "comparison",
    "load_scenario": "loading",
    "simulate": "export",
}

__all__ = [
    "HOLD",
    "Comparison",
    "Decision",
    "Policy",
    "Result",
    "Scenario",
    "SgymError",
    "Simulator",
    "Steering",
    "compare",
    "load_scenario",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f"{__name__}.{name}")  # `import sgym; sgym.config`
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


with contextlib.suppress(ModuleNotFoundError):  # an engine that runs a policy may lack it
    import gymnasium

    for _name in ("Colocated", "Disaggregated", "Router"):
        if f"sgym/{_name}-v0" not in gymnasium.registry:  # else imported again, after a reload
            gymnasium.register(
                f"sgym/{_name}-v0",
                entry_point=f"sgym.envs:{_name}Env",
                vector_entry_point=f"sgym.envs:{_name}VectorEnv",
            )
