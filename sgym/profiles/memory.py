"""How many KV blocks fit on a GPU, as the engine computes it when it starts."""

from sgym.errors import ProfileError
from sgym.profiles.models import BYTES, ModelSpec

# Bytes that CUDA context, graphs, workspaces and NCCL take beside weights and activations. Chosen
# so that Llama-3.1-8B on an RTX 4090 (25,250,627,584 bytes, 0.9, 2048 tokens, 256 sequences) gets
# the 2,588 blocks that vLLM 0.19 reported there.
RUNTIME_BYTES = 777_000_000
RUNTIME_BYTES_PER_PEER = 360_000_000  # NCCL and all-reduce buffers, with tensor parallelism
LOGIT_BYTES = 14  # per logit at the sampler's peak: bfloat16, and three float32 copies


def activation_bytes(
    spec: ModelSpec, tp: int = 1, max_num_batched_tokens: int = 2048, max_num_seqs: int = 256
) -> int:
    """Bytes that the largest iteration needs for a while, on each GPU.

    The MLP of one layer (two residual streams, gate and up, their product) or the sampler's logits,
    whichever is larger: they are not alive together.
    """
    mlp = max_num_batched_tokens * BYTES * (2 * spec.hidden + 3 * spec.ffn // tp)
    logits = max_num_seqs * spec.vocab * LOGIT_BYTES
    return max(mlp, logits)


def kv_blocks(
    spec: ModelSpec,
    gpu_memory: int,
    utilization: float = 0.9,
    tp: int = 1,
    block_size: int = 16,
    max_num_batched_tokens: int = 2048,
    max_num_seqs: int = 256,
) -> int:
    """KV blocks of an instance, vLLM's null block included (its `num_gpu_blocks`).

    Args:
        spec: the model.
        gpu_memory: bytes of one GPU.
        utilization: share of it that the engine may take.
        tp: GPUs over which weights and KV heads are split.
        block_size: tokens per block.
        max_num_batched_tokens: tokens of the largest iteration.
        max_num_seqs: sequences of the largest iteration.

    Raises:
        ProfileError: nothing is left for the KV cache; says what takes how much.
    """
    weights = spec.parameters * BYTES // tp
    activations = activation_bytes(spec, tp, max_num_batched_tokens, max_num_seqs)
    runtime = RUNTIME_BYTES + (RUNTIME_BYTES_PER_PEER if tp > 1 else 0)
    available = int(gpu_memory * utilization) - weights - activations - runtime
    blocks = available // (block_size * spec.kv_bytes // tp)
    if blocks < 2:
        raise ProfileError(
            f"{spec.name} does not fit: {utilization:g} of {gpu_memory / 1e9:.1f} GB, minus "
            f"weights {weights / 1e9:.1f} GB, activations {activations / 1e9:.1f} GB and runtime "
            f"{runtime / 1e9:.1f} GB, leaves {available / 1e9:.1f} GB for KV. Take a larger GPU, "
            "more of them (cluster.tp), or raise engine.gpu_memory_utilization"
        )
    return blocks
