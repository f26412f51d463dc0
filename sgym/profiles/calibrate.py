"""Compose a latency profile from measured operation tables: what `sgym calibrate` does.

An iteration is: per layer four GEMMs over all tokens of the batch, the small element-wise kernels,
one attention call over prefill chunks and decodes together, two all-reduces with tensor
parallelism; then lm_head and the sampler over the sequences that produce a token; plus the
engine's own overhead.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgym.errors import ProfileError
from sgym.profiles.attention import decode_surface, prefill_surface, select
from sgym.profiles.gemm import GemmTable, cleaned
from sgym.profiles.layerwise import is_layerwise, read_layerwise
from sgym.profiles.models import BYTES, GpuSpec, ModelSpec, gpu_spec, model_spec, read_gpu
from sgym.profiles.profile import Curve, Profile, Provenance, Surface
from sgym.profiles.tables import Tables, read_tables

KERNELS = 5  # element-wise kernels per layer: two norms with residual, rotary, KV write, activation
LAUNCH = 2e-6  # seconds that a small kernel takes in a CUDA graph however little it does
SAMPLER = 25e-6  # seconds of greedy sampling for one sequence, RTX 4090 (per_sequence.csv)
LOGIT_BYTES = 8  # per logit: one float32 written and read, as that table's slope says
MAX_SEQS = 2048
FALLBACK_LICENCE = "the user's own measurement"


@dataclass(frozen=True, slots=True)
class Source:
    """Who measured the tables; goes into the profile's provenance."""

    source: str
    commit: str = ""
    licence: str = FALLBACK_LICENCE
    framework: str = ""


def calibrate(
    tables: str | Path,
    model: str | ModelSpec,
    gpu: str | GpuSpec | None = None,
    tp: int = 1,
    overhead: float | None = None,
    source: Source | None = None,
) -> Profile:
    """Fit a profile to a folder of measured tables.

    Args:
        tables: folder in the layout of `sgym.profiles.tables` (aiconfigurator's, and what
            `experiments/profile_gpu` writes) or of `sgym.profiles.layerwise` (LLMServingSim's).
        model: name in `MODELS`, or a shape.
        gpu: name in `GPUS`, or memory and bandwidth of another one; none = as `gpu.json` beside the
            tables says, which `experiments/profile_gpu` writes.
        tp: GPUs over which the model is split.
        overhead: seconds of engine time per iteration; none = the tables' own, or 0.
        source: who measured.

    Raises:
        ProfileError: tables are missing, damaged, or hold nothing for this model.
    """
    spec, folder = model_spec(model), Path(tables)
    card = read_gpu(folder / "gpu.json") if gpu is None else gpu_spec(gpu)
    if spec.heads % tp or spec.kv_heads % tp or spec.ffn % tp:
        raise ProfileError(
            f"{spec.name} cannot be split over tp = {tp}: heads or ffn do not divide"
        )
    origin = source or Source(str(folder))
    if is_layerwise(folder):
        return read_layerwise(folder, spec, card, tp, overhead or 0.0, origin)
    return _compose(read_tables(folder), spec, card, tp, overhead, origin)


def _compose(
    tables: Tables, spec: ModelSpec, gpu: GpuSpec, tp: int, overhead: float | None, origin: Source
) -> Profile:
    gemms = GemmTable(tables.gemm)
    heads, kv_heads = spec.heads // tp, spec.kv_heads // tp
    context = select(tables.context, heads, kv_heads, spec.head_dim)
    generation = select(tables.generation, heads, kv_heads, spec.head_dim)
    if len(context) == 0 or len(generation) == 0:
        raise ProfileError(
            f"attention with {heads} query heads, {kv_heads} KV heads of {spec.head_dim} was not "
            f"measured, which {spec.name} at tp = {tp} needs"
        )
    chunk, prefix, prefill = prefill_surface(context)
    batch, kv, decode = decode_surface(generation)
    base = min(prefill.min(), decode.min())
    tokens, dropped = token_curve(tables, gemms, spec, gpu, tp)
    return Profile(
        model=spec,
        gpu=gpu,
        tp=tp,
        attention_base=float(base * spec.layers),
        overhead=overhead if overhead is not None else (tables.overhead or 0.0),
        tokens=tokens,
        seqs=_sequence_curve(gemms, spec, gpu, tp),
        prefill=_surface(chunk, prefix, (prefill - base) * spec.layers),
        decode=_surface(batch, kv, (decode - base) * spec.layers),
        provenance=Provenance(
            source=origin.source,
            commit=origin.commit,
            licence=origin.licence,
            framework=origin.framework or tables.framework,
            derived=tuple(_derived(tables, gemms, spec, tp)),
            dropped_rows=dropped,
            overhead_fit="measured host time" if tables.overhead is not None else "not fitted",
        ),
    )


def token_curve(
    tables: Tables, gemms: GemmTable, spec: ModelSpec, gpu: GpuSpec, tp: int
) -> tuple[Curve, int]:
    """Seconds over the tokens of a batch: all per layer but attention; and outliers dropped."""
    total, dropped = np.zeros(len(gemms.tokens)), 0
    at = gemms.tokens.astype(float)
    for n, k in spec.gemms(tp).values():
        points, seconds, spikes = cleaned(at, gemms.curve(n, k))
        total += np.interp(at, points, seconds)
        dropped += spikes
    total += _elementwise(tables, spec, gpu, tp, at)
    if tp > 1:
        total += 2 * _allreduce(tables, spec, tp, at)
    return _curve(at, total * spec.layers), dropped


def _elementwise(
    tables: Tables, spec: ModelSpec, gpu: GpuSpec, tp: int, at: np.ndarray
) -> np.ndarray:
    """Seconds of one layer's norms, rotary, KV write, activation: measured or by bytes."""
    if tables.elementwise is not None:
        table = tables.elementwise
        own = table[(table["hidden"] == spec.hidden) & (table["ffn"] == spec.ffn // tp)]
        if len(own) >= 2:
            return np.interp(at, own["m"], own["latency"] * 1e-3)
    norms = 2 * 4 * spec.hidden  # read and write both the hidden state and the residual, twice
    rotary = (3 * spec.kv_heads + spec.heads) * 2 * spec.head_dim // tp
    activation = 3 * spec.ffn // tp
    return KERNELS * LAUNCH + at * (norms + rotary + activation) * BYTES / gpu.bandwidth


def _allreduce(tables: Tables, spec: ModelSpec, tp: int, at: np.ndarray) -> np.ndarray:
    """Seconds of one all-reduce of the hidden states."""
    table = tables.allreduce
    table = table if table is None else table[table["num_gpus"] == tp]
    if table is None or len(table) < 2:
        raise ProfileError(f"no all-reduce over {tp} GPUs was measured; add custom_allreduce_perf")
    size, seconds = np.asarray(table["message_size"]), np.asarray(table["latency"]) * 1e-3
    wanted = at * spec.hidden
    slope = (seconds[-1] - seconds[-2]) / (size[-1] - size[-2])
    return np.interp(wanted, size, seconds) + np.maximum(wanted - size[-1], 0.0) * slope


def _sequence_curve(gemms: GemmTable, spec: ModelSpec, gpu: GpuSpec, tp: int) -> Curve:
    """Seconds of lm_head and sampler over the sequences that produce a token."""
    at = gemms.tokens.astype(float)
    points, seconds, _ = cleaned(at, gemms.curve(spec.vocab // tp, spec.hidden))
    keep = points <= MAX_SEQS
    points, seconds = points[keep], seconds[keep]
    sampler = SAMPLER + (points - 1) * spec.vocab * LOGIT_BYTES / gpu.bandwidth
    return _curve(points, seconds + sampler)


def _derived(tables: Tables, gemms: GemmTable, spec: ModelSpec, tp: int) -> list[str]:
    """Sentences on everything in the profile that nobody measured."""
    shapes = {**spec.gemms(tp), "lm_head": (spec.vocab // tp, spec.hidden)}
    between = [name for name, (n, k) in shapes.items() if not gemms.measured(n, k)]
    notes = []
    if not np.any(np.asarray(tables.context["step"]) > 0):
        notes.append("prefill attention after a prefix from whole prompts")
    if between:
        notes.append(f"GEMM {', '.join(between)} from neighbouring shapes")
    if tables.elementwise is None:
        notes.append(
            "norms, rotary embedding, activation and sampler from bytes and data-sheet bandwidth"
        )
    else:
        notes.append("sampler from bytes and bandwidth")
    if tp > 1 and tables.allreduce_source == "nccl_perf":
        notes.append("all-reduce by NCCL, as no custom all-reduce was measured")
    return notes


def _curve(at: np.ndarray, seconds: np.ndarray) -> Curve:
    seconds = seconds.copy()
    seconds[-1] = max(seconds[-1], seconds[-2])
    return Curve(at=tuple(at.tolist()), seconds=tuple(seconds.tolist()))


def _surface(rows: np.ndarray, columns: np.ndarray, seconds: np.ndarray) -> Surface:
    return Surface(
        rows=tuple(rows.tolist()),
        columns=tuple(columns.tolist()),
        seconds=tuple(tuple(row) for row in seconds.tolist()),
    )
