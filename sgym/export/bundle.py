"""A policy bundle: a folder with bundle.json and what it names, loaded and played."""

import dataclasses
import hashlib
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from sgym import simulator
from sgym.config import Scenario
from sgym.envs.base import ServingEnv
from sgym.envs.options import Options
from sgym.errors import PolicyError, ScenarioError
from sgym.export.about import About, BuiltinManifest, Header, Manifest, manifest_of
from sgym.export.description import ENVIRONMENTS, action_of, observation_of, widths_of
from sgym.export.files import MANIFEST, MODEL
from sgym.export.heuristics import check_parameters
from sgym.export.onnx_policy import OnnxPolicy
from sgym.export.reading import Sheet
from sgym.export.zoo import BUNDLE, ZOO
from sgym.loading import load_scenario
from sgym.simulator import Result, Source

Form = TypeVar("Form", bound=Header)


class Stored(ABC, Generic[Form]):
    """A loaded bundle of any kind.

    Args:
        label: `zoo:NAME` or `bundle:FOLDER`, as results are labelled; a copy in another process is
            loaded by it.
        folder: where it lies.
        about: the content of bundle.json.
    """

    def __init__(self, label: str, folder: Path, about: Form) -> None:
        self.label, self.folder, self.about = label, folder, about

    def __reduce__(self) -> "tuple[Callable[[str], Stored[Any]], tuple[str]]":
        """Processes load it for themselves."""
        return load_stored, (self.label,)

    @property
    def digest(self) -> str:
        """Of all that its decisions depend on: bundle.json, which has the hash of policy.onnx."""
        content = self.about.model_dump_json(exclude={"card", "provenance"})
        return hashlib.sha256(content.encode()).hexdigest()

    @abstractmethod
    def simulate(
        self, scenario: Source, seed: int = 0, log: Sequence[str] = (), arrivals: Any = None
    ) -> Result:
        """Simulate one episode in which the policy decides; `sgym.simulate` comes here.

        Args:
            scenario: name, path, dict or Scenario.
            seed: of everything random.
            log: what to record, of "tokens", "iterations", "batches", "moves".
            arrivals: a workload of your own instead of the scenario's.
        """


class BuiltinBundle(Stored[BuiltinManifest]):
    """A policy that comes with sgym, with its parameters; engines evaluate it without a network."""

    def __repr__(self) -> str:
        """Its name, and whose."""
        return f"<BuiltinBundle {self.label}: {self.about.policy}>"

    def simulate(
        self, scenario: Source, seed: int = 0, log: Sequence[str] = (), arrivals: Any = None
    ) -> Result:
        """Simulate one episode under the compiled policy, with the bundle's parameters."""
        policy = {"name": self.about.policy, **self.about.parameters}
        loaded = load_scenario(scenario, {"policy": policy})
        result = simulator.simulate(loaded, None, seed, log, arrivals)
        return dataclasses.replace(result, policy=self.label)


class Bundle(Stored[Manifest]):
    """A loaded network. It decides in the environment that it describes, around any scenario.

    Args:
        label: as of every Stored.
        folder: same.
        about: same.
        model: the content of policy.onnx.
    """

    def __init__(self, label: str, folder: Path, about: Manifest, model: bytes) -> None:
        super().__init__(label, folder, about)
        arguments, action = about.environment, about.action
        path = str(folder / MODEL)
        self.policy = OnnxPolicy(
            model, path, action.space, arguments.num_slots, len(action.meaning)
        )
        self._kept: tuple[Scenario, ServingEnv] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Its name, and what it decides."""
        return f"<Bundle {self.label}: {self.about.environment.action} of {self.about.scenario}>"

    def environment(self, scenario: Source) -> ServingEnv:
        """A new environment of its kind, around a scenario.

        Raises:
            ScenarioError: the scenario is none for such an environment.
            PolicyError: the environment is another one than that of the training.
        """
        arguments, chosen = self.about.environment, options_of(self.about)
        kind = ENVIRONMENTS[arguments.id]
        accepted = set(inspect.signature(kind).parameters)
        own: dict[str, Any] = {
            name: value for name, value in dataclasses.asdict(chosen).items() if name in accepted
        }
        env = kind(scenario=scenario, overrides=dict(arguments.overrides), **own)
        for name, value in dataclasses.asdict(env.plan.options).items():
            if getattr(chosen, name) != value:
                raise self._differs(f"environment.{name}", getattr(chosen, name), repr(value))
        self._check(env)
        return env

    def _check(self, env: ServingEnv) -> None:
        here, written = observation_of(env.plan), self.about.observation
        for table, rows in written:
            seen = [row.name for row in getattr(here, table)]
            if [row.name for row in rows] != seen:
                raise self._differs(f"observation.{table}", [row.name for row in rows], str(seen))
        action = action_of(env.plan)
        for field, value in self.about.action:
            if getattr(action, field) != value:
                raise self._differs(f"action.{field}", value, repr(getattr(action, field)))
        mask = "allowed_is_1" if env.plan.layout.mask_length else "none"
        if self.about.mask != mask:
            raise self._differs("mask", self.about.mask, repr(mask))
        count = len(env.plan.simulator.state.instances)
        where = f"the environment of scenario {env.scenario.name!r} with {count} instances"
        self.policy.check_widths(widths_of(env.plan), where)

    def _differs(self, field: str, value: Any, here: str) -> PolicyError:
        return PolicyError(
            f"{self.folder / MANIFEST}: {field} is {value!r}, but must be {here} in this sgym: "
            "train again, or use the sgym that wrote it"
        )

    def simulate(
        self, scenario: Source, seed: int = 0, log: Sequence[str] = (), arrivals: Any = None
    ) -> Result:
        """Simulate one episode; the environment is kept for the next one of the same scenario."""
        loaded = load_scenario(scenario)
        with self._lock:
            if self._kept is None or self._kept[0] != loaded:
                self._kept = loaded, self.environment(loaded)
            env = self._kept[1]
            env.prepare(arrivals, log)
            observation, _ = env.reset(options={"workload_seed": seed})
            masked, over = self.about.mask != "none", False
            while not over:
                mask = env.action_masks() if masked else None
                action = self.policy.act(observation, mask)
                observation, _, terminated, truncated, _ = env.step(action)
                over = terminated or truncated
            return dataclasses.replace(env.result(), policy=self.label)


def options_of(about: About) -> Options:
    """The arguments of the environment, scenario apart."""
    names = [field.name for field in dataclasses.fields(Options)]
    return Options(**{name: getattr(about.environment, name) for name in names})


def load_bundle(source: str | Path) -> Bundle:
    """Load and check a bundle with a network.

    Args:
        source: its folder, `bundle:FOLDER` or `zoo:NAME`.

    Raises:
        PolicyError: it is not there, damaged, or not for this sgym; names file, field and fix.
    """
    found = load_stored(source)
    if not isinstance(found, Bundle):
        raise PolicyError(
            f"{found.folder / MANIFEST}: kind is 'builtin', but a network is needed here: use "
            "sgym.export.load_stored, sgym.simulate or PolicyRuntime, which take both kinds"
        )
    return found


def load_stored(source: str | Path) -> Stored[Any]:
    """Load and check a bundle of any kind.

    Args:
        source: its folder, `bundle:FOLDER` or `zoo:NAME`.

    Raises:
        PolicyError: it is not there, damaged, or not for this sgym; names file, field and fix.
    """
    label, sheet = str(source), Sheet(source)
    about = manifest_of(sheet)
    if not label.startswith((ZOO, BUNDLE)):
        label = BUNDLE + label
    if isinstance(about, BuiltinManifest):
        check_parameters(about.policy, about.parameters, str(sheet.path))
        return BuiltinBundle(label, sheet.folder, about)
    _check_environment(about, sheet.path)
    return Bundle(label, sheet.folder, about, sheet.model())


def _check_environment(about: Manifest, path: Path) -> None:
    kind = about.environment.id
    if kind not in ENVIRONMENTS:
        raise PolicyError(
            f"{path}: environment.id must be one of {', '.join(ENVIRONMENTS)}, got {kind!r}: "
            "export the policy again, or use the sgym that wrote it"
        )
    try:
        options_of(about).check()
    except ScenarioError as error:
        raise PolicyError(f"{path}: environment: {error}: export the policy again") from None
