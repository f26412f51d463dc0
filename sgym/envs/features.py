"""What an agent sees: one table of features, which the code, the documentation and bundles share.

A number x becomes x / (|x| + scale) where `squash` (so it lies in (-1, 1), and `scale` is where the
eye is sharpest), else x / scale, and is then clipped to [low, high].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sgym._jit import References, by_reference
from sgym.errors import ScenarioError


@dataclass(frozen=True, slots=True)
class Feature:
    """One number that an agent may see."""

    name: str
    unit: str
    scale: float
    meaning: str
    engine: str
    """How a real engine, vLLM V1's Scheduler, obtains it; "-" = it cannot."""
    squash: bool = True
    low: float = 0.0
    high: float = 1.0
    when: str = "always"
    """One of WHEN."""


WHEN = {
    "always": "always",
    "schedule": "only if the agent schedules",
    "cluster": "only if it also decides between instances",
    "hint": "only with a length_hint",
    "extra": "only if asked for by name",
}
"""When a feature is seen, and the words for it."""


def _flag(name: str, meaning: str, engine: str, when: str = "always") -> Feature:
    return Feature(name, "0 or 1", 1.0, meaning, engine, squash=False, when=when)


def _share(name: str, meaning: str, engine: str, when: str = "always") -> Feature:
    return Feature(name, "share", 1.0, meaning, engine, squash=False, when=when)


def _count(name: str, scale: float, meaning: str, engine: str, when: str = "always") -> Feature:
    return Feature(name, "count", scale, meaning, engine, when=when)


SLO = "client's `SamplingParams.extra_args`"
ROUTER = "router's own table of instances"
CONNECTOR = "KV connector's transfers under way"

REQUEST_FEATURES = (
    _flag("present", "the slot holds a request", "slot in use"),
    _flag("running", "it runs, else it waits", "in `running`"),
    _flag("prefilling", "it runs and its prompt is not computed yet", "computed < known"),
    Feature(
        "slack",
        "s",
        1.0,
        "time until its reader has waited longer than ever before: then its benefit falls",
        "arrival_time, token times, " + SLO,
        low=-1.0,
    ),
    Feature(
        "lateness", "s", 1.0, "worst lateness of a delivered token", "token times, " + SLO, low=-1.0
    ),
    Feature("waited", "s", 10.0, "time since its arrival", "now - arrival_time"),
    Feature("prompt", "tokens", 512.0, "length of the prompt", "num_prompt_tokens"),
    Feature("generated", "tokens", 128.0, "tokens delivered", "num_output_tokens"),
    Feature("known", "tokens", 1024.0, "prompt and generated", "num_tokens"),
    Feature(
        "to_prefill",
        "tokens",
        512.0,
        "known tokens without KV in memory",
        "num_tokens - num_computed_tokens",
    ),
    _share("computed", "computed of the known tokens", "num_computed_tokens / num_tokens"),
    _share("blocks", "KV blocks that it holds, of all", "kv_cache_manager.get_blocks"),
    _share("needs", "KV blocks that its known tokens fill, of all", "num_tokens / block_size"),
    Feature("preemptions", "count", 1.0, "how often it was preempted", "num_preemptions"),
    Feature("token_time", "s/token", 0.1, "V: time in which its reader reads a token", SLO),
    Feature("alpha", "tokens/s", 2.5, "benefit lost per second overdue (times weight)", SLO),
    Feature("weight", "1", 1.0, "worth of one of its tokens", SLO),
    Feature("priority", "1", 4.0, "engine priority, lower first", "priority", low=-1.0),
    Feature(
        "predicted",
        "tokens",
        128.0,
        "output still to come, by the length predictor; 0 = none",
        "a predictor beside the engine",
        when="hint",
    ),
    _flag(
        "elsewhere",
        "it waits, and its KV is on another instance or the host",
        "WAITING_FOR_REMOTE_KVS, or its KV transfer parameters",
        "cluster",
    ),
    _flag("migrating", "it runs, and its KV is being copied to another", CONNECTOR, "cluster"),
)

# With `cluster.staleness`, those of other instances are as last reported, except for what ROUTER
# and the index of KV events know. Where a request is placed, all instances are others.
INSTANCE_FEATURES = (
    _flag("asks", "this instance forms its next batch now", "schedule() was called"),
    _share("running", "running requests, of max_num_seqs", "len(running)"),
    Feature("waiting", "count", 16.0, "waiting requests", "len(waiting)"),
    Feature("waiting_tokens", "tokens", 4096.0, "tokens to prefill of these", "sum over waiting"),
    _share("free", "free KV blocks, of all", "block_pool.get_num_free_blocks"),
    _flag("short", "fewer free blocks than running requests", "same"),
    Feature("duration", "s", 0.05, "time that the last iteration took", "measured"),
    _share("prefill", "prefill tokens of the last batch, of the most", "scheduler output"),
    _share("decode", "decoding sequences of the last batch, of max_num_seqs", "scheduler output"),
    Feature("preempted", "count", 1.0, "preempted for the last batch", "scheduler output"),
    Feature("kv_tokens", "tokens", 16384.0, "KV entries of the last batch", "scheduler output"),
    _share("budget", "token budget in force, of the most", "own knob"),
    _share("cap", "cap on running requests in force, of max_num_seqs", "own knob"),
    _share("chunk", "chunk cap in force, of the most tokens; 0 = none", "own knob"),
    _share("reserve", "reserve in force, of all KV blocks", "own knob"),
    _flag("role_mixed", "it prefills and decodes", ROUTER, "cluster"),
    _flag("role_prefill", "it prefills, and hands requests off", ROUTER, "cluster"),
    _flag("role_decode", "it decodes what others have prefilled", ROUTER, "cluster"),
    _flag("draining", "it takes nothing new, and then changes its role", ROUTER, "cluster"),
    _share(
        "loading", "requests whose KV is on its way here, of max_num_seqs", CONNECTOR, "cluster"
    ),
    _count("leaving", 16.0, "requests elsewhere whose KV still lies here", CONNECTOR, "cluster"),
    _count("sends", 4.0, "transfers that share its port outwards", CONNECTOR, "cluster"),
    _count("receives", 4.0, "and inwards", CONNECTOR, "cluster"),
    _count("swapped", 4.0, "waiting requests whose KV is on the host", "CPU block pool", "cluster"),
    Feature(
        "outstanding",
        "tokens",
        16384.0,
        "tokens to prefill of its queue, and KV entries that its used blocks hold",
        "sum over waiting, block_pool.get_num_free_blocks",
        when="cluster",
    ),
    Feature(
        "prefill_time",
        "s",
        1.0,
        "time to prefill its queue, in full chunks of at most 2048 tokens",
        "sum over waiting, time per token measured",
        when="cluster",
    ),
    _share(
        "cached",
        "of the prompt to be placed, what its prefix cache holds; 0 without one",
        "router's index of KV events",
        "cluster",
    ),
    _count("in_flight", 16.0, "requests sent there and not done; never stale", ROUTER, "cluster"),
)

CLUSTER_FEATURES = (
    _flag("decides_schedule", "the decision is how to form a batch", "kind of call"),
    _flag("decides_route", "the decision is which instance takes a request", "kind of call"),
    _flag("arrived", "since the last decision: a request joined the queue", "trigger", "schedule"),
    _flag("finished", "since the last decision: a request finished", "trigger", "schedule"),
    _flag(
        "pressure",
        "since the last decision: memory ran short, or a preemption",
        "trigger",
        "schedule",
    ),
    _flag("dry", "since the last decision: a reader came near running dry", "trigger", "schedule"),
    Feature("since_decision", "s", 0.1, "time since the last decision here", "clock"),
    _count("hidden_running", 16.0, "running requests without a slot", "len(running)", "schedule"),
    _count("hidden_waiting", 16.0, "waiting requests without a slot", "len(waiting)", "schedule"),
    Feature(
        "hidden_tokens",
        "tokens",
        4096.0,
        "tokens to prefill of these",
        "sum over waiting",
        when="schedule",
    ),
    Feature("overdue", "count", 16.0, "requests of the cluster whose benefit falls now", SLO),
    Feature("loss", "tokens/s", 40.0, "benefit that these lose per second", SLO),
    Feature(
        "time_left",
        "share",
        1.0,
        "part of the window still to come",
        "-",
        squash=False,
        when="extra",
    ),
    _flag(
        "decides_handoff",
        "the decision is which instance decodes a finished prefill",
        "kind of call",
        "cluster",
    ),
)

TABLES = {
    "requests": REQUEST_FEATURES,
    "instances": INSTANCE_FEATURES,
    "cluster": CLUSTER_FEATURES,
}


ABREAST = 8
"""Rows that are scaled at once: as many numbers as fill vectors, whatever the length of a row."""


class ColumnArrays(NamedTuple):
    """The arrays of Columns: F selected features, repeated for ABREAST rows but for `raw`."""

    raw: np.ndarray  # uint32 (F,), growing: place of the raw number x
    squash: np.ndarray  # float64 (ABREAST * F,): 1, or 0 for x / scale
    scale: np.ndarray  # float64 (ABREAST * F,)
    low: np.ndarray  # float64 (ABREAST * F,)
    high: np.ndarray  # float64 (ABREAST * F,)


class Columns(References, ColumnArrays):
    """Selected features, for the kernels: x becomes x / (squash * |x| + scale), then clipped."""


by_reference(
    Columns,
    {"raw": (np.dtype(np.uint32), 1)}
    | {name: (np.dtype(np.float64), 1) for name in ColumnArrays._fields[1:]},
)


def places(table: Sequence[Feature]) -> dict[str, int]:
    """Name -> place of the raw number."""
    return {feature.name: place for place, feature in enumerate(table)}


def selected(table: str, when: Sequence[str], extra: Sequence[str]) -> tuple[Feature, ...]:
    """The features of a table that an agent sees, in order.

    Args:
        table: one of TABLES.
        when: the keys of WHEN that hold.
        extra: names of optional features to switch on.

    Raises:
        ScenarioError: `extra` names what can not be switched on.
    """
    known = [f.name for rows in TABLES.values() for f in rows if f.when == "extra"]
    for name in extra:
        if name not in known:
            raise ScenarioError(
                f"extra_features has {name!r}, which is no optional feature; these are: "
                + ", ".join(known)
            )
    return tuple(
        feature
        for feature in TABLES[table]
        if feature.when in when or (feature.when == "extra" and feature.name in extra)
    )


def columns(table: str, chosen: Sequence[Feature]) -> Columns:
    """The chosen features of a table, for the kernels."""
    where = places(TABLES[table])
    numbers = [(float(f.squash), f.scale, f.low, f.high) for f in chosen]
    return Columns(
        np.array([where[feature.name] for feature in chosen], np.uint32),
        *np.tile(np.array(numbers, np.float64).T, ABREAST),
    )


def bounds(chosen: Sequence[Feature], repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest values of a flat block of `repeats` rows, float32."""
    low = np.tile(np.array([feature.low for feature in chosen], np.float32), repeats)
    high = np.tile(np.array([feature.high for feature in chosen], np.float32), repeats)
    return low, high


def markdown(table: str, when: Sequence[str] = tuple(WHEN)) -> str:
    """The table as documentation: one row per feature that `when` lets be seen, or may."""
    lines = [
        "| num | name | min | max | unit | meaning | in vLLM | seen |",
        "|-----|------|-----|-----|------|---------|---------|------|",
    ]
    for place, f in enumerate(feature for feature in TABLES[table] if feature.when in when):
        scale = f"x/(\\|x\\|+{f.scale:g})" if f.squash else f.unit
        unit = f"{f.unit}, {scale}" if f.squash else f.unit
        lines.append(
            f"| {place} | {f.name} | {f.low:g} | {f.high:g} | {unit} | {f.meaning} "
            f"| {f.engine} | {WHEN[f.when]} |"
        )
    return "\n".join(lines)
