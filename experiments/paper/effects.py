"""Output delay and abandonment: what they do to the metrics, from the times of the tokens.

Two versions of each. *Others unchanged*: the times of one run are rewritten, so that only readers
differ. *System*: the engine itself drops requests, and what it saves goes to others.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sgym import Simulator
from sgym.core.layout import RUNNING, WAITING
from sgym.loading import load_scenario
from sgym.policies.steering import Steering
from sgym.simulator import Result

ALPHA = 2.5  # tokens lost per second of idle latency
Reader = dict[str, float]
READERS: dict[str, Reader] = {
    "paper": {"token_time": 0.2, "first_delay": 0.0, "alpha": ALPHA},
    "strict": {"token_time": 0.05, "first_delay": 0.5, "alpha": ALPHA},
}
"""A reader takes a token each `token_time` seconds after `first_delay`."""
TBT = {"200 ms": 0.2, "100 ms": 0.1}  # hard thresholds of the time between two tokens
CLOSE = 1e-6  # seconds: differences below are rounding


class Run(NamedTuple):
    """Tokens ordered by request and number; those of request r are first[r]:first[r + 1]."""

    arrival: np.ndarray  # seconds, (requests,)
    output: np.ndarray  # tokens that each is to have
    request: np.ndarray  # of each token
    number: np.ndarray  # from 1
    time: np.ndarray  # seconds
    first: np.ndarray
    end: float  # seconds


def run_of(result: Result) -> Run:
    """What a simulation delivered, with its log of tokens, for all that arrived."""
    state, end = result.state, result.window[1]
    log = state.tokens[: int(state.cluster[0]["num_tokens_logged"])]
    log = log[log["time"] <= end]
    log = log[np.argsort(log["request"], kind="stable")]
    arrived = state.requests[state.requests["arrival"] < end]
    first = np.searchsorted(log["request"], np.arange(len(arrived) + 1))
    return Run(
        arrived["arrival"].copy(),
        arrived["output"].copy(),
        log["request"],
        log["index"],
        log["time"],
        first,
        end,
    )


def kept(run: Run, chosen: np.ndarray, time: np.ndarray | None = None) -> Run:
    """A run in which only chosen tokens are delivered, at other times if given."""
    request = run.request[chosen]
    first = np.searchsorted(request, np.arange(len(run.arrival) + 1))
    times = (run.time if time is None else time)[chosen]
    return run._replace(request=request, number=run.number[chosen], time=times, first=first)


def running_maximum(run: Run, values: np.ndarray) -> np.ndarray:
    """The largest value so far of each token's request."""
    spacing = 2 * float(np.ptp(values)) + 1 if len(values) else 1.0
    steps = run.request * spacing  # so that the maximum starts anew with each request
    return np.maximum.accumulate(values + steps) - steps


def delayed(run: Run, threshold: float) -> Run:
    """Every token is held back until `threshold` seconds after the one before; none comes earlier.

    t'_i = max(t_i, t'_(i-1) + threshold), which needs no knowledge of the future.
    """
    pace = threshold * run.number
    times = running_maximum(run, run.time - pace) + pace
    return kept(run, times <= run.end, times)


def due(run: Run, request: np.ndarray, number: np.ndarray, reader: Reader) -> np.ndarray:
    """When a reader needs a token, seconds."""
    return run.arrival[request] + reader["first_delay"] + reader["token_time"] * number


def dropped(run: Run, reader: Reader) -> Run:
    """Every request ends at the first deadline that it misses; all others stay as they are."""
    late = run.time - due(run, run.request, run.number, reader)
    return kept(run, running_maximum(run, late) <= CLOSE)


def counts(run: Run) -> np.ndarray:
    """Tokens delivered, per request."""
    return np.diff(run.first)


def delivered_lateness(run: Run, reader: Reader) -> np.ndarray:
    """Worst lateness of a delivered token, per request: equation 9, at least 0; seconds."""
    late = running_maximum(run, run.time - due(run, run.request, run.number, reader))
    worst, some = np.zeros(len(run.arrival)), counts(run) > 0
    worst[some] = late[run.first[1:][some] - 1]
    return np.maximum(worst, 0.0)


def idle_latency(run: Run, reader: Reader) -> np.ndarray:
    """The same with the token that is overdue at the end, which has not come: sgym's choice."""
    count, requests = counts(run), np.arange(len(run.arrival))
    waits = run.end - due(run, requests, count + 1, reader)
    overdue = np.where(count < run.output, waits, 0.0)
    return np.maximum(delivered_lateness(run, reader), overdue)


Idle = Callable[[Run, Reader], np.ndarray]


def benefit(run: Run, reader: Reader, idle: Idle = idle_latency) -> np.ndarray:
    """Equation 10 with f(l) = l, per request; tokens."""
    return counts(run) - reader["alpha"] * idle(run, reader)


def on_time(run: Run, reader: Reader) -> np.ndarray:
    """Equation 1, per request: finished, and no token late."""
    return (counts(run) >= run.output) & (idle_latency(run, reader) <= CLOSE)


def meets_tbt(run: Run, threshold: float) -> np.ndarray:
    """No time between tokens above the threshold, so far; per request with a token."""
    count = counts(run)
    some = count > 0
    last = run.first[1:][some] - 1  # the last token of each
    gaps = np.append(np.diff(run.time), 0.0)
    gaps[last] = 0.0  # to the next request
    broken = np.bincount(run.request[gaps > threshold + CLOSE], minlength=len(count)) > 0
    waits = (count[some] < run.output[some]) & (run.end - run.time[last] > threshold + CLOSE)
    return ~(broken[some] | waits)


def without_missed(result: Result, reader: Reader) -> Result:
    """The same requests once more, on an engine that drops whoever has missed a deadline."""
    scenario = load_scenario(result.scenario, {"slo.classes": [reader]})
    simulator = Simulator(scenario, result.seed, track=False)
    decision = simulator.decision
    while decision.kind != "done":
        requests = simulator.state.requests
        phase = requests["phase"]
        missed = (requests["lateness"] > 0) | (requests["due"] < decision.time)
        reject = np.flatnonzero(missed & (phase == WAITING)).tolist()
        preempt = np.flatnonzero(missed & (phase == RUNNING)).tolist()
        # a running request has to wait before it can be rejected, at the next decision
        answer = Steering(reject=reject, preempt=preempt) if reject or preempt else None
        decision = simulator.step(answer)
    return simulator.result()


def effects(result: Result) -> dict[str, float]:
    """What is kept of a run with a log of tokens."""
    run = run_of(result)
    row: dict[str, float] = {}
    for label, threshold in TBT.items():
        row |= {f"{key} {label}": value for key, value in _delay(run, threshold).items()}
    for name, reader in READERS.items():
        row |= {f"{key} {name}": value for key, value in _abandonment(result, run, reader).items()}
    return row


def _delay(run: Run, threshold: float) -> dict[str, float]:
    later = delayed(run, threshold)
    row = {
        "tbt": float(meets_tbt(run, threshold).mean()),
        "delayed_tbt": float(meets_tbt(later, threshold).mean()),
        "delay_tokens": (len(later.time) - len(run.time)) / run.end,
    }
    for name, reader in READERS.items():
        change = benefit(later, reader) - benefit(run, reader)
        row[f"delay_change {name}"] = float(change.sum()) / run.end
        row[f"delay_best {name}"] = float(change.max())
    return row


def _abandonment(result: Result, run: Run, reader: Reader) -> dict[str, float]:
    fewer = dropped(run, reader)
    change = benefit(fewer, reader) - benefit(run, reader)
    literal = benefit(fewer, reader, delivered_lateness) - benefit(run, reader, delivered_lateness)
    met, still_met = on_time(run, reader), on_time(fewer, reader)
    system = without_missed(result, reader).summary
    return {
        "throughput": len(run.time) / run.end,
        "smooth_goodput": float(benefit(run, reader).sum()) / run.end,
        "attainment": float(met.mean()),
        "goodput": float(run.output[met].sum()) / run.end,
        "dropped_attainment": float(still_met.mean()),
        "dropped_goodput": float(run.output[still_met].sum()) / run.end,
        "drop_change": float(change.sum()) / run.end,
        "drop_best": float(change.max()),
        "literal_change": float(literal.sum()) / run.end,
        "literal_best": float(literal.max()),
        "system_smooth_goodput": system["smooth_goodput"],
        "system_attainment": system["slo_attainment"],
        "system_goodput": system["goodput_tok_s"],
    }
