"""Whole episodes of many environments at once, as fast as the kernels go."""

from collections.abc import Callable, Sequence

import numpy as np

from sgym.envs.features import TABLES
from sgym.envs.fleet import ACT
from sgym.envs.lanes import Lanes

Choose = Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]
"""From what N environments show, and their masks (N, L), to actions (N, numbers)."""


def play(lanes: Lanes, seeds: Sequence[int], choose: Choose) -> np.ndarray:
    """Smooth goodput of an episode in each lane.

    Args:
        lanes: as many as seeds.
        seeds: of the workloads.
        choose: what to do.

    Returns:
        float64 (N,), tokens/s.
    """
    fleet = lanes.fleet
    for k, seed in enumerate(seeds):
        lanes.begin(k, int(seed))
    lanes.run()
    total = np.zeros(lanes.count)
    begun = np.zeros(lanes.count, np.bool_)
    while True:
        going = ~lanes.over | ~begun  # an episode without a decision ends on its first step
        if not going.any():
            return total
        begun[:] = True
        seen = {table: getattr(fleet, table) for table in TABLES}
        actions = choose(seen, fleet.masks)
        fleet.actions[:] = actions.reshape(fleet.actions.shape)
        fleet.lanes["task"][going] = ACT
        lanes.run()
        total[going] += fleet.lanes["reward"][going]
