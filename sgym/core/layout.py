"""The state of a simulated cluster as structured arrays: every field once, with its unit.

Glossary. A *request* has a prompt and will produce `output` tokens. *Prefill* computes the KV
entries of its known tokens, possibly in *chunks*; every later step is a *decode* of one token.
`known` = prompt + generated; `computed` of these have their KV in memory, held in *blocks*. One
*iteration* of an instance runs a *batch*. *Due* is when a reader needs the next token, *lateness*
how long the reader has waited for an overdue one, *dry* a reader who waits right now.
The *role* of an instance says if it decodes what it has prefilled: a *hand-off* moves the KV of
a finished prefill to another instance, a *migration* that of a decoding request, a *swap* moves it
to host memory and back. Indexes are -1 where there is none. Times are seconds since the start of
the window.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from sgym._jit import References, by_reference

NONE = -1
HOST = -2  # as a place of KV: the memory of the host
NEVER = 1e300  # seconds; a time that does not come


class Phase(IntEnum):
    """Where a request is in its life."""

    PENDING = 0  # has not arrived
    WAITING = 1
    RUNNING = 2
    FINISHED = 3
    REJECTED = 4  # by a policy
    REFUSED = 5  # by the engine: could never fit
    MOVING = 6  # prefilled and about to be handed off, or stopped while its KV is copied


PENDING, WAITING, RUNNING, FINISHED, REJECTED, REFUSED, MOVING = (int(phase) for phase in Phase)


class Decision(IntEnum):
    """What `advance` stopped for."""

    DONE = 0  # the horizon is reached or all work is done
    ROUTE = 1  # which instance takes `cluster.request`?
    SCHEDULE = 2  # how does `cluster.instance` form its next batch?
    FULL = 3  # no decision: the caller must enlarge logs and pools, and call again
    HANDOFF = 4  # `cluster.request` is prefilled on `cluster.instance`: where does it decode?


DONE, ROUTE, SCHEDULE, FULL, HANDOFF = (int(decision) for decision in Decision)


class Role(IntEnum):
    """What an instance is for."""

    MIXED = 0  # prefills and decodes
    PREFILL = 1  # hands a request off when its prefill is done
    DECODE = 2  # like MIXED, but routers do not offer it to arrivals


MIXED, PREFILL, DECODE = (int(role) for role in Role)


class Migration(IntEnum):
    """How a running request moves to another instance."""

    LIVE = 0  # copied in stages while it decodes, stopped for the last one (Llumnix)
    STOP_AND_COPY = 1  # stopped, copied, resumed
    RECOMPUTE = 2  # its KV is dropped and computed again there


class Transfer(IntEnum):
    """Why KV is on its way between instances."""

    HANDOFF = 0
    STAGE = 1  # of a live migration; the request goes on decoding
    LAST_STAGE = 2  # of a migration; the request has stopped


class Move(IntEnum):
    """A row of the log of moves."""

    HANDOFF = 0  # KV from a prefill to a decode instance
    MIGRATION = 1
    ABORT = 2  # of a migration
    PREEMPTION = 3  # recompute
    SWAP_OUT = 4
    SWAP_IN = 5
    REJECTION = 6
    ROLE = 7  # an instance changed its role; `request` is the new role


class Former(IntEnum):
    """Which engine forms the batch."""

    VLLM_V1 = 0
    VLLM_V0 = 1
    SARATHI = 2
    ORCA = 3
    SGLANG = 4


class Penalty(IntEnum):
    """The form f of the benefit n - alpha * f(lateness)."""

    IDENTITY = 0  # f(l) = l
    CAPPED = 1  # f(l) = min(l, cap)
    QUADRATIC = 2  # f(l) = l * l


class RewardKind(IntEnum):
    """Whose change is the reward of a step."""

    SMOOTH_GOODPUT = 0
    GOODPUT = 1
    THROUGHPUT = 2
    QOE = 3


# One request of a workload, before it is simulated. Sorted by arrival.
ARRIVAL = np.dtype(
    [
        ("arrival", np.float64),  # seconds
        ("prompt", np.int32),  # tokens
        ("output", np.int32),  # tokens; the true length, unknown to a fair policy
        ("predicted", np.float32),  # tokens; what a length predictor says, NaN = no prediction
        ("priority", np.int32),  # lower is served first (vLLM's convention)
        ("tenant", np.int32),  # for fairness between clients
        ("user_class", np.int32),  # index into the scenario's classes of users
        ("first_hash", np.int64),  # index into `hashes` of what its prompt shares with others
        ("num_hashes", np.int32),  # how many it has there; 0 = shares nothing
    ]
)

# A class of users, as the metric sees its readers.
READER = np.dtype(
    [
        ("token_time", np.float64),  # seconds per token: V of the metric
        ("weight", np.float64),  # value of a token
        ("alpha", np.float64),  # tokens lost per second of lateness, times weight
        ("first_delay", np.float64),  # seconds
        ("first_delay_per_prompt_token", np.float64),  # seconds
        ("lateness", np.float64),  # seconds; before the first token
        ("from_first_token", np.int64),  # 1: nothing is due before the first token
    ]
)

# What a simulation reads and writes all the time stands first, in cache lines (`_jit.LINE`) of
# fields that are used together: who looks for a waiting request needs the first one, an agent that
# sees it the second one too, and what happens to a running one all three.
REQUEST = np.dtype(
    [
        # --- its place in the queue, its work, and how long its reader will wait ---
        ("phase", np.int32),  # Phase
        ("held", np.int32),  # 1: preempted by a policy, not admitted before the next Steering;
        # 2: preempted by the engine in this pass, which may not admit it (vllm_v0)
        ("steering", np.int32),  # number of the Steering that gave it its scores
        ("instance", np.int32),
        ("other", np.int32),  # WAITING: where its KV lies; RUNNING: where it is copied to; or HOST
        ("prompt", np.int32),  # tokens
        ("generated", np.int32),  # tokens delivered so far
        ("computed", np.int32),  # tokens whose KV is in memory
        ("rank", np.int64),  # order among equal scores
        ("waiting_score", np.float64),  # Steering
        ("due", np.float64),  # seconds; when the next token is due
        ("lateness", np.float64),  # seconds; worst over the delivered tokens
        # --- what else is seen of it ---
        ("running_score", np.float64),  # Steering
        ("arrival", np.float64),  # seconds
        ("token_time", np.float64),  # seconds per token: V of the metric
        ("weight", np.float64),  # value of a token
        ("alpha", np.float64),  # tokens lost per second of lateness, times weight
        ("blocks", np.int32),  # KV blocks held on its instance
        ("preemptions", np.int32),
        ("priority", np.int32),
        ("predicted", np.float32),  # tokens; NaN = no prediction
        ("prefilling", np.int32),  # 1: running, and some known token is not yet scheduled
        ("output", np.int32),  # tokens
        # --- what happens to it in an iteration ---
        ("scheduled", np.int32),  # tokens in the iteration under way (async: in the newest one)
        ("placeholders", np.int32),  # async scheduling: tokens under way, not known yet
        ("dry", np.int32),  # 0: not overdue, 1: penalty grows, 2: penalty at its cap
        ("tracked", np.int32),  # 1: has an entry in the heap of dry times
        ("stays", np.int32),  # 1: was prefilled on a prefill instance and decodes there too
        ("left", np.int32),  # tree of waiting requests: request
        ("right", np.int32),  # request
        ("parent", np.int32),  # request
        ("last_token", np.float64),  # seconds; delivery of the newest token
        ("late_sum", np.float64),  # seconds; sum over tokens of the worst lateness so far
        ("longest_gap", np.float64),  # seconds; longest time between two tokens
        ("streamed", np.float64),  # seconds of its prefill in which KV could be sent layer by layer
        # --- its life ---
        ("first_delay", np.float64),  # seconds: D0 of the metric
        ("first_scheduled", np.float64),  # seconds; NaN before
        ("first_token", np.float64),  # seconds; NaN before
        ("finish", np.float64),  # seconds; NaN before
        ("tenant", np.int32),
        ("user_class", np.int32),
        ("recomputed", np.int32),  # tokens whose KV was computed more than once
        ("lost", np.int32),  # of these, tokens that the prefix cache may still have
        ("migrations", np.int32),
        ("swaps", np.int32),  # how often it was swapped out
        # --- KV on its way ---
        ("other_blocks", np.int32),  # KV blocks held there
        ("transfer", np.int32),  # its entry of `transfers`
        # --- async scheduling ---
        ("in_flight", np.int32),  # tokens in the iterations under way
        ("stale", np.int32),  # of these, tokens scheduled before it was preempted
        ("deferred", np.int32),  # 1: was passed over in the queue because of them
        # --- prefix caching ---
        ("num_hashes", np.int32),
        ("first_hash", np.int64),  # index into `hashes`
        ("cached", np.int32),  # tokens found in the prefix cache, over its life
        ("table", np.int32),  # its last block on its instance: entry of `tables`
        ("other_table", np.int32),  # same in the other place
        ("registered", np.int32),  # its leading blocks that others can find
        ("unused", np.int32, (6,)),  # up to whole cache lines
    ],
    align=True,
)

# Whom a waiting request stands between. It lies apart from REQUEST: a cache line has the links of
# eight requests, so that a walk along a queue does not wait for the memory of each in turn.
LINK = np.dtype(
    [
        ("next", np.int32),  # request, NONE = the last of its queue
        ("previous", np.int32),  # request, NONE = the first
    ]
)

# Limits of one engine; constant during an episode. One row per instance.
ENGINE = np.dtype(
    [
        ("swap_bandwidth", np.float64),  # bytes per second, each way
        ("link_bandwidth", np.float64),  # bytes per second of its network port, each way
        ("former", np.int32),  # Former
        ("role", np.int32),  # Role at the start
        ("max_num_seqs", np.int32),
        ("max_num_batched_tokens", np.int32),
        ("max_model_len", np.int32),  # tokens
        ("block_size", np.int32),  # tokens
        ("num_blocks", np.int32),  # usable KV blocks, without vLLM's null block
        ("watermark_blocks", np.int32),
        ("long_prefill_token_threshold", np.int32),  # tokens; 0 = none
        ("chunked_prefill", np.int32),  # 0 or 1
        ("reserve_full_isl", np.int32),  # 0 or 1
        ("by_priority", np.int32),  # 0 fcfs, 1 priority
        ("orca_reserve", np.int32),  # 0 max_model_len, 1 and 2 see config.Engine.orca_reserve
        ("prefix_caching", np.int32),  # 0 or 1
        ("async_scheduling", np.int32),  # 0 or 1
        ("swap", np.int32),  # 0: preemption drops KV, 1: swaps it to the host
        ("swap_overlap", np.int32),  # 1: copies run beside the computation
        ("host_blocks", np.int32),  # KV blocks that fit into host memory
        ("latency", np.int32),  # row of LATENCY
    ]
)

INSTANCE = np.dtype(
    [
        # --- Steering in force ---
        ("token_budget", np.int32),  # tokens per iteration
        ("active_cap", np.int32),  # running requests
        ("chunk_cap", np.int32),  # prefill tokens of one request per iteration; 0 = none
        ("reserve", np.int32),  # KV blocks that admission leaves free
        ("hold_prefill", np.int32),  # 0 or 1
        # --- state ---
        ("role", np.int32),  # Role
        ("next_role", np.int32),  # Role once its present work is done, NONE = no change
        ("busy", np.int32),  # iterations under way: 0 or 1, with async scheduling up to 2
        ("stalled", np.int32),  # 1: the batch behind the one under way was empty
        ("starved", np.int32),  # 1: the last batch was empty, and no other one is under way
        ("asked", np.int32),  # 1 while a SCHEDULE event is in the queue
        ("num_running", np.int32),
        ("num_waiting", np.int32),  # held ones included
        ("num_held", np.int32),  # of these, held by a policy
        ("num_deferred", np.int32),  # of these, passed over, see REQUEST
        ("ignores_holds", np.int32),  # 1: in this pass, as nothing runs and nothing else waits
        ("steerings", np.int32),  # number of the Steering in force
        ("num_scored", np.int32),  # waiting requests that are held or have a score other than 0
        ("running_scored", np.int32),  # 0: no running request has a score other than 0, 1: some do,
        # 2: some do, and all stand in the order of their scores
        ("waiting_root", np.int32),  # request, NONE = there is no tree now
        ("first_waiting", np.int32),  # request, NONE = nobody waits
        ("last_waiting", np.int32),  # request, NONE = nobody waits
        ("free_blocks", np.int32),
        ("free_host_blocks", np.int32),
        ("num_swapped", np.int32),  # waiting requests whose KV is on the host
        ("num_loading", np.int32),  # requests whose KV is on its way here; each has a seat
        ("num_leaving", np.int32),  # requests elsewhere whose KV, or part of it, still lies here
        ("migrating_out", np.int32),  # migrations under way from here
        ("migrating_in", np.int32),  # and to here
        ("num_out", np.int32),  # transfers that share its port outwards
        ("num_in", np.int32),  # and inwards
        ("leaving_blocks", np.int32),  # KV blocks of `free_blocks` still being swapped out
        ("swap_out_ends", np.float64),  # seconds; when the copies ordered so far are done
        ("swap_in_ends", np.float64),  # seconds
        ("prefill_backlog", np.int32),  # 1: the last unheld pass left prefill work behind
        ("batch_is_full", np.int32),  # sglang, 1: nobody is let in before somebody leaves
        ("num_seated", np.int32),  # sglang: running requests after the last pass
        ("new_token_ratio", np.float64),  # sglang: share reserved of what may still be generated
        ("front_rank", np.int64),
        ("back_rank", np.int64),
        ("waiting_tokens", np.int64),  # tokens to prefill, over the waiting requests
        # --- iteration under way ---
        ("start", np.float64),  # seconds
        ("duration", np.float64),  # seconds
        ("next_duration", np.float64),  # seconds; async scheduling: of the one behind it
        ("prefill_tokens", np.int32),
        ("decode_seqs", np.int32),
        ("num_prefills", np.int32),  # prefill chunks
        ("num_sampled", np.int32),  # sequences that get a token
        ("num_preempted", np.int32),  # while forming the batch
        ("kv_tokens", np.int64),  # KV entries of the batch, after this iteration
        ("decode_kv", np.int64),  # of these, of decoding sequences
        ("next_dry", np.float64),  # seconds; no running request runs dry before
        # --- sums over the episode ---
        ("iterations", np.int64),
        ("preemptions", np.int64),
        ("batched_tokens", np.int64),
        ("looked_up", np.int64),  # tokens whose KV admission looked for in the prefix cache
        ("found", np.int64),  # and of these, found
        ("busy_time", np.float64),  # seconds
        ("block_time", np.float64),  # used blocks times seconds
        ("running_time", np.float64),  # running requests times seconds
        ("sums_since", np.float64),  # seconds; up to when the three sums above are complete
    ],
    align=True,
)

# What a Steering says of one request.
STEERED = np.dtype(
    [
        ("request", np.int32),
        ("preempt", np.int32),  # 0 or 1
        ("reject", np.int32),  # 0 or 1
        ("migrate_to", np.int32),  # instance, NONE = stay
        ("waiting_score", np.float64),  # highest first; -inf = held
        ("running_score", np.float64),  # highest first; lowest is preempted first
    ],
    align=True,
)

GAP_BINS = 1664  # log-spaced bins of 1 % for times between tokens
GAP_MIN = 1e-4  # seconds; lower end of the first bin
GAP_RATIO = 1.01

CLUSTER = np.dtype(
    [
        ("clock", np.float64),  # seconds
        ("horizon", np.float64),  # seconds
        ("decision", np.int32),  # Decision
        ("instance", np.int32),  # the one that asks
        ("request", np.int32),  # the one to be routed
        ("num_requests", np.int32),
        ("num_instances", np.int32),
        ("next_arrival", np.int32),  # request
        ("num_unfinished", np.int32),  # requests that still need service, those to come included
        ("num_events", np.int32),  # entries of the event heap
        ("num_dry", np.int32),  # entries of the dry heap
        # --- network ---
        ("num_transfers", np.int32),  # entries of `transfers` in use
        ("layerwise", np.int32),  # 1: KV is sent layer by layer while the prefill computes
        ("num_layers", np.int32),
        ("kv_bytes", np.float64),  # bytes of a token's KV
        ("link_latency", np.float64),  # seconds
        ("transfers_since", np.float64),  # seconds; up to when `remaining` is complete
        ("next_transfer", np.float64),  # seconds; when the first transfer ends, NEVER = none
        ("migration", np.int32),  # Migration
        ("migration_stages", np.int32),  # most copies before a live migration gives up
        ("migration_last_blocks", np.int32),  # below so many blocks to copy, the request stops
        ("max_migrations", np.int32),  # of an instance at a time, out and in
        ("hash_block", np.int32),  # tokens of a prompt that one entry of `hashes` stands for
        ("noise_counter", np.int64),  # of random.uniform
        ("router_counter", np.int64),  # same
        ("policy_counter", np.int64),  # same
        # --- metric ---
        ("track", np.int32),  # 1: keep B current (needed for rewards), 0: only per request
        ("penalty", np.int32),  # Penalty
        ("penalty_cap", np.float64),  # seconds
        ("scale_by_tokens", np.int32),  # 1: f is multiplied by the tokens delivered
        ("from_first_token", np.int32),  # 1: deadlines count from the first token
        ("clamp", np.int32),  # 1: no lateness is below 0
        ("reward_kind", np.int32),  # RewardKind
        ("earned", np.float64),  # weighted tokens delivered
        ("settled", np.float64),  # penalty of requests that are not accruing
        ("accruing", np.int64),  # number of dry requests whose penalty grows
        ("dry_w", np.float64),  # sums over these of w, w*c and w*c*c, c = due
        ("dry_wc", np.float64),
        ("dry_wcc", np.float64),
        ("kept", np.float64),  # weighted tokens of finished requests that were never late
        ("qoe", np.float64),  # sum of the QoE of finished requests
        # --- counts ---
        ("iterations", np.int64),
        ("handoffs", np.int64),
        ("migrations", np.int64),
        ("aborted", np.int64),  # migrations that failed
        ("transferred", np.float64),  # bytes between instances
        ("swapped", np.float64),  # bytes between GPUs and hosts, both ways
        ("num_tokens_logged", np.int64),
        ("num_iterations_logged", np.int64),
        ("num_batches_logged", np.int64),
        ("num_moves_logged", np.int64),
        ("num_tables", np.int32),  # entries of `tables` ever used
        ("free_table", np.int32),  # first of those free again
        ("num_free_tables", np.int32),  # how many are free again
        ("last_gap", np.float64),  # seconds; the newest time between two tokens
        ("last_bin", np.int32),  # of the histogram: that of the newest gap
        ("last_count", np.int64),  # those in that bin which are not in the histogram yet
        ("gaps", np.int64, (GAP_BINS,)),  # histogram of the times between tokens
    ],
    align=True,
)

# KV on its way from one instance to another.
TRANSFER = np.dtype(
    [
        ("request", np.int32),
        ("kind", np.int32),  # Transfer
        ("source", np.int32),  # instance
        ("target", np.int32),  # instance
        ("tokens", np.int32),  # of a migration: KV entries that are there once it is done
        ("stage", np.int32),  # of a live migration, from 1
        ("active", np.int32),  # 1: uses bandwidth, 0: all sent, latency to go
        ("start", np.float64),  # seconds
        ("ends", np.float64),  # seconds; when it arrives, NEVER while it sends
        ("remaining", np.float64),  # bytes
        ("rate", np.float64),  # bytes per second
    ],
    align=True,
)

# A KV block of an instance with prefix caching.
BLOCK = np.dtype(
    [
        ("key", np.int64),  # what it holds, see core.prefix; NONE = nothing that can be found
        ("uses", np.int32),  # requests that hold it
        ("next_free", np.int32),  # block; list of free blocks, next to be taken first
        ("previous_free", np.int32),  # block
        ("chained", np.int32),  # block; next one in the same bucket of the hash table
    ]
)

# A request's list of blocks, from the last one to the first.
TABLE = np.dtype([("block", np.int32), ("before", np.int32)])

# A request in an iteration under way (async scheduling); one with request = NONE ends the list.
AHEAD = np.dtype([("request", np.int32), ("tokens", np.int32), ("samples", np.int32)])

# An entry of a binary heap, ordered by (time, kind, index).
EVENT = np.dtype([("time", np.float64), ("kind", np.int32), ("index", np.int32)])

CURVE = 128  # points of a one-dimensional table
GRID = 32  # points per axis of a two-dimensional table

# How long an iteration takes: a line plus measured tables. Unused points repeat the last one.
LATENCY = np.dtype(
    [
        ("base", np.float64),  # seconds per iteration
        ("per_prefill_token", np.float64),  # seconds
        ("per_decode_seq", np.float64),  # seconds
        ("per_kv_token", np.float64),  # seconds per KV entry read
        ("noise", np.float64),  # standard deviation of the logarithm of a multiplicative factor
        ("num_tokens", np.int32),  # points in use of the next two
        ("tokens", np.float64, (CURVE,)),  # tokens in the batch
        ("tokens_time", np.float64, (CURVE,)),  # seconds: GEMMs, norms, all-reduce
        ("num_seqs", np.int32),
        ("seqs", np.float64, (CURVE,)),  # sequences that sample a token
        ("seqs_time", np.float64, (CURVE,)),  # seconds: lm_head, sampler
        ("num_chunks", np.int32),
        ("num_prefixes", np.int32),
        ("chunk", np.float64, (GRID,)),  # prefill tokens of one request
        ("prefix", np.float64, (GRID,)),  # its KV entries before
        (
            "prefill_time",
            np.float64,
            (GRID, GRID),
        ),  # seconds: attention of the chunk, [chunk, prefix]
        ("num_batches", np.int32),
        ("num_contexts", np.int32),
        ("batch", np.float64, (GRID,)),  # decoding sequences
        ("context", np.float64, (GRID,)),  # their mean KV entries
        ("decode_time", np.float64, (GRID, GRID)),  # seconds: attention, [batch, context]
    ],
    align=True,
)

# --- optional logs -------------------------------------------------------------------------------
TOKEN = np.dtype([("request", np.int32), ("index", np.int32), ("time", np.float64)])  # seconds

ITERATION = np.dtype(
    [
        ("instance", np.int32),
        ("prefill_tokens", np.int32),
        ("decode_seqs", np.int32),
        ("num_running", np.int32),
        ("num_waiting", np.int32),
        ("free_blocks", np.int32),
        ("kv_tokens", np.int64),
        ("start", np.float64),  # seconds
        ("duration", np.float64),  # seconds
    ],
    align=True,
)

# One request in one iteration; tokens = 0 marks a victim of preemption.
BATCHED = np.dtype(
    [
        ("iteration", np.int64),
        ("request", np.int32),
        ("tokens", np.int32),
        ("computed", np.int32),  # KV entries before
    ],
    align=True,
)


# What happened to a request (or to the role of an instance) outside of a batch.
MOVE = np.dtype(
    [
        ("kind", np.int32),  # Move
        ("request", np.int32),
        ("source", np.int32),  # instance, or HOST
        ("target", np.int32),  # instance, or HOST
        ("tokens", np.int32),  # KV entries moved or dropped
        ("start", np.float64),  # seconds
        ("end", np.float64),  # seconds
    ],
    align=True,
)


class Arrays(NamedTuple):
    """The arrays of a State."""

    requests: np.ndarray  # REQUEST (num_requests,), sorted by arrival
    links: np.ndarray  # LINK (at least num_requests,): the waiting queues
    engines: np.ndarray  # ENGINE (num_instances,)
    instances: np.ndarray  # INSTANCE (num_instances,)
    cluster: np.ndarray  # CLUSTER (1,)
    running: np.ndarray  # int32 (num_instances, most max_num_seqs): requests, in budget order
    events: np.ndarray  # EVENT heap
    dry: np.ndarray  # EVENT heap of requests by the time they run dry
    latency: np.ndarray  # LATENCY (number of profiles,)
    transfers: np.ndarray  # TRANSFER pool
    hashes: np.ndarray  # int64: what prompts share, see core.prefix
    blocks: np.ndarray  # BLOCK (num_instances, most num_blocks + 1); empty = no prefix caching
    buckets: np.ndarray  # int32 (num_instances, a power of 2): first block of each bucket
    tables: np.ndarray  # TABLE pool
    ahead: np.ndarray  # AHEAD (num_instances, 2, most max_num_seqs + 1); or nothing, without async
    tokens: np.ndarray  # TOKEN log; empty = not logged
    iterations: np.ndarray  # ITERATION log; empty = not logged
    batches: np.ndarray  # BATCHED log; empty = not logged
    moves: np.ndarray  # MOVE log; empty = not logged


class State(References, Arrays):
    """Everything that changes during an episode; copying the arrays copies the simulation."""


by_reference(
    State,
    {
        "requests": (REQUEST, 1),
        "links": (LINK, 1),
        "engines": (ENGINE, 1),
        "instances": (INSTANCE, 1),
        "cluster": (CLUSTER, 1),
        "running": (np.dtype(np.int32), 2),
        "events": (EVENT, 1),
        "dry": (EVENT, 1),
        "latency": (LATENCY, 1),
        "transfers": (TRANSFER, 1),
        "hashes": (np.dtype(np.int64), 1),
        "blocks": (BLOCK, 2),
        "buckets": (np.dtype(np.int32), 2),
        "tables": (TABLE, 1),
        "ahead": (AHEAD, 3),
        "tokens": (TOKEN, 1),
        "iterations": (ITERATION, 1),
        "batches": (BATCHED, 1),
        "moves": (MOVE, 1),
    },
)
