"""What readers notice of a migration or a preemption, from the times of tokens."""

from typing import NamedTuple

import numpy as np

from sgym.core.layout import FINISHED, Move
from sgym.simulator import Result

ALPHA = 2.5  # tokens lost per second of idle latency
TBT = 0.2  # seconds: hard threshold of the time between two tokens
OUTCOMES = ("neither", "hard", "dry", "both")


class Reader(NamedTuple):
    """Token i is due `first_delay + i * token_time` seconds after the arrival."""

    token_time: float
    first_delay: float


READERS = {"paper": Reader(0.2, 0.0), "strict": Reader(0.05, 0.5)}


class Deliveries(NamedTuple):
    """Tokens ordered by request and index; those of request r are first[r]:first[r + 1]."""

    request: np.ndarray
    index: np.ndarray  # from 1
    time: np.ndarray  # seconds
    first: np.ndarray


def deliveries(result: Result) -> Deliveries:
    """The log of tokens, by request."""
    state = result.state
    log = state.tokens[: int(state.cluster[0]["num_tokens_logged"])]
    log = log[np.argsort(log["request"], kind="stable")]
    first = np.searchsorted(log["request"], np.arange(len(state.requests) + 1))
    return Deliveries(log["request"], log["index"], log["time"], first)


def due(arrival, index, reader: Reader):
    """When a reader needs a token, seconds."""
    return arrival + reader.first_delay + reader.token_time * index


def worst_lateness(sent: Deliveries, arrival: np.ndarray, reader: Reader) -> np.ndarray:
    """Idle latency of its request up to each token, seconds."""
    late = sent.time - due(arrival[sent.request], sent.index, reader)
    spacing = 2 * float(np.ptp(late)) + 1 if len(late) else 1.0
    steps = sent.request * spacing  # so that the running maximum starts anew with each request
    return np.maximum(np.maximum.accumulate(late + steps) - steps, 0.0)


def idle_latency(result: Result, sent: Deliveries, reader: Reader) -> np.ndarray:
    """Idle latency of every request at the end of the run, seconds (accruing)."""
    requests = result.state.requests
    count = np.diff(sent.first)
    idle = np.zeros(len(requests))
    some = count > 0
    worst = worst_lateness(sent, requests["arrival"], reader)
    idle[some] = worst[sent.first[1:][some] - 1]
    waits = result.window[1] - due(requests["arrival"], count + 1, reader)
    return np.where(requests["phase"] == FINISHED, idle, np.maximum(idle, waits))


def smooth_goodput(result: Result, sent: Deliveries, reader: Reader) -> float:
    """What the run earns with readers of this kind, tokens per second (equation 11)."""
    earned = np.diff(sent.first) - ALPHA * idle_latency(result, sent, reader)
    return float(earned[result.state.requests["arrival"] < result.window[1]].sum()) / float(
        result.window[1]
    )


def on_time(result: Result, sent: Deliveries, reader: Reader) -> float:
    """Share of requests without a late token, of those that are finished or late."""
    late = idle_latency(result, sent, reader) > 1e-9
    decided = late | (result.state.requests["phase"] == FINISHED)
    return float((decided & ~late).sum() / max(int(decided.sum()), 1))


def events(result: Result, sent: Deliveries, kind: Move) -> dict[str, float]:
    """What was noticed of all moves of a kind that happened between two tokens of an answer.

    Returns:
        `num`, `gap` (median seconds between the token before and the token after), and for each
        reader how often only the hard threshold was broken (`hard`), only the reader ran dry, so
        that idle latency rose (`dry`), `both`, or `neither`.
    """
    state, end = result.state, result.window[1]
    moves = state.moves[: int(state.cluster[0]["num_moves_logged"])]
    moves = moves[moves["kind"] == int(kind)]
    arrivals = state.requests["arrival"]
    worst = {name: worst_lateness(sent, arrivals, reader) for name, reader in READERS.items()}
    gaps = []
    counts = {f"{name}_{what}": 0.0 for name in READERS for what in OUTCOMES}
    for r, start in zip(moves["request"].tolist(), moves["start"].tolist(), strict=True):
        low, high = int(sent.first[r]), int(sent.first[r + 1])
        place = low + int(np.searchsorted(sent.time[low:high], start, side="right"))
        if place == low:
            continue  # nobody reads yet
        following = float(sent.time[place]) if place < high else end  # at least
        gaps.append(following - float(sent.time[place - 1]))
        for name, reader in READERS.items():
            needed = due(float(arrivals[r]), place - low + 1, reader)
            dry = following - needed > worst[name][place - 1]
            counts[f"{name}_{OUTCOMES[(gaps[-1] > TBT) + 2 * bool(dry)]}"] += 1
    return {"num": float(len(gaps)), "gap": float(np.median(gaps)) if gaps else np.nan, **counts}
