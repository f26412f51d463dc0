"""How well the fit predicts measured points that it has not seen, per operation and GPU."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sgym.profiles.attention import decode_surface, prefill_surface, select
from sgym.profiles.gemm import GemmTable, cleaned
from sgym.profiles.tables import Tables, read_tables

FOLDERS = {"A100-80GB": "a100_sxm", "H100": "h100_sxm", "H200": "h200_sxm", "L40S": "l40s"}
SHAPES = ((6144, 4096), (4096, 4096), (7168, 5120), (5120, 5120))  # measured and used by the models
WIDTHS = (8192, 10240, 12288, 16384)  # n left out, for k of both model families
HEADS = ((32, 8), (40, 8))
VIDUR = {
    "A100-80GB": (
        ("a100_llama-3-8b_mlp.csv", 4096, 14336),
        ("a100_internlm-20b_mlp.csv", 5120, 13824),
    ),
    "H100": (("h100_internlm-20b_mlp.csv", 5120, 13824),),
}

Errors = np.ndarray  # relative, signed


def table(profiles: Path) -> pd.DataFrame:
    """A row per GPU and operation: number of points, bias, median and 90th percentile error."""
    rows = []
    for gpu, folder in FOLDERS.items():
        tables = read_tables(profiles / "aiconfigurator" / folder)
        for operation, errors in _held_out(tables):
            rows.append(_row(gpu, operation, errors))
        for name, hidden, ffn in VIDUR.get(gpu, ()):
            errors = _against_vidur(tables, profiles / "vidur" / name, hidden, ffn)
            rows.append(_row(gpu, f"gemm, other source ({name.split('_')[1]})", errors))
    layerwise = profiles / "llmservingsim" / "RTX4090" / "llama-3.1-8b" / "tp1" / "attention.csv"
    rows.append(_row("RTX4090", "prefill after a prefix", _prefix(pd.read_csv(layerwise))))
    return pd.DataFrame(rows)


def medians(errors: pd.DataFrame, gpu: str) -> dict[str, float]:
    """Operation -> median absolute error of one GPU, for the provenance of its profiles."""
    own = errors[(errors["gpu"] == gpu) & ~errors["operation"].str.contains("other source")]
    return {
        str(operation): float(error)
        for operation, error in zip(own["operation"], own["median_abs_error"], strict=True)
    }


def _row(gpu: str, operation: str, errors: Errors) -> dict[str, object]:
    return {
        "gpu": gpu,
        "operation": operation,
        "points": len(errors),
        "median_error": round(float(np.median(errors)), 4),
        "median_abs_error": round(float(np.median(np.abs(errors))), 4),
        "p90_abs_error": round(float(np.quantile(np.abs(errors), 0.9)), 4),
    }


def _held_out(tables: Tables) -> Iterator[tuple[str, Errors]]:
    yield "gemm, tokens left out", _tokens(tables)
    yield "gemm, shape left out", _shapes(tables)
    yield "prefill, length left out", _lengths(tables)
    yield "decode, batch left out", _batches(tables)
    yield "decode, beyond the grid", _beyond(tables)


def _tokens(tables: Tables) -> Errors:
    """Every second measured batch size of the models' own shapes, from its neighbours."""
    gemms, found = GemmTable(tables.gemm), []
    for n, k in SHAPES:
        at, raw = gemms.tokens.astype(float), gemms.curve(n, k)
        known = np.isfinite(raw)
        at, raw = at[known], raw[known]
        points, seconds, _ = cleaned(at[::2], raw[::2])
        inner = slice(1, len(at) - 1 if len(at) % 2 else len(at) - 2)
        found.append(np.interp(at[inner][::2], points, seconds) / raw[inner][::2] - 1)
    return np.concatenate(found)


def _shapes(tables: Tables) -> Errors:
    """A whole width of matrices, from narrower and wider ones."""
    full, found = GemmTable(tables.gemm), []
    for n in WIDTHS:
        rest = GemmTable(tables.gemm[tables.gemm["n"] != n])
        for k in (4096, 5120):
            at = full.tokens.astype(float)
            points, seconds, _ = cleaned(at, rest.curve(n, k))
            found.append(np.interp(at, points, seconds) / full.curve(n, k) - 1)
    errors = np.concatenate(found)
    return errors[np.isfinite(errors)]


def _lengths(tables: Tables) -> Errors:
    """Every prompt length, from the next shorter and longer one."""
    found = []
    for heads in HEADS:
        rows = select(tables.context, *heads, 128)
        single = rows[rows["batch_size"] == 1].sort_values("isl")
        length = np.asarray(single["isl"], float)
        for i in range(1, len(length) - 1):
            chunk, _, seconds = prefill_surface(single.drop(single.index[i]))
            expected = np.interp(length[i], chunk, seconds[:, 0])
            found.append(expected / (single["latency"].iloc[i] * 1e-3) - 1)
    return np.array(found)


def _batches(tables: Tables) -> Errors:
    """Every batch size, from the next smaller and larger one, at all its contexts."""
    found = []
    for heads in HEADS:
        rows = select(tables.generation, *heads, 128)
        sizes = np.sort(rows["batch_size"].unique())
        for size in sizes[1:-1]:
            batch, context, seconds = decode_surface(rows[rows["batch_size"] != size])
            own = rows[rows["batch_size"] == size]
            found += [
                np.interp(size, batch, seconds[:, column]) / (row.latency * 1e-3) - 1
                for row in own.itertuples()
                for column in np.flatnonzero(context == row.step + 1)
            ]
    return np.array(found)


def _beyond(tables: Tables) -> Errors:
    """The largest half of batch * context, from the smaller ones."""
    found = []
    for heads in HEADS:
        rows = select(tables.generation, *heads, 128)
        total = rows["batch_size"] * (rows["step"] + 1)
        far = (total > total.max() / 4) & (rows["step"] >= 255)
        batch, context, seconds = decode_surface(rows[~far])
        for row in rows[far].itertuples():
            i, j = np.searchsorted(batch, row.batch_size), np.searchsorted(context, row.step + 1)
            if i < len(batch) and j < len(context):
                found.append(seconds[i, j] / (row.latency * 1e-3) - 1)
    return np.array(found)


def _against_vidur(tables: Tables, path: Path, hidden: int, ffn: int) -> Errors:
    """MLP and output projections against another group's measurement, up to 1024 tokens."""
    other = pd.read_csv(path)
    other = other[(other["num_tensor_parallel_workers"] == 1) & (other["num_tokens"] <= 1024)]
    gemms, found = GemmTable(tables.gemm), []
    shapes = {
        "mlp_up_proj": (2 * ffn, hidden),
        "mlp_down_proj": (hidden, ffn),
        "attn_post_proj": (hidden, hidden),
    }
    for operation, (n, k) in shapes.items():
        at, seconds, _ = cleaned(gemms.tokens.astype(float), gemms.curve(n, k))
        measured = other[f"time_stats.{operation}.median"] * 1e-3
        found.append(np.interp(other["num_tokens"], at, seconds) / measured - 1)
    return np.concatenate(found)


def _prefix(attention: pd.DataFrame) -> Errors:
    """Chunks after a prefix, derived from whole chunks alone, where they were measured."""
    rows = attention[(attention["n_decode"] == 0) & (attention["prefill_chunk"] > 0)]
    whole = rows[rows["kv_prefill"] == 0]
    prompts = pd.DataFrame(
        {
            "batch_size": 1,
            "step": 0,
            "isl": whole["prefill_chunk"],
            "latency": whole["time_us"] * 1e-3,
        }
    )
    chunk, prefix, seconds = prefill_surface(prompts)
    later = rows[rows["kv_prefill"] >= 128]
    expected = [
        np.interp(row.kv_prefill, prefix, seconds[np.searchsorted(chunk, row.prefill_chunk)])
        for row in later.itertuples()
    ]
    return np.array(expected) / (np.asarray(later["time_us"]) * 1e-6) - 1
