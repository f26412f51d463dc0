"""Policies by name, bundles among them; the simulation of an episode under any of them.

`sgym.policies` knows the built-in schedulers and Python's classes, and lies below the environments;
a bundle decides in an environment. So names of bundles are understood here, above both, and what a
person calls (`sgym.simulate`, `sgym.compare`, the commands) asks here.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sgym import simulator
from sgym.export.bundle import Stored, load_stored
from sgym.export.files import MANIFEST, MODEL
from sgym.export.zoo import BUNDLE, ZOO, folder_of
from sgym.policies.registry import Policy, load_policy
from sgym.simulator import Result, Source

LOADED = 16  # bundles that a process keeps, with their environments

AnyPolicy = str | Policy | type | Stored[Any]


def is_bundle(policy: Any) -> bool:
    """Whether a policy is a bundle, or the name of one."""
    return isinstance(policy, Stored) or (
        isinstance(policy, str) and policy.startswith((ZOO, BUNDLE))
    )


def resolve(policy: AnyPolicy) -> "str | Policy | Stored[Any]":
    """A built-in's name, an object with `schedule(view)`, or a bundle.

    A bundle that is named again is not loaded again, unless its files have changed.

    Raises:
        PolicyError: there is no such policy, or it cannot be loaded.
    """
    if isinstance(policy, Stored):
        return policy
    if isinstance(policy, str) and is_bundle(policy):
        folder = folder_of(policy).resolve()
        return _loaded(policy, folder, (_stamp(folder / MANIFEST), _stamp(folder / MODEL)))
    return load_policy(policy)


@lru_cache(LOADED)
def _loaded(name: str, folder: Path, stamps: tuple[Any, ...]) -> Stored[Any]:  # noqa: ARG001  (the key)
    return load_stored(name)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


def simulate(
    scenario: Source,
    policy: AnyPolicy | None = None,
    seed: int = 0,
    log: Sequence[str] = (),
    arrivals: Any = None,
) -> Result:
    """Simulate one episode.

    Args:
        scenario: name, path, dict or Scenario.
        policy: a built-in's name, `zoo:NAME`, `bundle:FOLDER`, `module:Class`, an object with
            `schedule(view)`, its class, or a Bundle; none = the scenario's.
        seed: of everything random.
        log: what to record, of "tokens", "iterations", "batches", "moves".
        arrivals: a workload of your own instead of the scenario's.

    Raises:
        ScenarioError, PolicyError, TraceError, ProfileError: says what is wrong.
    """
    if is_bundle(policy):
        bundle: Any = resolve(policy)  # type: ignore[arg-type]
        return bundle.simulate(scenario, seed, log, arrivals)
    return simulator.simulate(scenario, policy, seed, log, arrivals)  # type: ignore[arg-type]
