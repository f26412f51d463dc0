"""Time of whole steps of a model on this GPU, to check the sum of its operations against.

Command: python experiments/profile_gpu/whole.py --model Llama-3.1-8B --out my_tables
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import kernels
import torch
from attention import Attend, runs
from fusing import fused
from grid import Point
from measure import DEFAULT, MODELS, TINY, Results, measure, pick_device
from rich.console import Console
from torch.nn.functional import linear

from sgym.profiles import ModelSpec

DECODES = (1, 16, 64, 128, 256)  # sequences, each with CONTEXT KV entries
CONTEXT = 1024
PROMPTS = (8192, 2048, 512)  # tokens of a single prompt; kernels are tuned for the first


class Model:
    """Random weights of all layers, and steps over random KV."""

    def __init__(self, spec: ModelSpec, device: torch.device) -> None:
        self.spec, self._device = spec, device
        shapes = [[*spec.gemms(1).values()] for _ in range(spec.layers)]
        self._layers = [[self._weight(n, k) for n, k in shape] for shape in shapes]
        self._head = self._weight(spec.vocab, spec.hidden)
        self._scale = torch.ones(spec.hidden, dtype=torch.bfloat16, device=device)

    def _weight(self, n: int, k: int) -> torch.Tensor:
        return kernels.random(n, k, device=self._device).mul_(k**-0.5)

    def variants(self, batch: int, tokens: int, context: int) -> kernels.Variants:
        """A step of `batch` sequences with `tokens` new ones each, `context` with them."""
        spec, device = self.spec, self._device
        hidden = kernels.random(batch * tokens, spec.hidden, device=device)
        shape = (batch, context, spec.kv_heads, spec.head_dim)
        caches = [kernels.kv_cache(*shape, device) for _ in range(spec.layers)]
        first = torch.arange(batch, device=device)[:, None] * context + context - tokens
        angles = [kernels.random(len(hidden), 1, spec.head_dim, device=device) for _ in range(2)]
        step = Step(batch, (first + torch.arange(tokens, device=device)).flatten(), angles)
        heads = kernels.random(len(hidden), spec.heads, spec.head_dim, device=device)
        keys = kernels.keys_and_values(caches[0], batch)
        attends = runs(step.queries(heads, spec.kv_heads), *keys, step.is_prefill)

        def call(attend: Attend) -> torch.Tensor:
            x, rest = hidden, torch.zeros_like(hidden)
            for weights, cache in zip(self._layers, caches, strict=True):
                x, rest = self._layer(x, rest, weights, cache, step, attend)
            x, _ = fused(kernels.norm, x, rest, self._scale)
            return linear(x[tokens - 1 :: tokens], self._head).argmax(-1)

        return {name: [lambda attend=attend: call(attend)] for name, attend in attends.items()}

    def _layer(
        self,
        x: torch.Tensor,
        rest: torch.Tensor,
        weights: list[torch.Tensor],
        cache: torch.Tensor,
        step: "Step",
        attend: Attend,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        spec, (qkv, out, gate_up, down) = self.spec, weights
        x, rest = fused(kernels.norm, x, rest, self._scale)
        heads = linear(x, qkv).unflatten(1, (-1, spec.head_dim))
        heads = fused(kernels.rotate, heads, *step.angles, spec.heads + spec.kv_heads)
        kernels.write_kv(cache, step.slots, heads, spec.heads)
        query = step.queries(heads[:, : spec.heads], spec.kv_heads)
        attended = attend(query, *kernels.keys_and_values(cache, step.batch), step.is_prefill)
        if step.is_prefill:
            attended = attended.transpose(1, 2)
        x, rest = fused(kernels.norm, linear(attended.reshape(len(x), -1), out), rest, self._scale)
        return linear(fused(kernels.activate, linear(x, gate_up)), down), rest


@dataclass(frozen=True)
class Step:
    """What the layers of a step share."""

    batch: int
    slots: torch.Tensor  # of the new tokens in the KV cache
    angles: list[torch.Tensor]  # cosine and sine of the rotary embedding

    @property
    def is_prefill(self) -> bool:
        """Whether a sequence has more than one new token."""
        return len(self.slots) > self.batch

    def queries(self, heads: torch.Tensor, kv_heads: int) -> torch.Tensor:
        """(tokens, heads, dim) as attention takes them."""
        if self.is_prefill:
            return heads.unflatten(0, (self.batch, -1)).transpose(1, 2)
        return heads.unflatten(1, (kv_heads, -1))  # queries that share a KV head form one block


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing in whole_step_perf.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=[*MODELS], default=DEFAULT)
    parser.add_argument("--out", type=Path, required=True, help="folder of the table")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a toy model")
    options, console = parser.parse_args(arguments), Console()
    device = pick_device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    results = Results(
        options.out, torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    )
    with torch.no_grad():
        model = Model(TINY if options.tiny else MODELS[options.model], device)
        steps = [(1, t, t) for t in PROMPTS] + [(batch, 1, CONTEXT) for batch in DECODES]
        for step in steps:
            key = dict(zip(("batch_size", "tokens", "context"), step, strict=True))
            point = Point("whole_step_perf", key, lambda _, step=step: model.variants(*step))
            if not results.has(point):
                console.print(f"{key}")
                measure(point, results, device, console)


if __name__ == "__main__":
    main()
