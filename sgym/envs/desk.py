"""What an environment keeps beside the simulation, as arrays: copying them copies it."""

from typing import NamedTuple

import numpy as np

from sgym.policies.memory import Memory, copied

ACTIONS = ("slots", "scores", "knobs", "index")
"""Names of the actions that schedule; their places are the `action` of a SETTINGS."""
PLACING = "route"
"""The action that only says which instance takes a request; its `action` is ROUTING."""
SLOTS, SCORES, KNOBS, INDEX, ROUTING = range(5)

ACT, GO_ON, BEGIN, SHOW = range(4)
"""Tasks of `loop.step`: carry out an action, go on after FULL, begin an episode, only look."""

# What a step needs to know and to remember.
SETTINGS = np.dtype(
    [
        ("task", np.int32),  # of `loop.step`
        ("action", np.int32),
        ("schedules", np.int32),  # 0 or 1: the agent says how batches are formed
        ("routes", np.int32),  # 0 or 1: which instance takes an arrival
        ("hands_off", np.int32),  # 0 or 1: which instance decodes a finished prefill
        ("migrates", np.int32),  # 0 or 1: which requests move to another instance
        ("num_verbs", np.int32),  # of a slot
        ("num_destinations", np.int32),  # instances that an action can name; 0 = it names none
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
    policy: np.ndarray  # POLICY (1,): decides what the agent does not
    memory: Memory  # what it remembers
    triggers: np.ndarray  # TRIGGER (num_instances,)
    in_force: np.ndarray  # IN_FORCE (num_instances,)
    slots: np.ndarray  # int32 (num_slots,): requests shown, NONE = empty
    destinations: np.ndarray  # int32 (num_instances,): 1 = may be named in the present decision
    prefill_times: np.ndarray  # float64 (num_instances,): seconds per prompt token
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
