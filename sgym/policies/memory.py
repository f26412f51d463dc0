"""What policies remember, as fixed-layout arrays: copying them copies a policy in mid-episode."""

import math
from typing import NamedTuple

import numpy as np

from sgym._jit import References, by_reference, clear, kernel
from sgym.core.build import with_slack
from sgym.core.layout import INSTANCE, NONE, State

# Which built-in policies decide, and their parameters. Meaning of each parameter: see registry.
POLICY = np.dtype(
    [
        ("kind", np.int32),  # scheduler
        ("router", np.int32),  # which instance takes an arrival
        ("handoff", np.int32),  # which instance decodes a finished prefill
        ("system", np.int32),  # which decides over the whole cluster, see rules
        ("migration", np.int32),  # 1: running requests move to other instances
        ("staleness", np.float64),  # seconds between the reports on which the router relies
        ("aging", np.float64),  # tokens per second
        ("reservation", np.float64),  # share of the expected remaining output kept free
        ("expected_output", np.float64),  # tokens
        ("prefill_time", np.float64),  # seconds per prompt token
        ("prompt_weight", np.float64),
        ("output_weight", np.float64),
        ("starvation", np.float64),  # iterations or seconds without service, see registry
        ("period", np.float64),  # iterations
        ("pressure", np.float64),  # share of KV blocks in use
        ("horizon", np.float64),  # seconds or tokens, see registry
        ("token_latency", np.float64),  # seconds
        ("floor", np.float64),  # tokens
        ("quantum", np.float64),  # seconds
        ("batch", np.float64),  # requests
        ("prompt_tokens", np.float64),
        # --- systems over a cluster ---
        ("prefill_batch", np.float64),  # tokens of several prompts in an iteration
        ("waiting_share", np.float64),  # of KV blocks, of what was pulled and is not in yet
        ("max_pending", np.float64),  # tokens
        ("max_local_prefill", np.float64),  # tokens
        ("ttft_target", np.float64),  # seconds until the first token
        ("tpot_target", np.float64),  # seconds per output token
        ("rejection", np.float64),  # see mooncake
        ("decode_time", np.float64),  # seconds
        ("expand", np.float64),  # load of decoding
        ("shrink", np.float64),  # load of either phase
        ("interval", np.float64),  # seconds
        ("sustained", np.float64),  # intervals
        ("cooldown", np.float64),  # seconds
        ("poll", np.float64),  # seconds
        ("threshold", np.float64),  # KV blocks per request
        ("pairing", np.float64),  # see llumnix
        ("moves", np.float64),  # see llumnix
    ]
)

# A client of vtc: its virtual counter.
CLIENT = np.dtype(
    [("counter", np.float64), ("tag", np.float64), ("queued", np.int64), ("was_queued", np.int64)]
)

# A request, as its scheduler sees it.
REQUEST_MEMO = np.dtype(
    [
        ("level", np.int32),  # queue of a multi-level feedback queue, 0 = served first
        ("boosted", np.int32),  # iterations for which it still goes before others
        ("picked", np.int64),  # 1: among those that the present decision serves
        ("charged", np.int32),  # 1: its client has paid for its prompt
        ("ran", np.int64),  # iteration of its instance that last served it
        ("place", np.int64),  # among those of its level, lowest first
        ("used", np.float64),  # seconds of service in its level
        ("served", np.float64),  # seconds; end of the last iteration that served it
        ("prefill_time", np.float64),  # seconds; what its prefill was estimated to take
    ]
)

# An instance, as its scheduler and systems over a cluster see it.
INSTANCE_MEMO = np.dtype(
    [
        ("iterations", np.int64),  # decisions so far
        ("solved", np.int64),  # the one at which the last selection was made
        ("front", np.int64),  # counter of places in front of a queue
        ("back", np.int64),  # and at its back
        ("reported", np.float64),  # seconds; of its entry in `Memory.reports`
        ("freeness", np.float64),  # at the last pairing for migration
        ("side", np.int32),  # of that pairing: -1 sends requests away, 1 takes some, 0 neither
        ("target", np.int32),  # instance to which it sends one, NONE = none
    ]
)

# Numbers of which a policy has one.
POLICY_MEMO = np.dtype(
    [
        ("num_outputs", np.int64),  # output lengths ever written to `history`
        ("handoffs", np.int64),  # so far, for taking turns
        ("rejects", np.int32),  # 1: the request that is being routed is to be refused
        ("overloaded", np.int32),  # checks in a row that found too much decoding
        ("next_check", np.float64),  # seconds; when the system looks at the cluster again
        ("flipped", np.float64),  # seconds; when a prefill instance last became another
    ]
)

HISTORY = 200  # finished requests whose output lengths are remembered
LISTS = 5  # samples of what the running requests may still generate


class MemoryArrays(NamedTuple):
    """The arrays of a Memory."""

    clients: np.ndarray  # CLIENT (tenants,)
    requests: np.ndarray  # REQUEST_MEMO (num_requests or more,)
    instances: np.ndarray  # INSTANCE_MEMO (num_instances,)
    reports: np.ndarray  # INSTANCE (num_instances,): as last reported to the routers
    history: np.ndarray  # int32 (HISTORY,): output lengths of finished requests, a ring
    ordered: np.ndarray  # int32 (HISTORY,): the same, ascending
    samples: np.ndarray  # int64 (LISTS, seats + 1, 2), work: tokens held, tokens to come
    policy: np.ndarray  # POLICY_MEMO (1,)


class Memory(References, MemoryArrays):
    """Everything that the built-in policies remember between decisions."""


by_reference(
    Memory,
    {
        "clients": (CLIENT, 1),
        "requests": (REQUEST_MEMO, 1),
        "instances": (INSTANCE_MEMO, 1),
        "reports": (INSTANCE, 1),
        "history": (np.dtype(np.int32), 1),
        "ordered": (np.dtype(np.int32), 1),
        "samples": (np.dtype(np.int64), 3),
        "policy": (POLICY_MEMO, 1),
    },
)


def fresh_memory(state: State, last: Memory | None = None) -> Memory:
    """The memory of policies that have seen nothing yet of this simulation.

    Args:
        state: at its start.
        last: of another simulation of the same instances, to be written over; none = new memory.
    """
    tenants, count = int(state.requests["tenant"].max(initial=0)) + 1, len(state.requests)
    memory = last
    if memory is None or len(memory.requests) < count or len(memory.clients) != tenants:
        memory = Memory(
            clients=np.empty(tenants, CLIENT),
            requests=np.empty(count if last is None else with_slack(count), REQUEST_MEMO),
            instances=np.empty(len(state.instances), INSTANCE_MEMO),
            reports=np.empty(len(state.instances), INSTANCE),
            history=np.empty(HISTORY, np.int32),
            ordered=np.empty(HISTORY, np.int32),
            samples=np.empty((LISTS, state.running.shape[1] + 1, 2), np.int64),
            policy=np.empty(1, POLICY_MEMO),
        )
    forget(memory)
    return memory


@kernel
def forget(memory: Memory) -> None:
    """Write what a memory starts with."""
    clear(memory.clients)
    clear(memory.requests)
    clear(memory.instances)
    clear(memory.reports)
    clear(memory.history)
    clear(memory.ordered)
    clear(memory.samples)
    clear(memory.policy)
    for memo in memory.instances:
        memo["reported"] = -math.inf
        memo["target"] = NONE
