"""The operations of one layer with random numbers, each ready to be called again and again.

Every call works on other memory than the ones before it until `COLD_BYTES` have passed, because a
layer of a real model never finds its weights or KV in the cache.
"""

from collections.abc import Callable
from itertools import cycle

import torch
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right

from sgym.profiles import ModelSpec

COLD_BYTES = 512 * 2**20
MAX_COPIES = 64

Call = Callable[[], object]


def _copies(one_bytes: int, device: torch.device) -> int:
    if device.type == "cpu":
        return 1
    return max(1, min(MAX_COPIES, COLD_BYTES // max(1, one_bytes)))


def _random(*shape: int, device: torch.device) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.bfloat16, device=device)


def gemm(m: int, n: int, k: int, device: torch.device) -> list[Call]:
    """(m x k) times the transposed (n x k) weights, as a linear layer does it."""
    tokens = _random(m, k, device=device)
    weights = [_random(n, k, device=device) for _ in range(_copies(2 * n * k, device))]
    return [lambda weight=weight: functional.linear(tokens, weight) for weight in weights]


def prefill(
    chunk: int, prefix: int, heads: int, kv_heads: int, dim: int, device: torch.device
) -> list[Call]:
    """Causal attention of a chunk behind `prefix` cached tokens, one sequence."""
    query = _random(1, heads, chunk, dim, device=device)
    length = prefix + chunk
    groups = heads // kv_heads
    mask = causal_lower_right(chunk, length)

    def call(key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    copies = _copies(4 * heads * length * dim, device)
    caches = [
        tuple(
            _random(1, kv_heads, length, dim, device=device).repeat_interleave(groups, 1)
            for _ in range(2)
        )
        for _ in range(copies)
    ]
    return [lambda cache=cache: call(*cache) for cache in caches]


def decode(
    batch: int, context: int, heads: int, kv_heads: int, dim: int, device: torch.device
) -> list[Call]:
    """Attention of one new token per sequence; queries that share a KV head form one block."""
    query = _random(batch, kv_heads, heads // kv_heads, dim, device=device)

    def call(key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, key, value)

    shape = (batch, kv_heads, context, dim)
    copies = _copies(4 * batch * kv_heads * context * dim, device)
    caches = [
        (_random(*shape, device=device), _random(*shape, device=device)) for _ in range(copies)
    ]
    return [lambda cache=cache: call(*cache) for cache in caches]


def elementwise(m: int, spec: ModelSpec, tp: int, device: torch.device) -> list[Call]:
    """Both norms with residual, rotary embedding and gated activation of one layer, fused."""
    hidden = _random(m, spec.hidden, device=device)
    residual, scale = _random(m, spec.hidden, device=device), _random(spec.hidden, device=device)
    heads = (spec.heads + spec.kv_heads) // tp
    rotated = _random(m, heads, spec.head_dim, device=device)
    angle = _random(m, 1, spec.head_dim // 2, device=device)
    gate_up = _random(m, 2 * spec.ffn // tp, device=device)

    def norm(x: torch.Tensor, rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rest = x + rest
        return functional.rms_norm(rest, (spec.hidden,), scale), rest

    def layer() -> tuple[torch.Tensor, ...]:
        first, rest = norm(hidden, residual)
        left, right = rotated.chunk(2, -1)
        turned = torch.cat((left * angle - right * angle, right * angle + left * angle), -1)
        gate, up = gate_up.chunk(2, -1)
        second, rest = norm(first, rest)
        return second, rest, turned, functional.silu(gate) * up

    return [torch.compile(layer) if device.type == "cuda" else layer]


def host_step(seqs: int, vocab: int, device: torch.device) -> list[Call]:
    """What an engine's host does around the model: inputs to the device, sample, result back."""
    blocks = torch.zeros(seqs, 256, dtype=torch.int32)
    logits = torch.zeros(seqs, vocab, dtype=torch.bfloat16, device=device)

    def call() -> list[int]:
        tokens = torch.tensor(list(range(seqs)), dtype=torch.int64)
        tokens.to(device, non_blocking=True)
        blocks.to(device, non_blocking=True)
        return logits.argmax(-1).tolist()

    return [call]


def in_turn(calls: list[Call], count: int) -> Call:
    """One call that runs `count` of them, each on the next memory."""
    order = cycle(calls)
    chosen = [next(order) for _ in range(count)]

    def run() -> None:
        for call in chosen:
            call()

    return run
