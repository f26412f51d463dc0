"""How an engine shows itself to an exported policy, and what it is told.

An engine fills an EngineView each time it asks, and gets an EngineSteering whose arrays are aligned
with the rows of the view: entry k is about the request of row k. Nothing here knows of any engine,
and nothing is imported but numpy.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

NEVER = 1e300
"""Seconds; a time that does not come: nothing is due before the first token, say."""
NO_LATENESS = -NEVER
"""Seconds; before the first token where lateness may be negative."""
HOLD = -math.inf
"""A waiting score that keeps a request from being admitted until the next decision."""

REQUEST_ROW = np.dtype(
    [
        ("arrival", np.float64),  # seconds, on the clock of `EngineView.now`
        ("prompt", np.float64),  # tokens
        ("generated", np.float64),  # tokens delivered so far
        ("computed", np.float64),  # of prompt + generated: tokens with KV in memory, at most all
        ("blocks", np.float64),  # KV blocks that it holds
        ("preemptions", np.float64),  # how often it was preempted, by the engine or by the policy
        ("due", np.float64),  # seconds; when its reader needs the next token: ReaderClock.due
        ("lateness", np.float64),  # seconds; worst over delivered tokens: ReaderClock.lateness
        ("token_time", np.float64),  # seconds per token: V of its reader
        ("alpha", np.float64),  # tokens lost per second of lateness: the client's alpha * weight
        ("weight", np.float64),  # worth of one of its tokens
        ("priority", np.float64),  # lower is served first (vLLM's convention)
        ("predicted", np.float64),  # tokens: predicted length of its output; NaN = no prediction
        ("prefilling", np.float64),  # 1: it runs, and its newest batch left a known token out
    ]
)
"""One request as an engine shows it. All are float64, which holds counts exactly, so that a table
of rows is a matrix too: `matrix_of`. An engine may keep one row per request, change only what
changes, and gather the rows in order (`table[order]`) when it asks."""
NUM_FIELDS = len(REQUEST_ROW.names or ())


def matrix_of(rows: np.ndarray) -> np.ndarray:
    """Rows as float64 (num_rows, NUM_FIELDS), columns in the order of REQUEST_ROW; no copy.

    Args:
        rows: REQUEST_ROW (num_rows,); one that is not contiguous is copied.
    """
    return np.ascontiguousarray(rows).view(np.float64).reshape(len(rows), NUM_FIELDS)


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Limits of an engine, which do not change while it runs.

    Attributes:
        max_num_seqs: most running requests.
        max_num_batched_tokens: most tokens of an iteration.
        num_blocks: usable KV blocks, without vLLM's null block.
        block_size: tokens of a KV block.
        chunked_prefill: whether prompts are split over iterations.
        watermark_blocks: KV blocks that admission leaves free; only the trigger `admission` asks.
        penalty_cap: seconds of lateness beyond which a reader loses nothing more, as in the
            scenario's `slo.penalty_cap` where `slo.penalty` is `capped`; infinite = no cap.
        scale_by_tokens: `slo.scale_by_tokens`: losses are multiplied by the tokens delivered.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    num_blocks: int
    block_size: int = 16
    chunked_prefill: bool = True
    watermark_blocks: int = 0
    penalty_cap: float = math.inf
    scale_by_tokens: bool = False


@dataclass(slots=True)
class EngineView:
    """The state of one engine that is about to form a batch. Each attribute says what vLLM has.

    Attributes:
        now: seconds; the engine's clock, the one of arrivals and of token times. It must start
            near 0 with the engine: scores tell times apart up to a million seconds, so an engine
            that runs longer moves the origin (of `arrival` and `due` too) when it is idle.
        limits: what does not change.
        rows: REQUEST_ROW (num_rows,): the running requests in the engine's order (the last one is
            preempted first), then the waiting ones in the order of the queue; those that are held
            are among them, where the sort has put them: HOLD last, preempted ones in front.
        num_running: rows that run: len(running).
        free_blocks: KV blocks: block_pool.get_num_free_blocks().
        duration: seconds that the last finished iteration took; 0 before the first. Measured.
        prefill_tokens: of the last batch: its tokens that are no decodes. Scheduler output.
        decode_seqs: of the last batch: requests that computed one token after the first. Same.
        num_preempted: requests that the engine preempted while it formed the last batch; those
            that a Steering preempted do not count.
        kv_tokens: KV entries of the requests of the last batch, after it: the sum of `computed`.
        token_budget: in force, as last said by the policy; None = max_num_batched_tokens.
        active_cap: same; None = max_num_seqs.
        chunk_cap: same; tokens, 0 = none.
        reserve: same; KV blocks.
        reasons: why the policy is asked, bits of `sgym.export.trigger`: EventTrigger.reasons.
        decided: seconds; when the policy was last asked here: EventTrigger.decided.
        overdue: requests of the whole cluster whose readers wait longer than ever before; None =
            those of `rows`, which is right where the engine is alone and has refused nobody: in
            training, readers of requests that could never fit counted too, until the end.
        loss: tokens/s; what these lose; None = as above.
        ids: what the engine calls the requests, one per row; only `EngineSteering.named` reads it.
    """

    now: float
    limits: EngineLimits
    rows: np.ndarray
    num_running: int
    free_blocks: int
    duration: float = 0.0
    prefill_tokens: int = 0
    decode_seqs: int = 0
    num_preempted: int = 0
    kv_tokens: int = 0
    token_budget: int | None = None
    active_cap: int | None = None
    chunk_cap: int = 0
    reserve: int = 0
    reasons: int = 0
    decided: float = 0.0
    overdue: float | None = None
    loss: float | None = None
    ids: Any = None

    @property
    def num_waiting(self) -> int:
        """Rows that wait, held ones included."""
        return len(self.rows) - self.num_running

    @property
    def is_short(self) -> bool:
        """Memory pressure: fewer free blocks than running requests."""
        return self.free_blocks < self.num_running


@dataclass(slots=True)
class EngineSteering:
    """What `sgym.policies.Steering` says, with an array entry per row of the view.

    Scores, caps and holds stay in force and are applied again in every iteration until the next
    decision; preempt acts once, and holds the request until then. Order: preempt, sort, form the
    batch. Sorts are stable and highest first; what arrives later has score 0. A request needs both
    scores, because it may change queues before the next decision.

    Attributes:
        waiting_score: float64 (num_rows,): admission order; HOLD (-inf) = not now.
        running_score: float64 (num_rows,): budget order; the lowest is preempted first.
        preempt: bool (num_rows,): preempt before the batch is formed.
        token_budget: tokens of an iteration, at most max_num_batched_tokens.
        active_cap: most running requests, at most max_num_seqs.
        chunk_cap: most prefill tokens of one request per iteration; 0 = no cap.
        reserve: KV blocks that admission leaves free while something runs.
        hold_prefill: defer prefill while something decodes.
    """

    waiting_score: np.ndarray
    running_score: np.ndarray
    preempt: np.ndarray
    token_budget: int
    active_cap: int
    chunk_cap: int = 0
    reserve: int = 0
    hold_prefill: bool = False

    def running_order(self, num_running: int) -> np.ndarray:
        """Rows of the running requests, highest score first; equal ones stay as they are."""
        return np.argsort(-self.running_score[:num_running], kind="stable")

    def waiting_order(self, num_running: int) -> np.ndarray:
        """Rows of the waiting requests, highest score first, held ones last."""
        return num_running + np.argsort(-self.waiting_score[num_running:], kind="stable")

    def named(self, ids: Any) -> dict[str, Any]:
        """Keyword arguments of `sgym.policies.Steering`, requests named by `ids`, one per row."""
        keys = list(ids)
        waiting = dict(zip(keys, self.waiting_score.tolist(), strict=True))
        running = dict(zip(keys, self.running_score.tolist(), strict=True))
        return {
            "waiting_score": {key: score for key, score in waiting.items() if score != 0.0},
            "running_score": {key: score for key, score in running.items() if score != 0.0},
            "preempt": [keys[row] for row in np.flatnonzero(self.preempt).tolist()],
            "token_budget": self.token_budget,
            "active_cap": self.active_cap,
            "chunk_cap": self.chunk_cap,
            "reserve": self.reserve,
            "hold_prefill": self.hold_prefill,
        }
