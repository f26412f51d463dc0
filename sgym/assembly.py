"""From a scenario to the arrays that the core starts with."""

from typing import Any

import numpy as np
from pydantic import ValidationError

from sgym.config import Engine, Scenario
from sgym.core import layout, metric
from sgym.core.layout import Former, Penalty, RewardKind
from sgym.errors import ScenarioError
from sgym.loading import explain
from sgym.policies.registry import builtin


def with_engine_of(scenario: Scenario, policy: str) -> Scenario:
    """The scenario on the engine that a built-in scheduler needs.

    Settings of the engine may stand beside a policy's parameters, for that policy alone:
    `policy: {name: sarathi, max_num_batched_tokens: 1024}`.

    Raises:
        ScenarioError, PolicyError: such a setting breaks a rule, or there is no such policy.
    """
    own = parameters_of(scenario, policy)
    settings = {key: value for key, value in own.items() if key in Engine.model_fields}
    limits = scenario.engine.model_dump() | dict(builtin(policy).engine) | settings
    if limits["former"] == "vllm_v0" and not limits["enable_chunked_prefill"]:
        longest = max(limits["max_num_batched_tokens"], limits["max_model_len"])
        limits["max_num_batched_tokens"] = longest  # as V0 sets it: a whole prompt must fit
    try:
        engine_limits = Engine.model_validate(limits)
    except ValidationError as error:
        raise ScenarioError(explain(error, "policy")) from None
    return scenario.model_copy(update={"engine": engine_limits})


def parameters_of(scenario: Scenario, policy: str) -> dict[str, Any]:
    """What the scenario says of this policy, besides its name."""
    return dict(scenario.policy.model_extra or {}) if policy == scenario.policy.name else {}


def engine_records(scenario: Scenario, usable_blocks: int) -> np.ndarray:
    """ENGINE (instances,)."""
    limits = scenario.engine
    former = Former[limits.former.upper()]
    records = np.zeros(scenario.cluster.instances, layout.ENGINE)
    watermark = limits.watermark
    if watermark is None:
        watermark = 0.01 if former in (Former.VLLM_V0, Former.SARATHI) else 0.0
    records["former"] = int(former)
    records["max_num_seqs"] = limits.max_num_seqs
    records["max_num_batched_tokens"] = limits.max_num_batched_tokens
    records["max_model_len"] = limits.max_model_len
    records["block_size"] = limits.block_size
    records["num_blocks"] = usable_blocks
    counted = usable_blocks + (former == Former.VLLM_V1)  # V1 counts its null block
    records["watermark_blocks"] = int(watermark * counted)
    records["long_prefill_token_threshold"] = limits.long_prefill_token_threshold
    records["chunked_prefill"] = limits.enable_chunked_prefill
    records["reserve_full_isl"] = limits.scheduler_reserve_full_isl
    records["by_priority"] = limits.scheduling_policy == "priority"
    records["orca_reserve"] = ("max_len", "pow2", "oracle").index(limits.orca_reserve)
    return records


def cluster_record(scenario: Scenario, seed: int, track: bool) -> np.ndarray:
    """CLUSTER (1,) with the metric and the random counters."""
    slo = scenario.slo
    record = np.zeros(1, layout.CLUSTER)
    seeds = np.random.SeedSequence([seed, 0x5E17]).generate_state(3, np.uint32)
    for name, start in zip(("noise", "router", "policy"), seeds, strict=True):
        record[f"{name}_counter"] = int(start) << 24
    record["router_counter"] = (
        0 if scenario.cluster.router == "round_robin" else int(seeds[1]) << 24
    )
    record["horizon"] = scenario.episode.warm_start + scenario.episode.duration
    record["track"] = track
    record["penalty"] = int(Penalty[slo.penalty.upper()])
    record["penalty_cap"] = slo.penalty_cap
    record["scale_by_tokens"] = slo.scale_by_tokens
    record["from_first_token"] = slo.origin == "first_token"
    record["reward_kind"] = int(RewardKind[slo.reward.upper()])
    return record


def set_metric(requests: np.ndarray, scenario: Scenario) -> None:
    """Write what the metric says of each request's class into REQUEST (n,)."""
    slo = scenario.slo
    users = requests["user_class"]
    per_class = {
        name: np.array([getattr(user, name) for user in slo.classes])[users]
        for name in ("token_time", "weight", "alpha", "first_delay", "first_delay_per_prompt_token")
    }
    requests["token_time"] = per_class["token_time"]
    requests["weight"] = per_class["weight"]
    requests["alpha"] = per_class["alpha"] * per_class["weight"]
    requests["first_delay"] = (
        per_class["first_delay"] + per_class["first_delay_per_prompt_token"] * requests["prompt"]
    )
    requests["due"] = requests["arrival"] + requests["first_delay"] + requests["token_time"]
    if slo.origin == "first_token":
        requests["due"] = layout.NEVER
    requests["lateness"] = 0.0 if slo.clamp else metric.NO_LATENESS
