"""What the slow simulator is made of: requests, engines, instances, rows of its logs.

Times are seconds, lengths tokens, memory blocks of `block_size` tokens.
"""

import math
from dataclasses import dataclass, field
from typing import Any

NEVER = math.inf
HOST = -2  # as a place of KV: the memory of the host


@dataclass(eq=False)
class Request:
    """A request and what has happened to it so far."""

    index: int
    arrival: float  # seconds
    prompt: int  # tokens
    output: int  # tokens it asks for
    priority: int = 0  # lower is served first
    # --- the reader ---
    token_time: float = 0.2  # V, seconds per token
    first_delay: float = 0.0  # D0, seconds
    alpha: float = 2.5  # tokens lost per second of lateness
    weight: float = 1.0
    # --- state ---
    phase: str = "pending"  # pending, waiting, running, moving, finished, rejected, refused
    instance: int = -1
    final: int = 0  # tokens it will really produce
    computed: int = 0  # tokens whose KV is in memory, those of the iteration under way included
    blocks: int = 0  # on its instance
    other: int | None = None  # another place with KV of it: an instance, or HOST
    other_blocks: int = 0  # there
    stays: bool = False  # was prefilled on a prefill instance and decodes there too
    streamed: float = 0.0  # seconds of iterations that prefilled it since it was admitted here
    prefilling: bool = False  # its last scheduled chunk did not reach the end of what is known
    waiting_score: float = 0.0
    running_score: float = 0.0
    held: bool = False  # preempted by a Steering, not to be admitted
    preemptions: int = 0
    recomputed: int = 0  # tokens whose KV was lost
    migrations: int = 0
    swaps: int = 0
    swap_number: int = 0  # of its last swap, counted over all requests; 0 = its KV is not there
    tokens: list[float] = field(default_factory=list)  # delivery times

    @property
    def known(self) -> int:
        """Tokens of prompt and output that exist."""
        return self.prompt + len(self.tokens)

    @property
    def left(self) -> int:
        """Known tokens without KV."""
        return self.known - self.computed


@dataclass(frozen=True)
class Engine:
    """Limits of an instance, under the names of a scenario's `engine` section."""

    former: str = "vllm_v1"  # vllm_v1, vllm_v0, sarathi, orca
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 16384
    block_size: int = 16
    num_gpu_blocks: int = 1001  # one of them is vLLM's null block
    watermark: float | None = None
    long_prefill_token_threshold: int = 0
    enable_chunked_prefill: bool = True
    scheduler_reserve_full_isl: bool = True
    scheduling_policy: str = "fcfs"  # or priority
    orca_reserve: str = "max_len"  # or pow2, oracle
    preemption_mode: str = "recompute"  # or swap
    swap_space: float = 4.0  # GiB of host memory
    swap_bandwidth: float = 25e9  # bytes per second, each way
    swap_overlap: bool = False
    latency: tuple[float, float, float, float] = (0.008, 1e-4, 5e-5, 2e-8)  # see `duration`

    @property
    def usable_blocks(self) -> int:
        return self.num_gpu_blocks - 1

    @property
    def watermark_blocks(self) -> int:
        default = 0.01 if self.former in ("vllm_v0", "sarathi") else 0.0
        share = default if self.watermark is None else self.watermark
        total = self.num_gpu_blocks if self.former == "vllm_v1" else self.usable_blocks
        return int(share * total)  # V1 counts its null block, the others have none

    def blocks(self, tokens: int) -> int:
        return math.ceil(tokens / self.block_size)

    def duration(self, prefill_tokens: int, decode_seqs: int, kv_tokens: int) -> float:
        """Seconds of an iteration; `kv_tokens` is the KV of the batch after it."""
        a, b, c, d = self.latency
        return a + b * prefill_tokens + c * decode_seqs + d * kv_tokens

    def reservation(self, request: Request, output: int) -> int:
        """Blocks that orca sets aside for a request with so much output."""
        total = min(request.prompt + output, self.max_model_len)
        if self.orca_reserve == "max_len":
            total = self.max_model_len
        elif self.orca_reserve == "pow2":
            total = min(2 ** math.ceil(math.log2(total)), self.max_model_len)
        return self.blocks(total)

    def space(self, request: Request) -> int:
        """Blocks for a request that comes with its KV."""
        if self.former == "orca":
            return self.reservation(request, request.output)
        return self.blocks(request.known)

    def can_ever_run(self, request: Request) -> bool:
        """Whether the request fits an empty instance, again after every preemption."""
        return self.can_run(request, request.output)

    def can_run_so_far(self, request: Request) -> bool:
        """The same if its next token is its last: what can be known before it is."""
        return self.can_run(request, len(request.tokens) + 1)

    def can_run(self, request: Request, output: int) -> bool:
        if request.prompt >= self.max_model_len:
            return False
        longest = min(request.prompt + output, self.max_model_len) - 1
        need, room = self.blocks(longest), self.usable_blocks
        if self.former == "orca":
            need = self.reservation(request, output)
        if self.former != "vllm_v1":  # vLLM V1 has no watermark while nothing runs
            room -= self.watermark_blocks
        whole = self.former in ("vllm_v1", "vllm_v0") and not self.enable_chunked_prefill
        return need <= room and not (whole and longest > self.max_num_batched_tokens)


@dataclass(frozen=True)
class Machine:
    """An engine and its place in the cluster."""

    engine: Engine
    role: str = "mixed"  # mixed, prefill, decode
    bandwidth: float = 50e9  # bytes per second of its network port, each way


@dataclass(frozen=True)
class Cluster:
    """What the instances share, under the names of a scenario's `cluster` section."""

    kv_bytes: float = 131072.0  # of a token
    num_layers: int = 32
    latency: float = 5e-6  # seconds before what was sent is there
    layerwise: bool = False
    mode: str = "live"  # of a migration; or stop_and_copy, recompute
    stages: int = 3
    last_blocks: int = 16
    concurrent: int = 1


@dataclass(eq=False)
class Instance:
    """One engine: its queues and the Steering in force."""

    index: int
    engine: Engine
    role: str
    free: int  # blocks
    free_host: int  # blocks
    next_role: str | None = None  # once its present work is done
    waiting: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)
    loading: list[Request] = field(default_factory=list)  # on their way here; each has a seat
    batch: dict[int, int] = field(default_factory=dict)  # request -> tokens, under way
    end: float = NEVER  # seconds; of the iteration under way
    asked: bool = False  # something happened here since it last tried to form a batch
    backlog: bool = False  # the last pass over the waiting that was not held left some
    victims: list[int] = field(default_factory=list)  # preempted by the engine in this iteration
    steering: dict[str, Any] = field(default_factory=dict)
    ignores_holds: bool = False  # in this pass: nothing runs and nothing else waits
    swap_out_ends: float = 0.0  # seconds; when the copies ordered so far are done
    swap_in_ends: float = 0.0
    swapped_in: list[tuple[float, Request]] = field(default_factory=list)  # beside computation
    leaving_blocks: int = 0  # of the free ones, still being copied out
    iterations: int = 0
    preemptions: int = 0

    @property
    def has_nothing(self) -> bool:
        """No request runs, waits or is on its way here."""
        return not (self.running or self.waiting or self.loading)


@dataclass
class Iteration:
    """A row of the log; counts are those right after the batch was formed."""

    instance: int
    start: float
    duration: float
    batch: list[tuple[int, int, int]]  # request, tokens, computed before
    victims: list[int]
    prefill_tokens: int
    decode_seqs: int
    kv_tokens: int
    num_running: int
    num_waiting: int
    free_blocks: int


@dataclass(frozen=True)
class Move:
    """What happened outside of a batch."""

    kind: str  # handoff, migration, abort, preemption, swap_out, swap_in, rejection, role
    request: int  # or the number of the new role
    source: int
    target: int
    tokens: int  # KV entries
    start: float
    end: float
