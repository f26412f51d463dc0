"""The JSON form of an EngineView and an EngineSteering, for engines in any language.

A request is `State`; its answer is `Answer`. `schema()` gives both as JSON Schema. Scores come one
per request, in the order of `running` and then `waiting`; null is a hold: not admitted before the
next decision.
"""

import math
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sgym.errors import PolicyError
from sgym.export.slo import Slo
from sgym.export.view import (
    NEVER,
    NO_LATENESS,
    REQUEST_ROW,
    EngineLimits,
    EngineSteering,
    EngineView,
)

USUAL = Slo()
MAX_REQUESTS = 65536
"""Most requests in one state."""

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Message(BaseModel):
    """Unknown fields are errors, so that a wrong name does not go unnoticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Request(Message):
    """One request; times on the clock of `State.now`."""

    id: str | int = Field(description="what the engine calls it")
    arrival: Seconds = Field(description="seconds")
    prompt: Annotated[int, Field(ge=1)] = Field(description="tokens")
    generated: Count = Field(default=0, description="tokens delivered")
    computed: Count = Field(default=0, description="known tokens with KV in memory")
    blocks: Count = Field(default=0, description="KV blocks that it holds")
    preemptions: Count = Field(default=0, description="how often it was preempted")
    token_time: Positive = Field(
        default=USUAL.token_time, description="s/token: in which its reader reads one"
    )
    first_delay: Amount = Field(
        default=USUAL.first_delay, description="seconds granted before the first token"
    )
    alpha: Amount = Field(
        default=USUAL.alpha, description="tokens lost per second of lateness, times weight"
    )
    weight: Positive = Field(default=USUAL.weight, description="worth of one of its tokens")
    due: Seconds | None = Field(
        default=None,
        description="seconds; when its reader needs the next token; null: arrival + first_delay + "
        "token_time * (generated + 1)",
    )
    lateness: Seconds | None = Field(
        default=0.0, description="seconds; worst over its tokens so far; null: none counts yet"
    )
    priority: float = Field(default=0.0, allow_inf_nan=False, description="lower first")
    predicted: Amount | None = Field(default=None, description="tokens of its answer, if foreseen")
    prefilling: bool = Field(default=False, description="it runs, its prompt is not done yet")


class Limits(Message):
    """What does not change while the engine runs; see view.EngineLimits."""

    max_num_seqs: Annotated[int, Field(ge=1)]
    max_num_batched_tokens: Annotated[int, Field(ge=1)]
    num_blocks: Annotated[int, Field(ge=1)] = Field(description="usable KV blocks")
    block_size: Annotated[int, Field(ge=1)] = 16
    chunked_prefill: bool = True
    watermark_blocks: Count = 0
    penalty_cap: Positive | None = Field(default=None, description="seconds; null: none")
    scale_by_tokens: bool = False


class State(Message):
    """The state of one engine that is about to form a batch; see view.EngineView."""

    now: Seconds = Field(description="seconds, on any clock that does not jump")
    limits: Limits
    running: Annotated[tuple[Request, ...], Field(max_length=MAX_REQUESTS)] = Field(
        default=(), description="in the engine's order: the last one is preempted first"
    )
    waiting: Annotated[tuple[Request, ...], Field(max_length=MAX_REQUESTS)] = Field(
        default=(), description="in the order of the queue"
    )
    free_blocks: Count = Field(description="KV blocks")
    duration: Amount = Field(default=0.0, description="seconds of the last iteration")
    prefill_tokens: Count = Field(default=0, description="of the last batch")
    decode_seqs: Count = Field(default=0, description="of the last batch")
    num_preempted: Count = Field(default=0, description="while the last batch was formed")
    kv_tokens: Count = Field(default=0, description="KV entries of the last batch")
    token_budget: Annotated[int, Field(ge=1)] | None = Field(default=None, description="in force")
    active_cap: Annotated[int, Field(ge=1)] | None = Field(default=None, description="in force")
    chunk_cap: Count = Field(default=0, description="in force; 0 = none")
    reserve: Count = Field(default=0, description="in force; KV blocks")
    reasons: Count = Field(default=0, description="why it asks; sum of the bits of export.trigger")
    decided: Seconds = Field(default=0.0, description="seconds; when it asked before")
    overdue: Amount | None = Field(default=None, description="of a cluster of engines; null: own")
    loss: Amount | None = Field(default=None, description="tokens/s, of a cluster; null: own")

    @model_validator(mode="after")
    def _consistent(self) -> "State":
        if self.free_blocks > self.limits.num_blocks:
            raise ValueError(
                f"free_blocks is {self.free_blocks}, must be at most limits.num_blocks, "
                f"{self.limits.num_blocks}"
            )
        seen: set[str | int] = set()
        for request in (*self.running, *self.waiting):
            if request.id in seen:
                raise ValueError(f"id {request.id!r} is there twice: each request has its own")
            seen.add(request.id)
        return self


class Answer(Message):
    """What the engine shall do; see view.EngineSteering."""

    waiting_score: tuple[float | None, ...] = Field(
        description="admission, highest first: one per request, those of `running` and then those "
        "of `waiting`; null: held"
    )
    running_score: tuple[float, ...] = Field(
        description="lowest is preempted first: one per request, in the same order"
    )
    preempt: tuple[str | int, ...] = Field(description="ids, before the batch is formed")
    token_budget: int
    active_cap: int
    chunk_cap: int
    reserve: int
    hold_prefill: bool


def view_of(message: bytes | str) -> EngineView:
    """The view that a JSON text describes.

    Raises:
        PolicyError: it is no such JSON; names the field, the value and the rule.
    """
    try:
        state = State.model_validate_json(message)
    except ValidationError as error:
        raise PolicyError(_said(error)) from None
    except RecursionError:
        raise PolicyError("state: nested too deeply, it must be one object of `State`") from None
    requests = (*state.running, *state.waiting)
    rows = np.zeros(len(requests), REQUEST_ROW)
    for row, request in zip(rows, requests, strict=True):
        _fill(row, request)
    rest = state.model_dump(exclude={"limits", "running", "waiting"})
    limits = state.limits.model_dump()
    if limits["penalty_cap"] is None:
        limits["penalty_cap"] = math.inf
    return EngineView(
        **rest,
        limits=EngineLimits(**limits),
        rows=rows,
        num_running=len(state.running),
        ids=[request.id for request in requests],
    )


def _fill(row: np.void, request: Request) -> None:
    due, late = request.due, request.lateness
    if due is None:
        due = request.arrival + request.first_delay
        due += request.token_time * (request.generated + 1)
    row["due"] = min(due, NEVER)
    row["lateness"] = NO_LATENESS if late is None else late
    row["predicted"] = math.nan if request.predicted is None else request.predicted
    row["prefilling"] = request.prefilling
    row["alpha"] = request.alpha * request.weight
    for name in PLAIN:
        row[name] = getattr(request, name)


PLAIN = tuple(
    name
    for name in REQUEST_ROW.names or ()
    if name not in ("due", "lateness", "predicted", "prefilling", "alpha")
)
"""Fields of a row that a Request has as they are."""


def answer_to(view: EngineView, steering: EngineSteering) -> Answer:
    """The message for a Steering."""
    waiting = [None if score == -math.inf else score for score in steering.waiting_score.tolist()]
    return Answer(
        waiting_score=tuple(waiting),
        running_score=tuple(steering.running_score.tolist()),
        preempt=tuple(view.ids[row] for row in np.flatnonzero(steering.preempt).tolist()),
        token_budget=int(steering.token_budget),
        active_cap=int(steering.active_cap),
        chunk_cap=int(steering.chunk_cap),
        reserve=int(steering.reserve),
        hold_prefill=bool(steering.hold_prefill),
    )


def schema() -> dict[str, Any]:
    """Both messages as JSON Schema."""
    return {"state": State.model_json_schema(), "answer": Answer.model_json_schema()}


def _said(error: ValidationError) -> str:
    found = []
    for one in error.errors(include_url=False)[:3]:
        where = ".".join(str(part) for part in one["loc"]) or "state"
        shown = repr(one.get("input"))
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        told = one["type"] == "value_error"  # the message has the value
        found.append(f"{where}: {one['msg']}" + ("" if told else f", got {shown}"))
    more = error.error_count() - len(found)
    rest = f"; and {more} more" if more > 0 else ""
    return "; ".join(found) + rest + ": the form stands in GET /about, as JSON Schema"
