"""Profiles from LLMServingSim's layout: one layer profiled inside the engine, in microseconds.

`dense.csv` (layer, tokens, time_us), `attention.csv` (prefill_chunk, kv_prefill, n_decode,
kv_decode, time_us) and `per_sequence.csv` (layer, sequences, time_us).
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sgym.core.layout import CURVE
from sgym.errors import ProfileError
from sgym.profiles.attention import decode_surface
from sgym.profiles.models import GpuSpec, ModelSpec
from sgym.profiles.profile import Curve, Profile, Provenance, Surface

if TYPE_CHECKING:
    from sgym.profiles.calibrate import Source

FILES = {
    "dense.csv": ("layer", "tokens"),
    "attention.csv": ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode"),
    "per_sequence.csv": ("layer", "sequences"),
}
OUTSIDE = ("embedding", "final_layernorm")  # once per iteration, all others once per layer
CALLS = {"layernorm": 2}  # times that a layer runs this kernel; others once


def is_layerwise(folder: Path) -> bool:
    """Whether the folder has this layout."""
    return all((folder / name).is_file() for name in FILES)


def read_layerwise(
    folder: Path, spec: ModelSpec, gpu: GpuSpec, tp: int, overhead: float, origin: "Source"
) -> Profile:
    """Compose a profile; the tables must be of this model and `tp`."""
    dense, attention, heads = (_read(folder / name, keys) for name, keys in FILES.items())
    chunk, prefix, prefill = _prefill(attention)
    batch, context, decode = _decode(attention)
    base = min(prefill.min(), decode.min())
    return Profile(
        model=spec,
        gpu=gpu,
        tp=tp,
        attention_base=float(base * spec.layers),
        overhead=overhead,
        tokens=_tokens(dense, spec),
        seqs=_sequences(heads),
        prefill=_surface(chunk, prefix, (prefill - base) * spec.layers),
        decode=_surface(batch, context, (decode - base) * spec.layers),
        provenance=Provenance(
            source=origin.source,
            commit=origin.commit,
            licence=origin.licence,
            derived=(),
            framework=origin.framework or "unnamed",
        ),
    )


def _read(path: Path, keys: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
        return table.groupby(list(keys), as_index=False).agg({"time_us": "median"})
    except (OSError, ValueError, KeyError) as error:
        raise ProfileError(f"cannot read {path}: {error}; wanted {[*keys, 'time_us']}") from None


def _tokens(dense: pd.DataFrame, spec: ModelSpec) -> Curve:
    wide = (
        dense.pivot(index="tokens", columns="layer", values="time_us").interpolate("index").dropna()
    )
    layers = [name for name in wide if name not in OUTSIDE]
    seconds = sum(wide[name] * CALLS.get(str(name), 1) for name in layers) * spec.layers
    seconds = (seconds + wide[[name for name in OUTSIDE if name in wide]].sum(axis=1)) * 1e-6
    at = np.asarray(wide.index, float)
    keep = _spread(at)
    return _curve(at[keep], np.asarray(seconds)[keep])


def _spread(at: np.ndarray) -> np.ndarray:
    """Indexes of at most CURVE points: all of the first half, then every so many."""
    if len(at) <= CURVE:
        return np.arange(len(at))
    half = CURVE // 2
    rest = np.linspace(half, len(at) - 1, CURVE - half).round().astype(int)
    return np.unique(np.concatenate([np.arange(half), rest]))


def _sequences(heads: pd.DataFrame) -> Curve:
    wide = heads.pivot(index="sequences", columns="layer", values="time_us").dropna()
    return _curve(np.asarray(wide.index, float), np.asarray(wide.sum(axis=1)) * 1e-6)


def _prefill(attention: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = attention[(attention["n_decode"] == 0) & (attention["prefill_chunk"] > 0)]
    wide = rows.pivot(index="prefill_chunk", columns="kv_prefill", values="time_us").dropna()
    times = np.maximum.accumulate(np.asarray(wide) * 1e-6, 1)
    return np.asarray(wide.index, float), np.asarray(wide.columns, float), times


def _decode(attention: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = attention[(attention["prefill_chunk"] == 0) & (attention["n_decode"] > 0)]
    table = pd.DataFrame(
        {
            "batch_size": rows["n_decode"],
            "step": rows["kv_decode"] - 1,
            "latency": rows["time_us"] * 1e-3,
        }
    )
    return decode_surface(table)


def _curve(at: np.ndarray, seconds: np.ndarray) -> Curve:
    return Curve(at=tuple(at.tolist()), seconds=tuple(seconds.tolist()))


def _surface(rows: np.ndarray, columns: np.ndarray, seconds: np.ndarray) -> Surface:
    return Surface(
        rows=tuple(rows.tolist()),
        columns=tuple(columns.tolist()),
        seconds=tuple(tuple(row) for row in seconds.tolist()),
    )
