"""Finished runs on disk, so that an interrupted comparison goes on where it stopped.

Each line of `finished.jsonl` is a run; its key is a digest of all that its result depends on.
A line is appended in one write; one that a crash cut short is dropped when the file is read.
"""

import hashlib
import importlib.util
import json
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sgym.comparison.runs import Finished, Task, at_rate
from sgym.config import Scenario
from sgym.errors import SgymError
from sgym.export import Stored, is_bundle, resolve
from sgym.workload import resolve_trace

FILE = "finished.jsonl"
LOOKS = ("cli", "viz", "comparison", "zoo")
"""Parts of sgym that no result depends on; of a bundle, only its own do."""


class Store:
    """The finished runs of one scenario in one folder.

    Args:
        folder: is made if need be; None = nothing is kept.
        scenario: what is simulated, at any rate.
    """

    def __init__(self, folder: Path | None, scenario: Scenario) -> None:
        self._path = None if folder is None else folder / FILE
        self._scenario = scenario
        self._basis = _basis(scenario)
        self._sources: dict[str, str] = {}
        self._rows: dict[str, dict[str, float]] = {}
        if self._path is not None:
            self._rows = _read(make_folder(self._path.parent) / FILE)

    def find(self, task: Task) -> dict[str, float] | None:
        """The metrics of a run that finished earlier."""
        key = self.key(task)
        return None if key is None else self._rows.get(key)

    def add(self, finished: Finished) -> None:
        """Keep a run. Those of a policy object are not kept: nothing says what is inside it."""
        key = self.key(finished.task)
        if key is None or self._path is None:
            return
        label, _, rate, seed = finished.task
        line = {
            "key": key,
            "policy": label,
            "rate": rate,
            "seed": seed,
            "metrics": finished.metrics,
        }
        data = (json.dumps(line) + "\n").encode()
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, data)
        finally:
            os.close(handle)

    def key(self, task: Task) -> str | None:
        """Digest of all that a run depends on; None if nothing says what its policy does."""
        if not isinstance(task.policy, str):
            return None
        scenario = at_rate(self._scenario, task.rate).model_dump_json()
        if task.policy not in self._sources:
            self._sources[task.policy] = _policy_source(task.policy)
        parts = (self._basis, scenario, self._sources[task.policy], str(task.seed))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, dict[str, float]]:
    """Complete lines of the file; broken ones are cut out."""
    if path.is_dir():
        raise SgymError(f"{path} is a folder, but finished runs are kept in a file of that name")
    if not path.is_file():
        return {}
    rows: dict[str, dict[str, float]] = {}
    lines = path.read_bytes().splitlines(keepends=True)
    good = []
    for line in lines:
        try:
            row: Any = json.loads(line)
            rows[row["key"]] = {name: _number(value) for name, value in row["metrics"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        good.append(line if line.endswith(b"\n") else line + b"\n")
    if good != lines:
        draft = path.with_suffix(".tmp")
        draft.write_bytes(b"".join(good))
        os.replace(draft, path)
    return rows


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a metric must be a number, got {value!r}")
    return value


def make_folder(folder: Path) -> Path:
    """Make a folder for results, unless it is there.

    Raises:
        SgymError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SgymError(
            f"cannot make the folder {str(folder)!r} for the results ({error.strerror}): "
            "choose another one"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SgymError(
            f"cannot write results into the folder {str(folder)!r} (permission denied): "
            "choose another one"
        )
    return folder


def _basis(scenario: Scenario) -> str:
    """What all runs of a scenario depend on besides its text: versions, code, files it names."""
    parts = [_code(), np.__version__, platform.python_version()]
    if scenario.workload.trace is not None:
        parts.append(_digest(resolve_trace(scenario.workload.trace)))
    profile = scenario.latency.profile
    if profile is not None and Path(profile).is_file():
        parts.append(_digest(Path(profile)))
    return "\n".join(parts)


@cache
def _code() -> str:
    """Digest of sgym's version, code and data, as far as results depend on them."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        inside = path.relative_to(package)
        if path.suffix in (".py", ".json") and inside.parts[0] not in LOOKS:
            digest.update(str(inside).encode() + path.read_bytes())
    return digest.hexdigest()


def _policy_source(policy: str) -> str:
    """A policy's name, and a digest of what defines it: the user's module, or the bundle."""
    bundle = resolve(policy) if is_bundle(policy) else None
    if isinstance(bundle, Stored):
        return policy + bundle.digest
    module, colon, _ = policy.partition(":")
    spec = importlib.util.find_spec(module) if colon else None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return policy
    return policy + _digest(Path(spec.origin))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
