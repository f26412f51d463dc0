"""Environments: the simulation as Gymnasium sees it."""

from sgym.envs.colocated import ColocatedEnv
from sgym.envs.wrappers import MaskInObs

__all__ = ["ColocatedEnv", "MaskInObs"]
