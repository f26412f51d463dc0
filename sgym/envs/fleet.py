"""Environments side by side, as arrays: what one kernel call steps. A single one is a fleet of one.

A *lane* is one of them: a simulation, its desk, a row in each of these arrays.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sgym._jit import References, addresses, by_reference, reader
from sgym.core.layout import State
from sgym.envs.desk import Desk

ACT, GO_ON, BEGIN, SHOW, REST = range(5)
"""Tasks of a lane: carry out an action, go on after FULL, begin an episode, only look, nothing."""

LANE = np.dtype(
    [
        ("task", np.int32),
        ("decision", np.int32),  # what the simulation stopped for
        ("drained", np.int32),  # 1: all requests are served
        ("invalid", np.int32),  # parts of the last action that did not apply
        ("reward", np.float64),  # of the last step
        ("time", np.float64),  # seconds; now
        ("dt", np.float64),  # seconds since the last decision
    ],
    align=True,
)


class FleetArrays(NamedTuple):
    """The arrays of a Fleet of N lanes."""

    states: np.ndarray  # (N,), see addresses: the State of each
    desks: np.ndarray  # (N,), and the Desk
    lanes: np.ndarray  # LANE (N,)
    actions: np.ndarray  # float64 (N, numbers of an action)
    requests: np.ndarray  # float32 (N, K * F): what is seen
    instances: np.ndarray  # float32 (N, I * G)
    cluster: np.ndarray  # float32 (N, H)
    masks: np.ndarray  # int8 (N, entries of the flat action mask)


class Fleet(References, FleetArrays):
    """Where lanes are, what they are told, and what they show."""


by_reference(
    Fleet,
    {
        "states": (np.dtype(np.int64), 1),
        "desks": (np.dtype(np.int64), 1),
        "lanes": (LANE, 1),
        "actions": (np.dtype(np.float64), 2),
        "requests": (np.dtype(np.float32), 2),
        "instances": (np.dtype(np.float32), 2),
        "cluster": (np.dtype(np.float32), 2),
        "masks": (np.dtype(np.int8), 2),
    },
)

state_at, desk_at = reader(State), reader(Desk)


def fresh_fleet(
    state: State, desk: Desk, count: int, widths: Mapping[str, int], action: int, mask: int
) -> Fleet:
    """A fleet whose lanes rest, all at one state and desk.

    Args:
        state: where each lane points to at first.
        desk: likewise.
        count: lanes.
        widths: numbers of each part of the observation.
        action: numbers of an action.
        mask: entries of the flat action mask.
    """
    lanes = np.zeros(count, LANE)
    lanes["task"] = REST
    return Fleet(
        states=addresses([state] * count),
        desks=addresses([desk] * count),
        lanes=lanes,
        actions=np.zeros((count, action)),
        **{part: np.zeros((count, width), np.float32) for part, width in widths.items()},
        masks=np.zeros((count, mask), np.int8),
    )
