"""Schedulers and routers by name, the record that says which decide, and policies of your own."""

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sgym.errors import PolicyError
from sgym.policies.builtin import Builtin
from sgym.policies.memory import POLICY
from sgym.policies.rules import HANDOFFS, ROUTERS
from sgym.policies.schedulers import SCHEDULERS
from sgym.policies.steering import Steering
from sgym.policies.systems import SYSTEMS
from sgym.policies.view import InstanceView


@runtime_checkable
class Policy(Protocol):
    """A scheduler of your own: one method. `route(view) -> int` and `reset(seed)` are optional."""

    def schedule(self, view: InstanceView) -> Steering | None:
        """Say who runs next on this instance; None = leave everything as it is."""
        ...


POLICIES: dict[str, Builtin] = {**SCHEDULERS, **SYSTEMS}
"""All that a scenario can name, with what `sgym list policies` says of each."""


def builtin(name: str) -> Builtin:
    """The built-in scheduler of this name.

    Raises:
        PolicyError: there is none.
    """
    if name not in POLICIES:
        raise PolicyError(
            f"no policy {name!r} comes with sgym; these do: {', '.join(POLICIES)}{_meant(name)}"
        )
    return POLICIES[name]


def _meant(name: str) -> str:
    hint = difflib.get_close_matches(name, POLICIES, n=1)
    return f". Did you mean {hint[0]!r}?" if hint else ""


def check_roles(name: str, roles: Iterable[str]) -> None:
    """Refuse a system for disaggregated clusters where nothing is disaggregated.

    Args:
        name: a built-in policy.
        roles: of the cluster's pools.

    Raises:
        PolicyError: it needs instances that only prefill, and there are none.
    """
    if builtin(name).disaggregated and "prefill" not in roles:
        raise PolicyError(
            f"policy {name!r} needs instances that only prefill: give `cluster.pools`, such as "
            "[{role: prefill, instances: 2}, {role: decode, instances: 2}]"
        )


def policy_record(
    name: str,
    router: str,
    parameters: Mapping[str, Any],
    handoff: str = "least_kv",
    staleness: float = 0.0,
    targets: Mapping[str, float] | None = None,
) -> np.ndarray:
    """POLICY (1,) for the kernels.

    Args:
        name: the scheduler.
        router: one of ROUTERS.
        parameters: of the scheduler, where they differ from its defaults.
        handoff: one of HANDOFFS.
        staleness: seconds between the reports on which the router relies.
        targets: what stands for the defaults of `ttft_target` and `tpot_target`, seconds.

    Raises:
        PolicyError: unknown policy, router or parameter, or a parameter that is no number >= 0.
    """
    entry = builtin(name)
    if router not in ROUTERS:
        raise PolicyError(f"cluster.router: no router {router!r}; known: {', '.join(ROUTERS)}")
    if handoff not in HANDOFFS:
        raise PolicyError(f"cluster.handoff: no rule {handoff!r}; known: {', '.join(HANDOFFS)}")
    unknown = set(parameters) - set(entry.parameters)
    if unknown:
        raise PolicyError(
            f"policy {name!r} has no parameter {sorted(unknown)[0]!r}; it has: "
            f"{', '.join(entry.parameters) or 'none'}, and the settings of `engine`"
        )
    record = np.zeros(1, POLICY)
    record["kind"] = entry.kind
    record["router"] = ROUTERS[entry.router or router][0]
    record["handoff"] = HANDOFFS[entry.handoff or handoff][0]
    record["system"] = entry.system
    record["migration"] = entry.migration
    record["staleness"] = staleness
    own = {key: value for key, value in (targets or {}).items() if key in entry.parameters}
    for key, given in {**entry.parameters, **own, **parameters}.items():
        value = given
        if key in entry.choices:
            names = entry.choices[key]
            if given not in names and given not in range(len(names)):
                raise PolicyError(f"policy.{key} must be one of {', '.join(names)}, got {given!r}")
            value = names.index(given) if given in names else given
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
            raise PolicyError(f"policy.{key} must be a number of at least 0, got {value!r}")
        record[key] = value
    return record


def load_policy(policy: "str | Policy | type") -> "str | Policy":
    """A built-in's name, or an object with `schedule(view)` from `module:Class`, a class or itself.

    Raises:
        PolicyError: it cannot be imported, or has no such method.
    """
    if isinstance(policy, str) and ":" not in policy:
        if policy not in POLICIES:
            raise PolicyError(
                f"no policy {policy!r}; known: {', '.join(POLICIES)}, zoo:NAME, bundle:FOLDER of "
                f"an exported one, or your own as module:Class{_meant(policy)}"
            )
        return policy
    made: Any = policy
    if isinstance(policy, str):
        module_name, _, attribute = policy.partition(":")
        if not all(part.isidentifier() for part in module_name.split(".")):
            raise PolicyError(
                f"policy {policy!r} names no module: write it as module:Class, such as mine:Mine"
            )
        try:
            made = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise PolicyError(
                f"cannot load policy {policy!r}: {error}; "
                "write it as module:Class, with the module importable from here"
            ) from None
    if inspect.isclass(made):
        try:
            made = made()
        except TypeError as error:
            raise PolicyError(
                f"{policy!r} must be constructible without arguments: {error}"
            ) from None
    if not isinstance(made, Policy):
        raise PolicyError(f"{policy!r} has no method schedule(self, view) -> Steering")
    return made
