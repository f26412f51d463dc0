"""The models whose latency is known, and the GPUs: shapes and sizes, nothing measured."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from sgym.config import Model
from sgym.errors import ProfileError

Size = Annotated[int, Field(ge=1)]
BYTES = 2  # of a bfloat16 weight or KV entry


class ModelSpec(Model):
    """Shape of a dense decoder with grouped-query attention and a gated MLP, in bfloat16."""

    name: str
    layers: Size
    hidden: Size
    heads: Size = Field(description="query heads")
    kv_heads: Size
    head_dim: Size
    ffn: Size = Field(description="width of the gated MLP")
    vocab: Size

    @property
    def parameters(self) -> int:
        """Number of weights; embedding and lm_head are separate in all models here."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        mlp = 3 * self.hidden * self.ffn
        return self.layers * (attention + mlp + 2 * self.hidden) + self.hidden * (
            2 * self.vocab + 1
        )

    @property
    def kv_bytes(self) -> int:
        """Bytes of the keys and values of one token, over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BYTES

    def gemms(self, tp: int) -> dict[str, tuple[int, int]]:
        """The weight matrices of one layer as (n, k), on each of `tp` GPUs."""
        attention = self.heads * self.head_dim // tp
        kv = self.kv_heads * self.head_dim // tp
        return {
            "qkv": (attention + 2 * kv, self.hidden),
            "o": (self.hidden, attention),
            "gate_up": (2 * self.ffn // tp, self.hidden),
            "down": (self.hidden, self.ffn // tp),
        }


MODELS = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="Llama-3.1-8B", layers=32, hidden=4096, heads=32, kv_heads=8,
            head_dim=128, ffn=14336, vocab=128256,
        ),
        ModelSpec(
            name="Qwen2.5-14B", layers=48, hidden=5120, heads=40, kv_heads=8,
            head_dim=128, ffn=13824, vocab=152064,
        ),
        ModelSpec(
            name="Qwen3-14B", layers=40, hidden=5120, heads=40, kv_heads=8,
            head_dim=128, ffn=17408, vocab=151936,
        ),
    )
}  # fmt: skip


class GpuSpec(Model):
    """A GPU as its driver reports it, with bandwidth from its data sheet or as measured."""

    name: str
    memory: Size = Field(description="bytes that the CUDA runtime reports as total")
    bandwidth: float = Field(gt=0, description="bytes per second of device memory")


GPUS = {
    gpu.name: gpu
    for gpu in (
        GpuSpec(name="A100-80GB", memory=int(79.15 * 2**30), bandwidth=2.039e12),
        GpuSpec(name="H100", memory=int(79.10 * 2**30), bandwidth=3.35e12),
        GpuSpec(name="H200", memory=int(139.72 * 2**30), bandwidth=4.8e12),
        GpuSpec(name="L40S", memory=int(44.40 * 2**30), bandwidth=0.864e12),
        GpuSpec(name="RTX4090", memory=25_250_627_584, bandwidth=1.008e12),
    )
}


def model_spec(model: str | ModelSpec) -> ModelSpec:
    """The shape of a model given by name.

    Raises:
        ProfileError: unknown name.
    """
    if isinstance(model, ModelSpec):
        return model
    if model not in MODELS:
        raise ProfileError(f"model {model!r} is unknown; known: {', '.join(MODELS)}")
    return MODELS[model]


def gpu_spec(gpu: str | GpuSpec) -> GpuSpec:
    """Memory and bandwidth of a GPU given by name.

    Raises:
        ProfileError: unknown name.
    """
    if isinstance(gpu, GpuSpec):
        return gpu
    if gpu not in GPUS:
        raise ProfileError(f"GPU {gpu!r} is unknown; known: {', '.join(GPUS)}")
    return GPUS[gpu]


def read_gpu(path: Path) -> GpuSpec:
    """Memory and bandwidth of a GPU from a JSON file.

    Raises:
        ProfileError: missing or damaged.
    """
    try:
        return GpuSpec.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ProfileError(
            f"cannot tell the GPU from {path}: {error}. Name one of {', '.join(GPUS)}, or write "
            'the file as {"name": "MyGPU", "memory": bytes, "bandwidth": bytes per second}'
        ) from None
