"""From an environment to what a bundle says of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from gymnasium import spaces

from sgym.envs.actions import BUDGET_LEVELS, GAIN, INDEX_KNOBS, KNOBS
from sgym.envs.base import ServingEnv
from sgym.envs.colocated import ColocatedEnv
from sgym.envs.disaggregated import DisaggregatedEnv
from sgym.envs.features import Feature
from sgym.envs.plan import Plan
from sgym.envs.router import RouterEnv
from sgym.errors import PolicyError
from sgym.export.about import About, Action, EnvironmentArguments, FeatureRow, Observation

ENVIRONMENTS: dict[str, type[ServingEnv]] = {
    "sgym/Colocated-v0": ColocatedEnv,
    "sgym/Disaggregated-v0": DisaggregatedEnv,
    "sgym/Router-v0": RouterEnv,
}


def describe(
    env: Any,
    name: str,
    scenario: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    card: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> About:
    """What a bundle says of a policy that was trained in this environment.

    Args:
        env: a single or a vector environment of sgym, wrapped or not.
        name: of the policy.
        scenario: that it was trained for; none = the environment's.
        provenance: how it was trained.
        card: what it is for, how good it is, its limits; the first line says it in short.
        overrides: dotted names of scenarios to values that belong to the policy: `policy.`,
            `cluster.router` and `cluster.handoff` decide what it does not.

    Raises:
        PolicyError: it is no environment of sgym.
    """
    inner = env.unwrapped
    single = getattr(inner, "single", type(inner))
    ids = [key for key, kind in ENVIRONMENTS.items() if kind is single]
    if not ids:
        raise PolicyError(f"env must be one of {', '.join(ENVIRONMENTS)}, got {inner!r}")
    plan: Plan = inner.plan
    options = {
        field.name: getattr(plan.options, field.name) for field in dataclasses.fields(plan.options)
    }
    return About(
        name=name,
        environment=EnvironmentArguments(id=ids[0], **options, overrides=dict(overrides or {})),
        observation=observation_of(plan),
        action=action_of(plan),
        mask="allowed_is_1" if plan.layout.mask_length else "none",
        scenario=plan.scenario.name if scenario is None else scenario,
        provenance=dict(provenance or {}),
        card=card,
    )


def observation_of(plan: Plan) -> Observation:
    """The features that an agent sees in environments of this plan."""
    return Observation(**{table: _rows(seen) for table, seen in plan.features.items()})


def _rows(seen: Sequence[Feature]) -> tuple[FeatureRow, ...]:
    names = FeatureRow.model_fields
    return tuple(FeatureRow(**{name: getattr(one, name) for name in names}) for one in seen)


def action_of(plan: Plan) -> Action:
    """What actions mean in environments of this plan, instances apart."""
    layout = plan.layout
    space = type(layout.space).__name__
    constants: dict[str, float] = {}
    meaning: tuple[str, ...] = ()
    if layout.action == "slots":
        meaning, constants = layout.verbs, {"budget_levels": float(BUDGET_LEVELS)}
    elif layout.action == "knobs":
        meaning = tuple(knobs.name for knobs in KNOBS)
    elif layout.action == "index":
        names = [feature.name for feature in plan.features["requests"]]
        queues = [f"{queue}.{name}" for queue in ("waiting", "running") for name in names]
        meaning, constants = (*queues, *INDEX_KNOBS), {"gain": GAIN}
    return Action.model_validate({"space": space, "meaning": meaning, "constants": constants})


def widths_of(plan: Plan) -> dict[str, int]:
    """Numbers of each input that a policy may have, and of its `logits` or `action`."""
    layout = plan.layout
    widths = {table: int(box.shape[0]) for table, box in plan.boxes.items()}
    if isinstance(layout.space, spaces.Box):
        return widths | {"action": int(layout.space.shape[0])}
    return widths | {"mask": layout.mask_length, "logits": layout.mask_length}
