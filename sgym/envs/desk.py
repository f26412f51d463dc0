"""What an environment keeps beside the simulation, as arrays: copying them copies it."""

from typing import NamedTuple

import numpy as np

from sgym._jit import References, by_reference
from sgym.core.layout import STEERED
from sgym.envs.features import Columns
from sgym.policies.memory import POLICY, Memory
from sgym.policies.trigger import TRIGGER

ACTIONS = ("slots", "scores", "knobs", "index")
"""Names of the actions that schedule; their places are the `action` of a SETTINGS."""
PLACING = "route"
"""The action that only says which instance takes a request; its `action` is ROUTING."""
SLOTS, SCORES, KNOBS, INDEX, ROUTING = range(5)

# What a step needs to know and to remember.
SETTINGS = np.dtype(
    [
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
        ("aging", np.float64),  # tokens per second, of the ordering spf
        ("start", np.float64),  # seconds; of the window
        ("duration", np.float64),  # seconds; T of the reward
        ("before", np.float64),  # potential at the last reward
        ("last_time", np.float64),  # seconds; of the last decision handed out
    ],
    align=True,
)

# The ordering that `knobs` last put into force on an instance, so that it need not sort again.
IN_FORCE = np.dtype([("ordering", np.int32), ("preemptions", np.int64)], align=True)


class DeskArrays(NamedTuple):
    """The arrays of a Desk."""

    settings: np.ndarray  # SETTINGS (1,)
    policy: np.ndarray  # POLICY (1,): decides what the agent does not
    memory: Memory  # what it remembers
    triggers: np.ndarray  # TRIGGER (num_instances,)
    in_force: np.ndarray  # IN_FORCE (num_instances,)
    slots: np.ndarray  # int32 (num_slots,): requests shown, NONE = empty
    destinations: np.ndarray  # int32 (num_instances,): 1 = may be named in the present decision
    prefill_times: np.ndarray  # float64 (num_instances,): seconds per prompt token
    request_columns: Columns  # of F features
    instance_columns: Columns  # of G features
    cluster_columns: Columns  # of H features
    raw: np.ndarray  # float64, work: numbers before scaling
    rows: np.ndarray  # float64 (ABREAST + 1 times the most), work: those of requests
    steered: np.ndarray  # STEERED (2 * num_slots + 1,), work


class Desk(References, DeskArrays):
    """What belongs to one lane. Columns are constant, work arrays hold nothing between steps."""

    def sharing_work(self, other: "Desk") -> "Desk":
        """This desk with the work arrays of another one, which is not at work at the same time."""
        return self.replaced(raw=other.raw, rows=other.rows, steered=other.steered)


by_reference(
    Desk,
    {
        "settings": (SETTINGS, 1),
        "policy": (POLICY, 1),
        "memory": Memory,
        "triggers": (TRIGGER, 1),
        "in_force": (IN_FORCE, 1),
        "slots": (np.dtype(np.int32), 1),
        "destinations": (np.dtype(np.int32), 1),
        "prefill_times": (np.dtype(np.float64), 1),
        "request_columns": Columns,
        "instance_columns": Columns,
        "cluster_columns": Columns,
        "raw": (np.dtype(np.float64), 1),
        "rows": (np.dtype(np.float64), 1),
        "steered": (STEERED, 1),
    },
)
