"""Environments: the simulation as Gymnasium sees it."""

from sgym.envs.colocated import ColocatedEnv
from sgym.envs.disaggregated import DisaggregatedEnv
from sgym.envs.router import RouterEnv
from sgym.envs.vector import (
    ColocatedVectorEnv,
    DisaggregatedVectorEnv,
    RouterVectorEnv,
    ServingVectorEnv,
)
from sgym.envs.wrappers import MaskInObs

__all__ = [
    "ColocatedEnv",
    "ColocatedVectorEnv",
    "DisaggregatedEnv",
    "DisaggregatedVectorEnv",
    "MaskInObs",
    "RouterEnv",
    "RouterVectorEnv",
    "ServingVectorEnv",
]
