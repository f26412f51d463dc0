"""bundle.json: what a policy sees, what its numbers mean, and where it comes from."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from sgym.config import Model
from sgym.envs.features import TABLES
from sgym.errors import PolicyError
from sgym.export.files import SCHEMA_VERSION
from sgym.export.reading import Sheet
from sgym.loading import explain

RESTS = ("policy.", "cluster.router", "cluster.handoff")
"""What `overrides` may begin with: the rules that decide what the agent does not."""


class FeatureRow(Model):
    """One number that the policy sees, as `sgym.envs.features.Feature` has it."""

    name: str
    unit: str
    scale: float
    squash: bool
    low: float
    high: float


class Observation(Model):
    """Features of each part, in order."""

    requests: tuple[FeatureRow, ...] = Field(description="of a slot")
    instances: tuple[FeatureRow, ...] = Field(description="of an instance")
    cluster: tuple[FeatureRow, ...]


class Action(Model):
    """What the numbers of an action stand for, so that a changed table is noticed."""

    space: Literal["Discrete", "MultiDiscrete", "Box"]
    meaning: tuple[str, ...] = Field(description="of choices or of numbers, in order")
    constants: dict[str, float] = Field(description="that turn a number into a Steering")


class EnvironmentArguments(Model):
    """Everything that rebuilds the environment around a scenario; nothing has a default here."""

    id: str = Field(description="such as sgym/Colocated-v0")
    controls: tuple[str, ...]
    action: str
    decision: str
    interval: float
    num_slots: int
    length_hint: str
    base: str
    allow_reject: bool
    expected_output: float
    aging: float
    extra_features: tuple[str, ...]
    overrides: dict[str, Any] = Field(
        default={}, description="of a scenario: the rules that decide what the agent does not"
    )


class Header(Model):
    """What every bundle says of itself."""

    schema_version: Literal[2] = SCHEMA_VERSION
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    scenario: str = Field(description="that it was trained for")
    provenance: dict[str, Any] = Field(description="how it was trained: seeds, commit, time, ...")
    card: str = Field(description="what it is for, how good it is, its limits; first line: short")

    @property
    def summary(self) -> str:
        """The first line of the card."""
        return self.card.strip().partition("\n")[0].lstrip("# ")


class About(Header):
    """All that a trainer says of a policy."""

    kind: Literal["onnx"] = "onnx"
    environment: EnvironmentArguments
    observation: Observation
    action: Action
    mask: Literal["none", "allowed_is_1"] = Field(
        description="allowed_is_1: choices whose mask is 0 never win; none: a Box has no mask"
    )


class Manifest(About):
    """The content of bundle.json."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(description="of policy.onnx")


class BuiltinManifest(Header):
    """The content of bundle.json where a policy that comes with sgym is all there is."""

    kind: Literal["builtin"] = "builtin"
    policy: str = Field(description="its name, one of sgym.export.heuristics.EXPORTABLE")
    parameters: dict[str, float] = Field(description="all of them, also those at their defaults")
    decision: Literal["iteration"] = "iteration"


def read_manifest(folder: Path) -> Manifest | BuiltinManifest:
    """Read bundle.json and check it against the tables of this sgym.

    Raises:
        PolicyError: naming file, field, value, rule and fix.
    """
    return manifest_of(Sheet(folder))


def manifest_of(sheet: Sheet) -> Manifest | BuiltinManifest:
    """Check a bundle.json that was read against the tables of this sgym.

    Raises:
        PolicyError: naming file, field, value, rule and fix.
    """
    form = Manifest if sheet.kind == "onnx" else BuiltinManifest
    try:
        manifest = form.model_validate(sheet.data | {"schema_version": SCHEMA_VERSION})
    except ValidationError as error:
        raise PolicyError(f"{explain(error, str(sheet.path), form)}: export it again") from None
    if isinstance(manifest, Manifest):
        _check_overrides(manifest, sheet.path)
        _check_features(manifest, sheet.path)
    return manifest


def _check_overrides(manifest: Manifest, path: Path) -> None:
    for name in manifest.environment.overrides:
        if not name.startswith(RESTS):
            raise PolicyError(
                f"{path}: environment.overrides has {name!r}, but a bundle may only choose what "
                f"decides beside it ({', '.join(RESTS)}): the scenario is given by who runs it"
            )


def _check_features(manifest: Manifest, path: Path) -> None:
    for table, known in TABLES.items():
        here = {feature.name: feature for feature in known}
        rows: tuple[FeatureRow, ...] = getattr(manifest.observation, table)
        for row in rows:
            where = f"{path}: observation.{table}: feature {row.name!r}"
            if row.name not in here:
                raise PolicyError(
                    f"{where} is unknown to this sgym, which has {', '.join(here)}: "
                    "train again, or use the sgym that wrote it"
                )
            for field, value in row:
                expected = getattr(here[row.name], field)
                if value != expected:
                    raise PolicyError(
                        f"{where} has {field} {value!r}, but {expected!r} in this sgym, so the "
                        "policy would see other numbers: train again, or use the sgym that wrote it"
                    )
