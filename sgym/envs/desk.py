"""What an environment keeps beside the simulation, as arrays: copying them copies it."""

from typing import NamedTuple

import numpy as np

from sgym.policies.memory import Memory, copied

ACTIONS = ("slots", "scores", "knobs", "index")
"""Names of the action spaces; their places are the `action` of a SETTINGS."""
SLOTS, SCORES, KNOBS, INDEX = range(4)

# What a step needs to know and to remember.
SETTINGS = np.dtype(
    [
        ("action", np.int32),
        ("allow_reject", np.int32),  # 0 or 1
        ("base", np.int32),  # ordering that `index` starts from
        ("reservation", np.float64),  # of the base: share of the expected output kept free
        ("expected_output", np.float64),  # tokens
        ("start", np.float64),  # seconds; of the window
        ("duration", np.float64),  # seconds; T of the reward
        ("before", np.float64),  # potential at the last reward
        ("last_time", np.float64),  # seconds; of the last decision handed out
        # --- the step that was just taken ---
        ("reward", np.float64),
        ("invalid", np.int64),  # parts of the action that did not apply
    ],
    align=True,
)

# The ordering that `knobs` last put into force on an instance, so that it need not sort again.
IN_FORCE = np.dtype([("ordering", np.int32), ("preemptions", np.int64)], align=True)


class Desk(NamedTuple):
    """Arrays of one environment. Columns are constant, work arrays hold nothing between steps."""

    settings: np.ndarray  # SETTINGS (1,)
    policy: np.ndarray  # POLICY (1,): the router
    memory: Memory  # the router's
    triggers: np.ndarray  # TRIGGER (num_instances,)
    in_force: np.ndarray  # IN_FORCE (num_instances,)
    slots: np.ndarray  # int32 (num_slots,): requests shown, NONE = empty
    request_columns: np.ndarray  # COLUMN (F,)
    instance_columns: np.ndarray  # COLUMN (G,)
    cluster_columns: np.ndarray  # COLUMN (H,)
    raw: np.ndarray  # float64, work: numbers before scaling
    steered: np.ndarray  # STEERED (num_requests,), work


def copy_of(desk: Desk) -> Desk:
    """A copy that shares nothing."""
    settings, policy, memory, *others = desk
    rest = (array.copy() for array in others)
    return Desk(settings.copy(), policy.copy(), copied(memory), *rest)
