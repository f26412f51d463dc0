"""sgym: the Gymnasium environment in which schedulers for LLM serving are designed."""

import gymnasium

from sgym.comparison import Comparison, compare
from sgym.config import Scenario
from sgym.errors import SgymError
from sgym.export import simulate
from sgym.loading import load_scenario
from sgym.policies import HOLD, Policy, Steering
from sgym.simulator import Decision, Result, Simulator

__version__ = "0.1.0"

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

for _name in ("Colocated", "Disaggregated", "Router"):
    if f"sgym/{_name}-v0" not in gymnasium.registry:  # else imported again, after a reload
        gymnasium.register(
            f"sgym/{_name}-v0",
            entry_point=f"sgym.envs:{_name}Env",
            vector_entry_point=f"sgym.envs:{_name}VectorEnv",
        )
