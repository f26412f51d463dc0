"""sgym: the Gymnasium environment in which schedulers for LLM serving are designed."""

from sgym.config import Scenario, load_scenario
from sgym.errors import SgymError
from sgym.policies import HOLD, Policy, Steering
from sgym.simulator import Decision, Result, Simulator, simulate

__version__ = "0.1.0"

__all__ = [
    "HOLD",
    "Decision",
    "Policy",
    "Result",
    "Scenario",
    "SgymError",
    "Simulator",
    "Steering",
    "load_scenario",
    "simulate",
]
