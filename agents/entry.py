"""What an entry of the zoo says of itself: a scenario, rates, an environment, a search."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import sgym
from agents.search import Budget
from sgym.config import Scenario
from sgym.envs.base import ServingEnv
from sgym.envs.colocated import ColocatedEnv
from sgym.envs.disaggregated import DisaggregatedEnv
from sgym.envs.router import RouterEnv
from sgym.errors import ScenarioError

ENVIRONMENTS: Mapping[str, type[ServingEnv]] = {
    "sgym/Colocated-v0": ColocatedEnv,
    "sgym/Disaggregated-v0": DisaggregatedEnv,
    "sgym/Router-v0": RouterEnv,
}
ZOO = Path(__file__).parent / "zoo"


class Window(BaseModel):
    """Another length of the episodes, and the rates that belong to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    duration: float = Field(gt=0.0, description="seconds")
    rates: tuple[float, float] = Field(
        description="requests per second: where the best heuristic peaks, and 1.2 times that"
    )


class Entry(BaseModel):
    """One entry; `agents/zoo/NAME/config.yml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str = Field(description="one line for lists")
    scenario: str = Field(description="name of a scenario, or a path to one")
    overrides: dict[str, Any] = Field(default_factory=dict, description="dotted names to values")
    rates: tuple[float, float] = Field(
        description="requests per second: where the best heuristic peaks, and 1.2 times that"
    )
    env: str = Field(default="sgym/Colocated-v0", description="id of the environment")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="of the environment: decision, controls, base"
    )
    heuristics: tuple[str, ...] = Field(description="policies that are tuned to compare with")
    trace: str | None = Field(
        default=None, description="file name of a public trace whose second half is held out"
    )
    long: Window | None = Field(
        default=None, description="windows far longer than those of training, to try it on"
    )
    search: Budget = Budget()
    searches: int = Field(
        default=2, ge=1, description="of each heuristic, as long as the learner's one"
    )

    def loaded(self, rate: float, more: Mapping[str, Any] | None = None) -> Scenario:
        """The scenario at a rate, with `more` overrides."""
        changes = {**self.overrides, **(more or {}), "workload.rate": rate}
        return sgym.load_scenario(self.scenario, changes)

    def environment(self, scenario: Scenario) -> ServingEnv:
        """The environment in which its policy acts."""
        return ENVIRONMENTS[self.env](scenario, **self.arguments)


def load_entry(path: str | Path) -> tuple[str, Entry]:
    """Name and entry of a folder of the zoo, of its config.yml, or of a name in the zoo.

    Raises:
        ScenarioError: the file is not there, or breaks a rule.
    """
    given = Path(path)
    for file in (given, given / "config.yml", ZOO / str(path) / "config.yml"):
        if file.is_file():
            break
    else:
        known = ", ".join(sorted(p.parent.name for p in ZOO.glob("*/config.yml")))
        raise ScenarioError(f"no entry {str(path)!r}: give a config.yml, or one of {known}")
    try:
        return file.parent.name, Entry.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ScenarioError(f"{file}: {error}") from None


def paired_by_rate(values: list[np.ndarray]) -> np.ndarray:
    """(P, S) at each rate -> (P, S): the mean over rates, seed by seed."""
    return np.mean(values, axis=0)
