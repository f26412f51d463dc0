"""A latency profile: how long an iteration takes on one GPU model, from a small JSON file."""

import json
import math
import os
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from sgym.config import Engine, Model
from sgym.core.layout import CURVE, GRID, LATENCY
from sgym.errors import ProfileError
from sgym.profiles.memory import kv_blocks
from sgym.profiles.models import GpuSpec, ModelSpec

FORMAT = 1
"""Version of the file format; a file with another one is refused."""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Axis = tuple[Seconds, ...]


class ProfileWarning(UserWarning):
    """A simulation leaves the range in which its latency was measured."""


class Curve(Model):
    """Seconds over one quantity, linear between the points."""

    at: Axis = Field(min_length=2, max_length=CURVE)
    seconds: Axis

    @model_validator(mode="after")
    def _rising_and_complete(self) -> Self:
        _check_axis(self.at)
        if len(self.seconds) != len(self.at):
            raise ValueError(f"{len(self.at)} points but {len(self.seconds)} times")
        if self.seconds[-1] < self.seconds[-2]:
            raise ValueError("the last two times fall, so that extrapolation would become negative")
        return self


class Surface(Model):
    """Seconds over two quantities, bilinear between the points: `seconds[row][column]`."""

    rows: Axis = Field(min_length=2, max_length=GRID)
    columns: Axis = Field(min_length=2, max_length=GRID)
    seconds: tuple[Axis, ...]

    @model_validator(mode="after")
    def _rising_and_complete(self) -> Self:
        _check_axis(self.rows)
        _check_axis(self.columns)
        shape = (len(self.rows), len(self.columns))
        if len(self.seconds) != shape[0] or any(len(row) != shape[1] for row in self.seconds):
            raise ValueError(f"`seconds` must have {shape[0]} rows of {shape[1]}")
        times = np.array(self.seconds)
        if (times[-1] < times[-2]).any() or (times[:, -1] < times[:, -2]).any():
            raise ValueError("times fall at the edge, so that extrapolation would become negative")
        return self


def _check_axis(points: Axis) -> None:
    if any(after <= before for before, after in pairwise(points)):
        raise ValueError("points must rise")


class Provenance(Model):
    """Where the numbers come from."""

    source: str = Field(description="who measured, and where the tables are published")
    commit: str = Field(default="", description="version of that publication")
    licence: str
    framework: str = Field(description="what was measured, with its version")
    derived: tuple[str, ...] = Field(
        (), description="what was not measured, and how it was filled in"
    )
    dropped_rows: int = Field(default=0, description="rows left out as outliers")
    fit_error: dict[str, float] = Field(
        default_factory=dict,
        description="operation -> median relative error at measured points held out of the fit",
    )
    overhead_fit: str = Field(
        default="not fitted", description="the measured serving run on which `overhead` was fitted"
    )


class Profile(Model):
    """Times of one model on one GPU (or `tp` of them) for whole iterations, and KV capacity."""

    format: int = FORMAT
    model: ModelSpec
    gpu: GpuSpec
    tp: int = Field(default=1, ge=1)
    attention_base: Seconds = Field(
        description="seconds per iteration: fixed cost of the attention calls"
    )
    overhead: Seconds = Field(default=0.0, description="seconds of CPU work per iteration, fitted")
    tokens: Curve = Field(description="GEMMs, norms and all-reduce over the tokens of the batch")
    seqs: Curve = Field(description="lm_head and sampler over the sequences that sample")
    prefill: Surface = Field(description="attention of a chunk (rows) after a prefix (columns)")
    decode: Surface = Field(
        description="attention of sequences (rows) with mean KV entries (columns)"
    )
    provenance: Provenance

    @property
    def name(self) -> str:
        """Name under which it is found, such as `llama-3.1-8b_a100-80gb_tp1`."""
        return profile_name(self.model.name, self.gpu.name, self.tp)

    def latency(self, overhead: float | None = None, noise: float = 0.0) -> np.ndarray:
        """The profile as the simulation core reads it: LATENCY, shape (1,).

        Args:
            overhead: seconds per iteration instead of the fitted value.
            noise: standard deviation of the logarithm of a random factor.
        """
        record = np.zeros(1, LATENCY)
        row = record[0]
        row["base"] = self.attention_base + (self.overhead if overhead is None else overhead)
        row["noise"] = noise
        for curve, name in ((self.tokens, "tokens"), (self.seqs, "seqs")):
            row[f"num_{name}"] = len(curve.at)
            row[name] = _padded(curve.at, CURVE)
            row[f"{name}_time"] = _padded(curve.seconds, CURVE)
        _fill_surface(
            row, self.prefill, ("num_chunks", "num_prefixes", "chunk", "prefix", "prefill_time")
        )
        _fill_surface(
            row, self.decode, ("num_batches", "num_contexts", "batch", "context", "decode_time")
        )
        return record

    def blocks(self, engine: Engine) -> int:
        """KV blocks of an instance under these limits, vLLM's null block included."""
        if engine.num_gpu_blocks is not None:
            return engine.num_gpu_blocks
        return kv_blocks(
            self.model,
            self.gpu.memory,
            engine.gpu_memory_utilization,
            self.tp,
            engine.block_size,
            engine.max_num_batched_tokens,
            engine.max_num_seqs,
        )

    def uncovered(self, engine: Engine) -> list[str]:
        """What an engine with these limits may reach beyond the measured grid, as sentences."""
        limits = (
            ("max_num_batched_tokens", engine.max_num_batched_tokens, self.tokens.at[-1], "tokens"),
            ("max_num_seqs", engine.max_num_seqs, self.decode.rows[-1], "sequences"),
            ("max_model_len", engine.max_model_len, self.decode.columns[-1], "tokens of context"),
        )
        return [
            f"engine.{name} is {value}, measured up to {edge:.0f} {unit}"
            for name, value, edge, unit in limits
            if value > edge
        ]

    def covers(self, engine: Engine) -> bool:
        """Whether these limits stay on the measured grid; warns where they do not.

        The warning is a ProfileWarning, which Python shows once per message.
        """
        beyond = self.uncovered(engine)
        if beyond:
            warnings.warn(
                f"profile {self.name}: {'; '.join(beyond)}; times beyond are extrapolated linearly",
                ProfileWarning,
                stacklevel=3,
            )
        return not beyond

    def save(self, folder: str | Path) -> Path:
        """Write `<folder>/<name>.json`, in one piece or not at all."""
        path = Path(folder) / f"{self.name}.json"
        draft = path.with_suffix(".tmp")
        sections = _short(self.model_dump(mode="json")).items()
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sections)
        draft.write_text("{\n" + lines + "\n}\n", "utf-8")
        os.replace(draft, path)
        return path


def profile_name(model: str, gpu: str, tp: int) -> str:
    """Name of the profile of a model on a GPU."""
    return f"{model}_{gpu}_tp{tp}".lower()


def _padded(points: Axis, length: int) -> np.ndarray:
    return np.array(points + points[-1:] * (length - len(points)))


def _fill_surface(row: Any, surface: Surface, names: tuple[str, str, str, str, str]) -> None:
    num_rows, num_columns, rows, columns, seconds = names
    row[num_rows], row[num_columns] = len(surface.rows), len(surface.columns)
    row[rows], row[columns] = _padded(surface.rows, GRID), _padded(surface.columns, GRID)
    gap = (0, GRID - len(surface.rows)), (0, GRID - len(surface.columns))
    row[seconds] = np.pad(np.array(surface.seconds), gap, mode="edge")


def _short(value: Any) -> Any:
    """The value with floats cut to five digits, and number lists as they are (for small files)."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else value
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    return value


def read(path: Path) -> Profile:
    """Read a profile file.

    Raises:
        ProfileError: no profile, damaged, or of another format version; says what to do.
    """
    advice = f"write it anew with `sgym calibrate`, or reinstall sgym if it came with it ({path})"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"cannot read profile {path}: {error.strerror}") from None
    except ValueError as error:
        raise ProfileError(f"profile {path.name} is damaged: {error}; {advice}") from None
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise ProfileError(
            f"profile {path.name} has format {found!r}, this sgym reads format {FORMAT}; {advice}"
        )
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ProfileError(
            f"profile {path.name} is damaged at {where or 'its root'}: {problem['msg']}; {advice}"
        ) from None
