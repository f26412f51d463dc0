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
    8192,
)
CHUNKS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
PREFIXES = (0, 128, 512, 2048, 8192, 16384, 32768)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
CONTEXTS = (1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
SEQS = (1, 8, 32, 64, 128, 256)
MAX_KV = 2**19  # batch * context of a decode point
MAX_SAMPLED = 2048  # tokens of the largest lm_head

Row = dict[str, object]
Build = Callable[[torch.device], list[kernels.Call]]


@dataclass(frozen=True)
class Point:
    """One measurement: the file it belongs to, its key columns, and what is called."""

    file: str
    key: Row
    build: Build
    on_host: bool = False

    def milliseconds(self, device: torch.device) -> float:
        """Measure it."""
        calls = self.build(device)
        if self.on_host:
            return clock.host_milliseconds(calls[0], device)
        return clock.milliseconds(calls, device)


def points(spec: ModelSpec, tp: int, tiny: bool) -> Iterator[Point]:
    """All measurements of a model, or of one of `tp` GPUs' share; `tiny` takes few of them."""

    def few(grid: tuple[int, ...]) -> tuple[int, ...]:
        return grid[:5] if tiny else grid

    yield from _gemms(spec, tp, few(TOKENS))
    yield from _elementwise(spec, tp, few(TOKENS))
    yield from _prefill(spec, tp, few(CHUNKS), few(PREFIXES))
    yield from _decode(spec, tp, few(BATCHES), few(CONTEXTS))
    for seqs in few(SEQS):
        build = partial(kernels.host_step, seqs, spec.vocab // tp)
        yield Point("overhead_perf", {"seqs": seqs}, build, on_host=True)


def _gemms(spec: ModelSpec, tp: int, tokens: tuple[int, ...]) -> Iterator[Point]:
    head = (spec.vocab // tp, spec.hidden)
    for n, k in {*spec.gemms(tp).values(), head}:
        for m in tokens:
            if (n, k) != head or m <= MAX_SAMPLED:
                key: Row = {"gemm_dtype": "bfloat16", "m": m, "n": n, "k": k}
                yield Point("gemm_perf", key, partial(kernels.gemm, m, n, k))


def _elementwise(spec: ModelSpec, tp: int, tokens: tuple[int, ...]) -> Iterator[Point]:
    for m in tokens:
        key: Row = {"m": m, "hidden": spec.hidden, "ffn": spec.ffn // tp}
        yield Point("elementwise_perf", key, partial(kernels.elementwise, m, spec, tp))


def _heads(spec: ModelSpec, tp: int) -> tuple[int, int, int]:
    return spec.heads // tp, spec.kv_heads // tp, spec.head_dim


def _attention_key(heads: tuple[int, int, int], batch: int, isl: int, step: int) -> Row:
    names = ("num_heads", "num_key_value_heads", "head_dim", "batch_size", "isl", "step")
    return dict(zip(names, (*heads, batch, isl, step), strict=True))


def _prefill(
    spec: ModelSpec, tp: int, chunks: tuple[int, ...], prefixes: tuple[int, ...]
) -> Iterator[Point]:
    heads = _heads(spec, tp)
    for chunk in chunks:
        for prefix in prefixes:
            key = _attention_key(heads, 1, chunk, prefix)
            build = partial(kernels.prefill, chunk, prefix, *heads)
            yield Point("context_attention_perf", key, build)


def _decode(
    spec: ModelSpec, tp: int, batches: tuple[int, ...], contexts: tuple[int, ...]
) -> Iterator[Point]:
    heads = _heads(spec, tp)
    for batch in batches:
        for context in contexts:
            if batch * context <= MAX_KV:
                key = _attention_key(heads, batch, 1, context - 1)
                build = partial(kernels.decode, batch, context, *heads)
                yield Point("generation_attention_perf", key, build)
