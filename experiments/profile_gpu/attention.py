"""Attention by PyTorch's fused kernels: the ones that run here, so that the fastest can be taken.

Queries are (batch, heads, tokens, dim), keys and values (batch, KV heads, tokens, dim). A causal
call's last query attends to all keys.
"""

import warnings
from collections.abc import Callable

import torch
from fusing import fused
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, bool], torch.Tensor]
Part = tuple[torch.Tensor, torch.Tensor]  # output, and logarithm of the sum of its weights


def default(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool
) -> torch.Tensor:
    """What PyTorch itself chooses."""
    mask = causal_lower_right(query.shape[2], key.shape[2]) if causal else None
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped)


def flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool
) -> torch.Tensor:
    """FlashAttention 2."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return default(query, key, value, causal)


def cudnn(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool
) -> torch.Tensor:
    """cuDNN's, whose mask begins at the first key: a prefix is a call of its own, and merged."""
    prefix = key.shape[2] - query.shape[2]
    if not causal or prefix == 0:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return default(query, key, value, causal)
    return in_two(query, key, value, _cudnn_part)


def in_two(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    part: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, bool], Part],
) -> torch.Tensor:
    """Causal attention as attention to the prefix and causal attention within the chunk."""
    prefix = key.shape[2] - query.shape[2]
    before = part(query, key[:, :, :prefix], value[:, :, :prefix], False)
    within = part(query, key[:, :, prefix:], value[:, :, prefix:], True)
    return fused(_merge, *before, *within)


def _cudnn_part(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool) -> Part:
    attend = torch.ops.aten._scaled_dot_product_cudnn_attention
    output, weight = attend(query, key, value, None, True, 0.0, causal)[:2]
    return output, weight.reshape(*output.shape[:3], 1)


def _merge(
    first: torch.Tensor, first_weight: torch.Tensor, other: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    share = torch.sigmoid(first_weight - weight)
    return torch.lerp(other.float(), first.float(), share).to(first.dtype)


FUSED: dict[str, Attend] = {"flash": flash, "cudnn": cudnn}


def runs(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool
) -> dict[str, Attend]:
    """The kernels that take such a call on this device, by name; PyTorch's choice if none does."""
    found: dict[str, Attend] = {}
    for name, attend in FUSED.items():
        try:
            with warnings.catch_warnings(action="ignore"):  # they say why a kernel refuses
                attend(query, key, value, causal)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # not built in, or not for this shape, type or GPU
            continue
        found[name] = attend
    return found or {"default": default}
