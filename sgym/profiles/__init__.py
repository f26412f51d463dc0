"""Latency profiles: measured iteration times of models on GPUs, shipped or the user's own."""

from pathlib import Path

import numpy as np

from sgym.config import Linear, Scenario
from sgym.core.layout import LATENCY
from sgym.errors import ProfileError
from sgym.profiles.memory import kv_blocks
from sgym.profiles.models import GPUS, MODELS, GpuSpec, ModelSpec, gpu_spec, model_spec
from sgym.profiles.profile import Profile, ProfileWarning, profile_name, read

__all__ = [
    "GPUS",
    "MODELS",
    "GpuSpec",
    "ModelSpec",
    "Profile",
    "ProfileWarning",
    "for_scenario",
    "kv_blocks",
    "load",
    "names",
    "profile_name",
]

DATA = Path(__file__).parent / "data"


def names() -> list[str]:
    """Names of the shipped profiles."""
    return sorted(path.stem for path in DATA.glob("*.json"))


def load(name_or_path: str | Path) -> Profile:
    """Read a shipped profile by name, or any profile by path.

    Raises:
        ProfileError: no such profile, or a damaged file.
    """
    name = str(name_or_path)
    shipped = DATA / f"{name.lower()}.json"
    if shipped.is_file():
        return read(shipped)
    if Path(name).is_file():
        return read(Path(name))
    raise ProfileError(
        f"no latency profile {name!r}: neither a file nor shipped with sgym; {_measured(name)}. "
        "Measure your own with experiments/profile_gpu and `sgym calibrate`, "
        "or give `latency.linear`"
    )


def _measured(name: str) -> str:
    """The shipped profiles of the model in a name, or the models that have any."""
    by_model: dict[str, list[str]] = {}
    for shipped in names():
        by_model.setdefault(shipped.split("_")[0], []).append(shipped)
    model = name.lower().split("_")[0]
    if model in by_model:
        return f"of this model there are {', '.join(by_model[model])}"
    return f"the models measured are {', '.join(by_model)}"


def for_scenario(scenario: Scenario) -> tuple[np.ndarray, int]:
    """How long the scenario's iterations take, and how much KV an instance holds.

    Warns (ProfileWarning, once) where the engine's limits go beyond what was measured.

    Returns:
        LATENCY of shape (1,), and usable KV blocks: the engine's number minus vLLM's null block.

    Raises:
        ProfileError: no such profile, or the model does not fit.
    """
    choice, engine, cluster = scenario.latency, scenario.engine, scenario.cluster
    if choice.linear is not None:
        return _linear(choice.linear, choice.noise), _linear_blocks(scenario) - 1
    name = choice.profile or profile_name(cluster.model, cluster.gpu, cluster.tp)
    profile = load(name)
    profile.covers(engine)
    return profile.latency(choice.overhead, choice.noise), profile.blocks(engine) - 1


def _linear(line: Linear, noise: float) -> np.ndarray:
    record = np.zeros(1, LATENCY)
    record["base"], record["noise"] = line.iteration, noise
    record["per_prefill_token"], record["per_decode_seq"] = line.prefill_token, line.decode_seq
    record["per_kv_token"] = line.context_token
    return record


def _linear_blocks(scenario: Scenario) -> int:
    engine, cluster = scenario.engine, scenario.cluster
    if engine.num_gpu_blocks is not None:
        return engine.num_gpu_blocks
    return kv_blocks(
        model_spec(cluster.model),
        gpu_spec(cluster.gpu).memory,
        engine.gpu_memory_utilization,
        cluster.tp,
        engine.block_size,
        engine.max_num_batched_tokens,
        engine.max_num_seqs,
    )
