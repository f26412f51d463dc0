"""What a training is: YAML in the form of RL-Zoo, a section per environment or scenario."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sgym.envs.actions import KNOBS, ORDERINGS
from sgym.errors import ScenarioError, SgymError
from sgym.loading import UniqueKeys, load_scenario
from sgym.policies.registry import POLICIES

Share = Annotated[float, Field(ge=0, le=1)]
Above = Annotated[float, Field(gt=0)]
Discount = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]

COMMON = ("learning_rate", "batch_size", "gamma")
ON_POLICY = (
    *COMMON,
    "n_steps",
    "n_epochs",
    "gae_lambda",
    "clip_range",
    "ent_coef",
    "vf_coef",
    "max_grad_norm",
    "target_kl",
)
DQN = (
    *COMMON,
    "buffer_size",
    "learning_starts",
    "train_freq",
    "gradient_steps",
    "target_update_interval",
    "exploration_fraction",
    "exploration_final_eps",
)
TAKES = {"ppo": ON_POLICY, "ppo_mask": ON_POLICY, "ppo_lstm": ON_POLICY, "dqn": DQN}
"""Algorithm -> the settings that go to its constructor."""
POLICIES_OF = {
    "ppo": ("MultiInputPolicy", "SchedulerPolicy"),
    "ppo_mask": ("MultiInputPolicy", "SchedulerPolicy"),
    "ppo_lstm": ("MultiInputLstmPolicy",),
    "dqn": ("MultiInputPolicy",),
}
ONLY_FOR = {
    name: [algo for algo, takes in TAKES.items() if name in takes] for name in ON_POLICY + DQN
}


class ConfigError(SgymError):
    """A training configuration breaks a rule; the message says where and which."""


class Model(BaseModel):
    """Base of all sections: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Variation(Model):
    """One of the scenarios that a policy is trained on."""

    scenario: str | dict[str, Any] | None = Field(
        default=None, description="name, path or dict; none = the section's"
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="dotted names to values, on top of the section's"
    )
    n_envs: Count | None = Field(default=None, description="none = an equal part of the rest")


class Evaluation(Model):
    """What is measured during training, with greedy actions, on workloads kept aside."""

    freq: Count = Field(default=20_000, description="environment steps between evaluations")
    seeds: Count = Field(default=16, description="workloads of each scenario")
    first_seed: Annotated[int, Field(ge=0)] = Field(
        default=1_000_000, description="seed of the first workload; the others follow"
    )
    reference: str = Field(default="spf", description="built-in policy to compare with")


class WarmStart(Model):
    """Behaviour cloning before training."""

    expert: str = Field(description="knobs such as spf+0.2+open, an ordering, or least_outstanding")
    steps: Count = Field(default=256, description="steps of each environment per iteration")
    iterations: Count = Field(default=2, description="the first as the expert acts, then DAgger")
    epochs: Count = Field(default=8, description="passes over all that was collected")
    learning_rate: Above = Field(default=1e-3, description="of these passes")
    batch_size: Count = Field(default=128, description="states per gradient step")


class Training(Model):
    """One training. Names that RL-Zoo has mean what they mean there."""

    algo: Literal["ppo", "ppo_mask", "ppo_lstm", "dqn"] = "ppo_mask"
    env: str = Field(default="sgym/Colocated-v0", description="id of the environment")
    scenario: str | dict[str, Any] | None = Field(
        default=None, description="name, path or dict; none = the section's name"
    )
    overrides: dict[str, Any] = Field(default_factory=dict, description="dotted names to values")
    env_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the environment"
    )
    variations: tuple[Variation, ...] = Field(
        default=(), description="scenarios to train on side by side; none = the section's alone"
    )
    reward: Literal["own", "paired"] = Field(
        default="own", description="paired: minus what evaluation.reference earns on the workload"
    )
    normalize: bool = Field(
        default=False, description="divide rewards by their running scale (never observations)"
    )
    gamma_per_second: Discount | None = Field(
        default=None, description="discount by simulated time instead of `gamma` by decisions"
    )
    warm_start: WarmStart | None = None
    evaluation: Evaluation = Evaluation()
    checkpoint_freq: Count = Field(default=50_000, description="steps between checkpoints")

    n_envs: Count = 16
    n_timesteps: Count = 100_000
    policy: str = "SchedulerPolicy"
    policy_kwargs: dict[str, Any] = Field(default_factory=dict)
    learning_rate: Above = 3e-4
    linear_decay: bool = Field(default=False, description="the learning rate falls to 0")
    batch_size: Count = 512
    gamma: Discount = 0.99
    n_steps: Count = Field(default=128, description="of each environment per rollout")
    n_epochs: Count = 4
    gae_lambda: Share = 0.95
    clip_range: Above = 0.2
    ent_coef: Annotated[float, Field(ge=0)] = 0.0
    vf_coef: Annotated[float, Field(ge=0)] = 0.5
    max_grad_norm: Above = 0.5
    target_kl: Above | None = None
    buffer_size: Count = 50_000
    learning_starts: Count = 2_000
    train_freq: Count = 4
    gradient_steps: Annotated[int, Field(ge=-1)] = 4
    target_update_interval: Count = 1_000
    exploration_fraction: Share = 0.3
    exploration_final_eps: Share = 0.05

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        """`n_timesteps: 1e5`, which YAML reads as a word, and `warm_start: spf+0.2+open`."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for name, value in data.items():
            if isinstance(value, str) and _is_number(value):
                data[name] = float(value)
        if isinstance(data.get("warm_start"), str):
            data["warm_start"] = {"expert": data["warm_start"]}
        return data

    @model_validator(mode="after")
    def _fits_together(self) -> "Training":
        for name in self.model_fields_set & set(ONLY_FOR):
            if self.algo not in ONLY_FOR[name]:
                raise ValueError(
                    f"`{name}` is no setting of algo {self.algo}: leave it out, or choose one of "
                    f"{', '.join(ONLY_FOR[name])}"
                )
        known = POLICIES_OF[self.algo]
        if self.policy not in known:
            raise ValueError(
                f"`policy` of algo {self.algo} must be one of {', '.join(known)}, "
                f"got {self.policy!r}"
            )
        if self.evaluation.reference not in POLICIES:
            raise ValueError(
                f"`evaluation.reference` must be a built-in policy, got "
                f"{self.evaluation.reference!r}: see `sgym list policies`"
            )
        for name, value in (
            ("gamma_per_second", self.gamma_per_second),
            ("warm_start", self.warm_start),
        ):
            if value is not None and self.algo not in ("ppo", "ppo_mask"):
                raise ValueError(f"`{name}` needs algo ppo or ppo_mask, got {self.algo}")
        if self.gamma_per_second is not None and "gamma" in self.model_fields_set:
            raise ValueError("give `gamma` or `gamma_per_second`, not both")
        self._check_expert()
        self._check_shares()
        return self

    def _check_expert(self) -> None:
        names = (*(knobs.name for knobs in KNOBS), *ORDERINGS, "least_outstanding")
        if self.warm_start is not None and self.warm_start.expert not in names:
            near = difflib.get_close_matches(self.warm_start.expert, names, n=1)
            hint = f". Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"`warm_start.expert` must be knobs such as spf+0.2+open, one of "
                f"{', '.join(ORDERINGS)}, or least_outstanding, got "
                f"{self.warm_start.expert!r}{hint}"
            )

    def _check_shares(self) -> None:
        given = sum(variation.n_envs or 1 for variation in self.variations)
        if given > self.n_envs:
            raise ValueError(
                f"`n_envs` must be at least {given}, one for each of `variations` and those that "
                f"they ask for, got {self.n_envs}"
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read(path: Path, only: str | None = None) -> tuple[str, Training]:
    """Name and settings of the training that a file describes.

    Args:
        path: a YAML file of sections.
        only: the section; none = the only one.

    Raises:
        ConfigError: no such file, section, key or value.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)  # noqa: S506  (it is safe)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not valid YAML: {error}") from None
    if not isinstance(data, dict) or not data:
        raise ConfigError(f"{path.name} must hold sections, such as `tiny:`, with settings below")
    names = [str(name) for name in data]
    if only is None and len(names) > 1:
        raise ConfigError(f"{path.name} has several sections: choose by --only {'|'.join(names)}")
    if only is not None and only not in names:
        raise ConfigError(f"{path.name} has no section {only!r}; it has: {', '.join(names)}")
    name = only or names[0]
    return name, parse(name, data[name], path.name)


def parse(name: str, settings: Any, label: str = "config") -> Training:
    """The settings of a section, checked.

    Raises:
        ConfigError: names field, value and rule.
    """
    if not isinstance(settings, dict):
        raise ConfigError(f"{label}: section {name} must hold settings, got {settings!r}")
    given = dict(settings)
    if "/" in name:
        given.setdefault("env", name)
    try:
        training = Training.model_validate(given)
    except ValidationError as error:
        raise ConfigError(
            f"{label}: " + "; ".join(_said(name, p) for p in error.errors())
        ) from None
    if training.scenario is None and "/" not in name:
        training = training.model_copy(update={"scenario": name})
    try:
        for variation in training.variations or (Variation(),):
            source = variation.scenario or training.scenario
            if source is not None:
                load_scenario(source, {**training.overrides, **variation.overrides})
    except ScenarioError as error:
        raise ConfigError(f"{label}: {name}: {error}") from None
    return training


def _said(section: str, problem: Any) -> str:
    where = ".".join((section, *(str(part) for part in problem["loc"])))
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(problem["loc"][-1]), Training.model_fields, n=1)
        return f"{where} is no known key" + (f". Did you mean {near[0]!r}?" if near else "")
    rule = problem["msg"].removeprefix("Value error, ")
    value = problem.get("input")
    return f"{where}: {rule}" + ("" if isinstance(value, dict) else f", got {value!r}")
