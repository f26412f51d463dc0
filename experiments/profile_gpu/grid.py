"""Which points are measured: a model's operations over tokens, chunks, batches and contexts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import clock
import kernels
import torch

from sgym.profiles import ModelSpec

TOKENS = (
    *(1, 2, 4),
    *range(8, 129, 8),
    *range(160, 513, 32),
    *range(576, 1025, 64),
    *range(1280, 4097, 256),
    *(5120, 6144, 8192, 16384),
)
CHUNKS = (
    *(16, 32, 64, 128, 256, 384, 512, 768, 1024, 1536),
    *(2048, 3072, 4096, 6144, 8192, 12288, 16384),
)
PREFIXES = (0, 128, 512, 2048, 8192, 16384, 32768)
BATCHES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
CONTEXTS = (1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
SEQS = (1, 8, 32, 64, 128, 256)
MAX_KV = 2**19  # batch * context of a decode point
MAX_SAMPLED = 2048  # tokens of the largest lm_head

Row = dict[str, object]
Build = Callable[[torch.device], kernels.Variants]
Grid = tuple[int, ...]


@dataclass(frozen=True)
class Point:
    """One measurement: the file it belongs to, its key columns, and what is called."""

    file: str
    key: Row
    build: Build
    on_host: bool = False

    def fastest(self, device: torch.device) -> tuple[float, str]:
        """Milliseconds, and the kernel that took them."""
        variants = self.build(device)
        if self.on_host:
            (name, calls), *_ = variants.items()
            return clock.host_milliseconds(calls[0], device), name
        return clock.fastest(variants, device)


def points(spec: ModelSpec, tp: int, tiny: bool, every: int = 1) -> Iterator[Point]:
    """All measurements of a model, or of one of `tp` GPUs' share.

    Args:
        spec: the model.
        tp: GPUs over which it is split.
        tiny: take the first points of each grid only.
        every: take every `every`-th point of each grid, and the last.
    """

    def few(grid: Grid) -> Grid:
        return grid[:5] if tiny else (*grid[:-1:every], grid[-1])

    yield from _gemms(spec, tp, few(TOKENS))
    yield from _prefill(spec, tp, few(CHUNKS), few(PREFIXES))
    yield from _decode(spec, tp, few(BATCHES), few(CONTEXTS))
    yield from _elementwise(spec, tp, few(TOKENS))
    for seqs in few(SEQS):
        build = partial(kernels.host_step, seqs)
        yield Point("overhead_perf", {"seqs": seqs}, build, on_host=True)


def _gemms(spec: ModelSpec, tp: int, tokens: Grid) -> Iterator[Point]:
    head = (spec.vocab // tp, spec.hidden)
    for n, k in dict.fromkeys([*spec.gemms(tp).values(), head]):
        for m in tokens:
            if (n, k) != head or m <= MAX_SAMPLED:
                key: Row = {"gemm_dtype": "bfloat16", "m": m, "n": n, "k": k}
                yield Point("gemm_perf", key, partial(kernels.gemm, m, n, k))


def _elementwise(spec: ModelSpec, tp: int, tokens: Grid) -> Iterator[Point]:
    for m in reversed(tokens):  # kernels are tuned for the shapes they meet first: the largest
        key: Row = {"m": m, "hidden": spec.hidden, "ffn": spec.ffn // tp}
        yield Point("elementwise_perf", key, partial(kernels.elementwise, m, spec, tp))


def _heads(spec: ModelSpec, tp: int) -> tuple[int, int, int]:
    return spec.heads // tp, spec.kv_heads // tp, spec.head_dim


def _attention_key(heads: tuple[int, int, int], batch: int, isl: int, step: int) -> Row:
    names = ("num_heads", "num_key_value_heads", "head_dim", "batch_size", "isl", "step")
    return dict(zip(names, (*heads, batch, isl, step), strict=True))


def _prefill(spec: ModelSpec, tp: int, chunks: Grid, prefixes: Grid) -> Iterator[Point]:
    heads = _heads(spec, tp)
    for chunk in chunks:
        for prefix in prefixes:
            key = _attention_key(heads, 1, chunk, prefix)
            build = partial(kernels.prefill, chunk, prefix, *heads)
            yield Point("context_attention_perf", key, build)


def _decode(spec: ModelSpec, tp: int, batches: Grid, contexts: Grid) -> Iterator[Point]:
    heads = _heads(spec, tp)
    for batch in batches:
        for context in contexts:
            if batch * context <= MAX_KV:
                key = _attention_key(heads, batch, 1, context - 1)
                build = partial(kernels.decode, batch, context, *heads)
                yield Point("generation_attention_perf", key, build)
