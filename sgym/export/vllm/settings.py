"""Settings of the adapter: which policy, and what holds for clients who say nothing.

Each is looked for in vLLM's `additional_config["sgym"]`, then in the environment:

    vllm serve MODEL --scheduler-cls sgym.export.vllm.SgymScheduler
        --additional-config '{"sgym": {"bundle": "zoo:chat_8b", "token_time": 0.1}}'

    SGYM_BUNDLE=zoo:chat_8b vllm serve MODEL --scheduler-cls sgym.export.vllm.SgymScheduler
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sgym.errors import PolicyError
from sgym.export.slo import NAMES, POSITIVE, Slo, slo_of

BUNDLE = "SGYM_BUNDLE"
SECTION = "sgym"
ORIGINS = ("commit", "first_token")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator says.

    Attributes:
        bundle: `zoo:NAME`, `bundle:FOLDER` or a folder.
        slo: of requests that come without one.
        origin: deadlines count from the arrival (commit) or from the first token, as `slo.origin`.
        clamp: lateness is at least 0, as `slo.clamp`.
        penalty_cap: seconds of lateness beyond which nothing more is lost, as `slo.penalty_cap`.
        scale_by_tokens: as `slo.scale_by_tokens`.
    """

    bundle: str
    slo: Slo = field(default_factory=Slo)
    origin: str = "commit"
    clamp: bool = True
    penalty_cap: float = math.inf
    scale_by_tokens: bool = False


def settings_of(additional_config: Any) -> Settings:
    """The settings of an engine.

    Args:
        additional_config: of vLLM's VllmConfig.

    Raises:
        PolicyError: no bundle is named, or a setting is unknown or out of range.
    """
    given: dict[str, Any] = {}
    if isinstance(additional_config, Mapping):
        section: Any = additional_config.get(SECTION, {})
        if not isinstance(section, Mapping):
            raise PolicyError(f"additional_config[{SECTION!r}] must be an object, got {section!r}")
        given = dict(section)
    known = ("bundle", *NAMES, "origin", "clamp", "penalty_cap", "scale_by_tokens")
    for name in given:
        if name not in known:
            raise PolicyError(
                f"additional_config[{SECTION!r}] has {name!r}, but only {', '.join(known)} can "
                "be set"
            )
    bundle = given.pop("bundle", None) or os.environ.get(BUNDLE)
    if not bundle:
        raise PolicyError(
            f"no policy: set {BUNDLE}, or 'bundle' in additional_config[{SECTION!r}], to zoo:NAME "
            "or a folder that sgym has exported"
        )
    levels = {name: given.pop(name) for name in NAMES if name in given}
    slo = slo_of(levels, Slo())
    for name, value in levels.items():
        if getattr(slo, name) != value:
            least = "above 0" if name in POSITIVE else "of at least 0"
            raise _refused(name, f"a number {least}", value)
    if given.get("origin", "commit") not in ORIGINS:
        raise _refused("origin", f"one of {', '.join(ORIGINS)}", given["origin"])
    for name in ("clamp", "scale_by_tokens"):
        if not isinstance(given.get(name, True), bool):
            raise _refused(name, "true or false", given[name])
    cap: Any = given.get("penalty_cap", math.inf)
    if isinstance(cap, bool) or not isinstance(cap, int | float) or not cap > 0.0:
        raise _refused("penalty_cap", "a number of seconds above 0", cap)
    return Settings(str(bundle), slo, **given)


def _refused(name: str, rule: str, value: Any) -> PolicyError:
    return PolicyError(
        f"additional_config[{SECTION!r}]: {name} must be {rule}, got {value!r}: correct it, or "
        "leave it out for the default"
    )
