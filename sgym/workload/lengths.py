"""Lengths of generated requests: a mixture of datasets, fixed and lognormal components."""

from collections.abc import Sequence

import numpy as np

from sgym.config import Lengths
from sgym.errors import ScenarioError
from sgym.workload.quantiles import load_dataset
from sgym.workload.streams import Purpose, stream

MAX_TOKENS = 2**31 - 1
MAX_REJECTED = 1_000_000  # draws in a row before `max_prompt` counts as impossible


def draw_lengths(
    components: Sequence[Lengths], count: int, seed: int, max_prompt: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths of `count` requests; request i is the same for every `count`.

    Prompts above `max_prompt` are drawn again, so that the request rate stays what it is.

    Returns:
        prompt, output (tokens) and the component of each request: int64 (count,) each.
    """
    normals = stream(seed, Purpose.LENGTHS)
    mixture = stream(seed, Purpose.COMPONENTS) if len(components) > 1 else None
    parts: list[np.ndarray] = []
    found, drawn, rejected, size = 0, 0, 0, count
    if max_prompt is not None:
        size += 16 + count // 32  # so that few rejected ones are made up for at once
    while found < count:
        uniforms = None if mixture is None else mixture.random(size)
        batch = sample_lengths(components, normals.standard_normal((size, 2)), uniforms)
        kept = batch
        if max_prompt is not None:
            kept = batch.compress(batch[0] <= max_prompt, axis=1)
        parts.append(kept)
        found, drawn = found + kept.shape[1], drawn + size
        rejected = 0 if kept.shape[1] else rejected + size
        if rejected > MAX_REJECTED:
            raise ScenarioError(
                f"workload.max_prompt={max_prompt} leaves nothing of workload.lengths: "
                f"{rejected} prompts in a row were longer"
            )
        size = min(count, 16 + 2 * (count - found) * drawn // max(found, 1))  # twice as many as due
    whole = parts[0] if len(parts) == 1 else np.concatenate([np.empty((3, 0), np.int64), *parts], 1)
    prompt, output, component = whole[:, :count]
    return prompt, output, component


def sample_lengths(
    components: Sequence[Lengths], normals: np.ndarray, uniforms: np.ndarray | None
) -> np.ndarray:
    """Lengths from random numbers.

    Args:
        components: of the mixture.
        normals: float64 (n, 2), independent, for prompt and output.
        uniforms: float64 (n,), which choose the component; None = there is only one.

    Returns:
        prompt, output (tokens) and component; int64 (3, n).
    """
    result = np.zeros((3, len(normals)), np.int64)
    if uniforms is None:
        result[0], result[1] = _sample(components[0], normals)
        return result
    which = pick_by_share([component.share for component in components], uniforms)
    result[2] = which
    for index, component in enumerate(components):
        chosen = which == index
        result[0, chosen], result[1, chosen] = _sample(component, normals[chosen])
    return result


def _sample(component: Lengths, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if component.dataset is not None:
        return load_dataset(component.dataset).sample(normals)
    return (
        lognormal(component.prompt or 1, component.prompt_sigma, normals[:, 0]),
        lognormal(component.output or 1, component.output_sigma, normals[:, 1]),
    )


def lognormal(median: int, sigma: float, normals: np.ndarray) -> np.ndarray:
    """Whole tokens, at least 1; float64 like `normals`."""
    return np.minimum(np.maximum(np.rint(median * np.exp(sigma * normals)), 1), MAX_TOKENS)


def pick_by_share(shares: Sequence[float], uniforms: np.ndarray) -> np.ndarray:
    """Index of a share for each uniform number; shares are normalised; int64 (n,)."""
    edges = np.cumsum(shares)
    return np.searchsorted(edges[:-1] / edges[-1], uniforms, side="right")
