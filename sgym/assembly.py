"""From a scenario to the arrays that the core starts with."""

from typing import Any

import numpy as np
from pydantic import ValidationError

from sgym import profiles
from sgym.config import Engine, Scenario, Slo
from sgym.core import layout, metric
from sgym.core.layout import Former, Migration, Penalty, RewardKind, Role
from sgym.errors import ScenarioError
from sgym.loading import explain
from sgym.policies.registry import builtin, check_roles


def with_engine_of(scenario: Scenario, policy: str) -> Scenario:
    """The scenario on the engine that a built-in scheduler needs.

    Settings of the engine may stand beside a policy's parameters, for that policy alone:
    `policy: {name: sarathi, max_num_batched_tokens: 1024}`.

    Raises:
        ScenarioError, PolicyError: such a setting breaks a rule, or there is no such policy.
    """
    check_roles(policy, [pool.role for pool in scenario.cluster.groups])
    own = parameters_of(scenario, policy)
    settings = {key: value for key, value in own.items() if key in Engine.model_fields}
    limits = scenario.engine.model_dump() | dict(builtin(policy).engine) | settings
    if limits["former"] != scenario.engine.former:  # the scenario says it of another engine
        for name in {"enable_prefix_caching", "async_scheduling"} - set(settings):
            limits[name] = False
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


def pools_of(scenario: Scenario) -> list[Scenario]:
    """For each pool of the cluster, a scenario of that pool alone.

    Raises:
        ScenarioError: a pool's `engine` has an unknown setting, or breaks a rule.
    """
    return [_of_pool(scenario, place) for place in range(len(scenario.cluster.groups))]


def _of_pool(scenario: Scenario, place: int) -> Scenario:
    cluster = scenario.cluster
    pool = cluster.groups[place]
    try:
        limits = Engine.model_validate(scenario.engine.model_dump() | pool.engine)
    except ValidationError as error:
        raise ScenarioError(explain(error, f"cluster.pools.{place}.engine")) from None
    own = {"gpu": pool.gpu, "tp": pool.tp}
    changes = {key: value for key, value in own.items() if value is not None}
    latency = scenario.latency
    if pool.profile is not None:
        latency = latency.model_copy(update={"profile": pool.profile, "linear": None})
    elif "gpu" in changes or "tp" in changes:
        latency = latency.model_copy(update={"profile": None})
    return scenario.model_copy(
        update={
            "engine": limits,
            "latency": latency,
            "cluster": cluster.model_copy(update={**changes, "pools": (pool,)}),
        }
    )


def machines(scenario: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """ENGINE (num_instances,), pool after pool, and the LATENCY (pools,) that they point to."""
    engines: list[np.ndarray] = []
    latencies: list[np.ndarray] = []
    for place, single in enumerate(pools_of(scenario)):
        latency, blocks = profiles.for_scenario(single)
        latencies.append(latency)
        records = np.zeros(single.cluster.groups[0].instances, layout.ENGINE)
        records[:] = _engine_record(single, blocks)
        records["latency"] = place
        engines.append(records)
    joined = b"".join(latency.tobytes() for latency in latencies)  # with the padding of records
    return np.concatenate(engines), np.frombuffer(bytearray(joined), layout.LATENCY)


def _engine_record(scenario: Scenario, usable_blocks: int) -> np.ndarray:
    """ENGINE (1,) of a cluster with a single pool."""
    limits, cluster = scenario.engine, scenario.cluster
    former = Former[limits.former.upper()]
    records = np.zeros(1, layout.ENGINE)
    if limits.async_scheduling and cluster.groups[0].role != "mixed":
        raise ScenarioError(
            f"a {cluster.groups[0].role} instance has engine.async_scheduling true, which needs "
            "role mixed: set it to false, there or in the pool's `engine`"
        )
    watermark = limits.watermark
    if watermark is None:
        watermark = 0.01 if former in (Former.VLLM_V0, Former.SARATHI) else 0.0
    records["former"] = int(former)
    records["role"] = int(Role[cluster.groups[0].role.upper()])
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
    records["prefix_caching"] = limits.enable_prefix_caching
    records["async_scheduling"] = limits.async_scheduling
    records["swap"] = limits.preemption_mode == "swap"
    records["swap_overlap"] = limits.swap_overlap
    host = limits.swap_space * 2**30 * cluster.tp
    block_bytes = profiles.model_spec(cluster.model).kv_bytes * limits.block_size
    records["host_blocks"] = min(int(host / block_bytes), 2**30)
    records["swap_bandwidth"] = limits.swap_bandwidth * cluster.tp
    records["link_bandwidth"] = cluster.groups[0].link_bandwidth or cluster.link.resolved[0]
    return records


def set_seed(record: np.ndarray, seed: int, router: str) -> None:
    """Write the counters of CLUSTER (1,) from which random numbers of this seed are made."""
    seeds = np.random.SeedSequence([seed, 0x5E17]).generate_state(3, np.uint32)
    for name, start in zip(("noise", "router", "policy"), seeds.tolist(), strict=True):
        record[f"{name}_counter"] = start << 24
    if router == "round_robin":
        record["router_counter"] = 0


def cluster_record(scenario: Scenario, track: bool) -> np.ndarray:
    """CLUSTER (1,) with the metric.

    Args:
        scenario: on the policy's engine.
        track: keep the reward current.
    """
    slo = scenario.slo
    record = np.zeros(1, layout.CLUSTER)
    model = profiles.model_spec(scenario.cluster.model)
    migration = scenario.cluster.migration
    record["kv_bytes"] = model.kv_bytes
    record["num_layers"] = model.layers
    record["link_latency"] = scenario.cluster.link.resolved[1]
    record["layerwise"] = scenario.cluster.link.layerwise
    record["migration"] = int(Migration[migration.mode.upper()])
    record["migration_stages"] = migration.stages
    record["migration_last_blocks"] = migration.last_blocks
    record["max_migrations"] = migration.concurrent
    record["horizon"] = scenario.episode.warm_start + scenario.episode.duration
    record["track"] = track
    record["penalty"] = int(Penalty[slo.penalty.upper()])
    record["penalty_cap"] = slo.penalty_cap
    record["scale_by_tokens"] = slo.scale_by_tokens
    record["from_first_token"] = slo.origin == "first_token"
    record["clamp"] = slo.clamp
    record["reward_kind"] = int(RewardKind[slo.reward.upper()])
    return record


def readers(slo: Slo) -> np.ndarray:
    """READER (classes,): what the metric says of each class of users."""
    records = np.zeros(len(slo.classes), layout.READER)
    for record, user in zip(records, slo.classes, strict=True):
        record["token_time"] = user.token_time
        record["weight"] = user.weight
        record["alpha"] = user.alpha * user.weight
        record["first_delay"] = user.first_delay
        record["first_delay_per_prompt_token"] = user.first_delay_per_prompt_token
    records["lateness"] = 0.0 if slo.clamp else metric.NO_LATENESS
    records["from_first_token"] = slo.origin == "first_token"
    return records
