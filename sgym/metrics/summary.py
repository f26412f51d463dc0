"""One flat dict of floats that sums up a window of simulated time; the units are in the names.

A request *counts* in a window if it arrived before the window's end and had not finished before its
start: exactly those whose benefit can change in the window, rejected and unfinished ones included.
Times between tokens and the sums over the engines cover the window alone.
"""

from typing import NamedTuple

import numpy as np

from sgym.config import Slo
from sgym.core import layout
from sgym.metrics import experience
from sgym.metrics.gains import Gains, gains
from sgym.metrics.smooth import Floats, has_arrived, idle_latency
from sgym.metrics.statistics import (
    NAN,
    Columns,
    jain_index,
    mean,
    percentiles,
    share_of,
    time_between_tokens,
)

GAP_MIDDLES = layout.GAP_MIN * layout.GAP_RATIO ** (np.arange(layout.GAP_BINS, dtype=float) + 0.5)
"""Geometric middles of the bins of CLUSTER.gaps, seconds."""


class Baseline(NamedTuple):
    """What was already there when the window started: `summarize` subtracts it."""

    benefit: Floats  # weighted tokens per class of users
    tokens: int  # delivered
    recomputed: int  # tokens
    gaps: np.ndarray  # histogram of the times between tokens
    engines: Columns


def baseline(state: layout.State, slo: Slo, at: float) -> Baseline:
    """The baseline of a window that starts at `at` seconds, from the state at that moment."""
    return Baseline(
        benefit=gains(state.requests, (at, at), slo).benefit,
        tokens=int(state.requests["generated"].sum()),
        recomputed=int(state.requests["recomputed"].sum()),
        gaps=_gap_counts(state),
        engines=_engine_sums(state, at),
    )


def summarize(
    state: layout.State,
    slo: Slo,
    window: tuple[float, float],
    baseline: Baseline | None = None,
) -> Columns:
    """Sum up a window.

    Args:
        state: the simulation at the end of the window.
        slo: the metric.
        window: start and end, seconds.
        baseline: from `baseline()`, for a window after a warm start; None = nothing was before.

    Returns:
        flat dict; a percentile or mean over nothing is NaN.
    """
    before = baseline
    seconds = window[1] - window[0]
    columns = request_columns(state.requests, slo, window, before)
    gaps = _gap_counts(state) - (before.gaps if before else 0)
    columns |= time_between_tokens(GAP_MIDDLES, gaps)
    sums = _engine_sums(state, window[1])
    if before:
        sums = {name: sums[name] - before.engines[name] for name in sums}
    iterations = sums["iterations"]
    engine_seconds = seconds * len(state.instances)
    block_seconds = seconds * float(state.engines["num_blocks"].sum())
    recomputed = int(state.requests["recomputed"].sum()) - (before.recomputed if before else 0)
    return columns | {
        "num_preemptions": sums["preemptions"],
        "num_handoffs": sums["handoffs"],
        "num_migrations": sums["migrations"],
        "num_aborted_migrations": sums["aborted"],
        "transferred_gb": sums["transferred"] / 1e9,
        "swapped_gb": sums["swapped"] / 1e9,
        "prefix_hit_share": sums["found"] / sums["looked_up"] if sums["looked_up"] else NAN,
        "recomputed_tokens": float(recomputed),
        "kv_utilisation": sums["block_time"] / block_seconds,
        "mean_running": sums["running_time"] / engine_seconds,
        "mean_batch_tokens": sums["batched_tokens"] / iterations if iterations else NAN,
        "busy_share": sums["busy_time"] / engine_seconds,
        "iterations": iterations,
    }


def headline(
    state: layout.State,
    slo: Slo,
    window: tuple[float, float],
    baseline: Baseline | None = None,
) -> Columns:
    """Some columns of `summarize`, for whoever ends many short windows: in a third of its time."""
    found = gains(state.requests, window, slo)
    sums, before = _moves(state), baseline.engines if baseline else {}
    gained = found.benefit - baseline.benefit if baseline else found.benefit
    return {
        **_worth(found, gained, window[1] - window[0], baseline),
        **percentiles("ttft", found.ttft, 50, 99),
        **percentiles("tpot", found.tpot, 50, 99),
        **{
            f"num_{name}": sums[name] - before.get(name, 0.0)
            for name in ("preemptions", "handoffs", "migrations")
        },
    }


def request_columns(
    requests: np.ndarray, slo: Slo, window: tuple[float, float], before: Baseline | None = None
) -> Columns:
    """The columns that follow from the request table alone.

    Args:
        requests: REQUEST (num_requests,), as they stand at the end of the window.
        slo: the metric.
        window: start and end, seconds.
        before: what the window started with.
    """
    start, end = window
    arrived = has_arrived(requests, end)
    counted = _that_count(requests, window)
    phase = counted["phase"]
    found = gains(requests, window, slo)
    gained = found.benefit - before.benefit if before else found.benefit
    columns = _worth(found, gained, end - start, before)
    columns |= {
        "request_rate": float((arrived & (requests["arrival"] >= start)).sum()) / (end - start),
        "num_requests": float(len(counted)),
        "num_backlog": float((counted["arrival"] < start).sum()),
        "num_finished": float((phase == layout.FINISHED).sum()),
        "num_rejected": float((phase == layout.REJECTED).sum()),
        "num_refused": float((phase == layout.REFUSED).sum()),
        "num_unfinished": float(_is_under_way(phase).sum()),
    }
    columns |= _latencies(counted, found, end)
    columns |= {
        "attainment_ttft_tbt": share_of(experience.meets_ttft_tbt(counted, slo)),
        "attainment_ttft_tpot": share_of(experience.meets_ttft_tpot(counted, slo)),
        "attainment_e2e": share_of(experience.meets_e2e(counted, slo)),
        "qoe_mean": mean(experience.quality(counted, end)),
    }
    return columns | _class_columns(counted, slo, gained / (end - start), end)


def _that_count(requests: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """The rows of REQUEST (num_requests,) that count in a window."""
    start, end = window
    chosen = has_arrived(requests, end) & ~(requests["finish"] < start)
    return requests.take(np.flatnonzero(chosen))  # a tenth of the time of requests[chosen]


def _worth(found: Gains, gained: Floats, seconds: float, before: Baseline | None) -> Columns:
    """What a window was worth, per second or of all that count.

    Args:
        found: at its end.
        gained: weighted tokens in the window, per class of users.
        seconds: how long it is.
        before: what it started with.
    """
    return {
        "smooth_goodput": float(gained.sum()) / seconds,
        "slo_attainment": found.on_time / found.counted if found.counted else NAN,
        "slo_attainment_decided": found.on_time / found.decided if found.decided else NAN,
        "goodput_tok_s": found.on_time_tokens / seconds,
        "goodput_req_s": found.on_time / seconds,
        "throughput_tok_s": (found.tokens - (before.tokens if before else 0)) / seconds,
    }


def _latencies(counted: np.ndarray, found: Gains, end: float) -> Columns:
    ttft, tpot = found.ttft, found.tpot
    e2e = experience.end_to_end(counted)
    idle = np.maximum(idle_latency(counted, end), 0.0)
    return (
        {"ttft_mean": mean(ttft), **percentiles("ttft", ttft, 50, 90, 99)}
        | {"tpot_mean": mean(tpot), **percentiles("tpot", tpot, 50, 99)}
        | {"e2e_mean": mean(e2e), **percentiles("e2e", e2e, 50, 90, 99)}
        | {"idle_latency_mean": mean(idle), **percentiles("idle_latency", idle, 99)}
    )


def _class_columns(counted: np.ndarray, slo: Slo, goodput: Floats, end: float) -> Columns:
    columns: Columns = {}
    attained = []
    for index, user in enumerate(slo.classes):
        rows = counted.take(np.flatnonzero(counted["user_class"] == index))
        share = share_of(experience.is_on_time(rows))
        if len(rows):
            attained.append(share)
        if len(slo.classes) > 1:
            ttft = experience.time_to_first_token(rows)
            columns |= {
                f"num_requests.{user.name}": float(len(rows)),
                f"smooth_goodput.{user.name}": float(goodput[index]),
                f"slo_attainment.{user.name}": share,
                f"qoe_mean.{user.name}": mean(experience.quality(rows, end)),
                f"ttft_p99.{user.name}": percentiles("ttft", ttft, 99)["ttft_p99"],
            }
    fairness = jain_index(np.array(attained)) if attained else NAN
    return {"fairness_jain": fairness, **columns}


def _is_under_way(phase: np.ndarray) -> np.ndarray:
    waits, runs = phase == layout.WAITING, phase == layout.RUNNING
    return waits | runs | (phase == layout.MOVING)


def _engine_sums(state: layout.State, at: float) -> Columns:
    """Sums over the engines up to `at`, with the part that they have not written down yet."""
    instances = state.instances
    since = np.maximum(at - instances["sums_since"], 0.0)
    under_way = (instances["busy"] > 0) * np.clip(
        at - instances["start"], 0.0, instances["duration"]
    )
    used = state.engines["num_blocks"] - instances["free_blocks"]
    cluster = state.cluster[0]
    of_cluster = ("aborted", "transferred", "swapped")
    return (
        _moves(state)
        | {name: float(cluster[name]) for name in of_cluster}
        | {
            "looked_up": float(instances["looked_up"].sum()),
            "found": float(instances["found"].sum()),
            "iterations": float(instances["iterations"].sum()),
            "batched_tokens": float(instances["batched_tokens"].sum()),
            "busy_time": float((instances["busy_time"] + under_way).sum()),
            "block_time": float((instances["block_time"] + used * since).sum()),
            "running_time": float(
                (instances["running_time"] + instances["num_running"] * since).sum()
            ),
        }
    )


def _gap_counts(state: layout.State) -> np.ndarray:
    """Histogram of the times between tokens, the newest ones included."""
    cluster = state.cluster[0]
    counts = cluster["gaps"].copy()
    counts[cluster["last_bin"]] += cluster["last_count"]
    return counts


def _moves(state: layout.State) -> Columns:
    cluster = state.cluster[0]
    preempted = float(state.instances["preemptions"].sum())
    return {"preemptions": preempted} | {
        name: float(cluster[name]) for name in ("handoffs", "migrations")
    }
