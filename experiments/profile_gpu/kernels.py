"""The operations of one layer with random numbers, each ready to be called again and again.

Every call works on other memory than the ones before it until `COLD_BYTES` have passed, because a
layer of a real model never finds its weights or KV in the cache.
"""

from collections.abc import Callable
from itertools import cycle, islice

import torch
from attention import runs
from fusing import fused
from torch.nn import functional

from sgym.profiles import ModelSpec

COLD_BYTES = 512 * 2**20
MAX_COPIES = 256

Call = Callable[[], object]
Variants = dict[str, list[Call]]  # kernel -> calls that do the same, each on other memory


def _copies(one_bytes: int, device: torch.device) -> int:
    if device.type == "cpu":
        return 1
    return max(1, min(MAX_COPIES, COLD_BYTES // max(1, one_bytes)))


def random(*shape: int, device: torch.device) -> torch.Tensor:
    """Normally distributed bfloat16 numbers."""
    return torch.randn(shape, dtype=torch.bfloat16, device=device)


def gemm(m: int, n: int, k: int, device: torch.device) -> Variants:
    """(m x k) times the transposed (n x k) weights, as a linear layer does it."""
    tokens = random(m, k, device=device)
    weights = [random(n, k, device=device) for _ in range(_copies(2 * n * k, device))]
    return {
        "linear": [lambda weight=weight: functional.linear(tokens, weight) for weight in weights]
    }


def kv_cache(
    batch: int, context: int, kv_heads: int, dim: int, device: torch.device
) -> torch.Tensor:
    """Keys and values in the order in which an engine keeps them: (2, tokens, KV heads, dim)."""
    return random(2, batch * context, kv_heads, dim, device=device)


def keys_and_values(cache: torch.Tensor, batch: int) -> list[torch.Tensor]:
    """Views of a cache for attention: (batch, KV heads, context, dim)."""
    return [half.unflatten(0, (batch, -1)).transpose(1, 2) for half in cache]


def prefill(
    chunk: int, prefix: int, heads: int, kv_heads: int, dim: int, device: torch.device
) -> Variants:
    """Causal attention of a chunk behind `prefix` cached tokens, one sequence."""
    query = random(1, chunk, heads, dim, device=device).transpose(1, 2)
    return _attention(query, prefix + chunk, kv_heads, True, device)


def decode(
    batch: int, context: int, heads: int, kv_heads: int, dim: int, device: torch.device
) -> Variants:
    """Attention of one new token per sequence; queries that share a KV head form one block."""
    query = random(batch, kv_heads, heads // kv_heads, dim, device=device)
    return _attention(query, context, kv_heads, False, device)


def _attention(
    query: torch.Tensor, length: int, kv_heads: int, causal: bool, device: torch.device
) -> Variants:
    batch, dim = query.shape[0], query.shape[3]
    caches = [
        keys_and_values(kv_cache(batch, length, kv_heads, dim, device), batch)
        for _ in range(_copies(4 * batch * length * kv_heads * dim, device))
    ]
    return {
        name: [lambda attend=attend, cache=cache: attend(query, *cache, causal) for cache in caches]
        for name, attend in runs(query, *caches[0], causal).items()
    }


def norm(
    hidden: torch.Tensor, residual: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """RMS norm of the sum, and the sum."""
    residual = hidden + residual
    return functional.rms_norm(residual, residual.shape[-1:], scale), residual


def rotate(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, num: int) -> torch.Tensor:
    """Rotary embedding of the first `num` heads; the rest, values, stay. (tokens, heads, dim)."""
    turned = heads * cosine + heads.roll(heads.shape[-1] // 2, -1) * sine
    is_rotated = torch.arange(heads.shape[1], device=heads.device) < num
    return torch.where(is_rotated[:, None], turned, heads)


def activate(gate_up: torch.Tensor) -> torch.Tensor:
    """Activation of a gated MLP."""
    gate, up = gate_up.chunk(2, -1)
    return functional.silu(gate) * up


def elementwise(m: int, spec: ModelSpec, tp: int, device: torch.device) -> Variants:
    """One layer's small kernels: two norms with residual, rotary, KV write, gated activation."""
    hidden, residual = random(m, spec.hidden, device=device), random(m, spec.hidden, device=device)
    scale = random(spec.hidden, device=device)
    heads, kv_heads = spec.heads // tp, spec.kv_heads // tp
    qkv = random(m, heads + 2 * kv_heads, spec.head_dim, device=device)
    cosine, sine = (random(m, 1, spec.head_dim, device=device) for _ in range(2))
    gate_up = random(m, 2 * spec.ffn // tp, device=device)
    cache = kv_cache(1, m, kv_heads, spec.head_dim, device)
    slots = torch.randperm(m, device=device)

    def layer() -> None:
        fused(norm, hidden, residual, scale)
        turned = fused(rotate, qkv, cosine, sine, heads + kv_heads)
        write_kv(cache, slots, turned, heads)
        fused(norm, hidden, residual, scale)
        fused(activate, gate_up)

    return {"compiled" if device.type == "cuda" else "eager": [layer]}


def write_kv(cache: torch.Tensor, slots: torch.Tensor, qkv: torch.Tensor, heads: int) -> None:
    """Put the keys and values behind the query heads of each token into the cache's slots."""
    cache.index_copy_(1, slots, qkv[:, heads:].unflatten(1, (2, -1)).transpose(0, 1))


def host_step(seqs: int, device: torch.device) -> Variants:
    """What an engine's host does around the model: inputs to the device, tokens back."""
    blocks = torch.zeros(seqs, 256, dtype=torch.int32)
    sampled = torch.zeros(seqs, dtype=torch.int64, device=device)

    def call() -> list[int]:
        tokens = torch.tensor(list(range(seqs)), dtype=torch.int64)
        tokens.to(device, non_blocking=True)
        blocks.to(device, non_blocking=True)
        return sampled.tolist()

    return {"host": [call]}


def in_turn(calls: list[Call], count: int) -> Call:
    """One call that runs `count` of them, each on the next memory."""
    chosen = [*islice(cycle(calls), count)]

    def run() -> None:
        for call in chosen:
            call()

    return run
