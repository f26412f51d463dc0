"""Read measured operation tables: folders of Parquet or CSV files, one kernel call per row.

The layout is that of NVIDIA's aiconfigurator: `gemm_perf`, `context_attention_perf`,
`generation_attention_perf` and, for tensor parallelism, `custom_allreduce_perf` or `nccl_perf`,
each as `.parquet` or `.csv`, anywhere below the folder. `elementwise_perf` (m, hidden, ffn,
latency: all norms, rotary, KV write and activation of one layer) and `overhead_perf` (latency:
host time per iteration) are optional. `step` is the number of KV entries before the call, and
may be absent for whole prompts. Latencies are in milliseconds there and here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sgym.errors import ProfileError

KEYS = {
    "gemm_perf": ("m", "n", "k"),
    "context_attention_perf": (
        "num_heads",
        "num_key_value_heads",
        "head_dim",
        "batch_size",
        "isl",
        "step",
    ),
    "generation_attention_perf": (
        "num_heads",
        "num_key_value_heads",
        "head_dim",
        "batch_size",
        "step",
    ),
    "custom_allreduce_perf": ("num_gpus", "message_size"),
    "nccl_perf": ("num_gpus", "message_size"),
    "elementwise_perf": ("hidden", "ffn", "m"),
    "overhead_perf": (),
}
# Only these values of a column are a plain bfloat16 engine without sliding windows; a file without
# the column holds nothing else.
WANTED = {
    "gemm_dtype": ("bfloat16",),
    "attn_dtype": ("bfloat16",),
    "kv_cache_dtype": ("bfloat16",),
    "window_size": (0,),
    "allreduce_dtype": ("bfloat16",),
    "nccl_dtype": ("half",),
    "op_name": ("gemm", "context_attention", "generation_attention", "all_reduce"),
    "backend": ("vllm_graph", "graph"),
}


@dataclass(frozen=True, slots=True)
class Tables:
    """Rows of each file, filtered, one per key, sorted; what is absent is None."""

    gemm: pd.DataFrame
    context: pd.DataFrame
    generation: pd.DataFrame
    allreduce: pd.DataFrame | None
    allreduce_source: str  # file name without extension, or empty
    elementwise: pd.DataFrame | None
    overhead: float | None  # seconds per iteration
    framework: str  # what was measured, with version and device


def read_tables(folder: str | Path) -> Tables:
    """Read all operation tables below `folder`.

    Raises:
        ProfileError: no such folder, a missing or ambiguous file, a missing column, or bad values.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ProfileError(
            f"{root} is no folder; give the one that holds gemm_perf.parquet or .csv"
        )
    gemm = _read(root, "gemm_perf")
    context = _read(root, "context_attention_perf")
    generation = _read(root, "generation_attention_perf")
    if gemm is None or context is None or generation is None:
        needed = ("gemm_perf", "context_attention_perf", "generation_attention_perf")
        missing = [name for name in needed if _find(root, name) is None]
        raise ProfileError(f"{root} lacks {', '.join(missing)} (.parquet or .csv)")
    source = "custom_allreduce_perf"
    allreduce = _read(root, source)
    if allreduce is None:
        source = "nccl_perf"
        allreduce = _read(root, source)
    overhead = _read(root, "overhead_perf")
    return Tables(
        gemm,
        context,
        generation,
        allreduce,
        source if allreduce is not None else "",
        _read(root, "elementwise_perf"),
        None if overhead is None else float(np.median(overhead["latency"])) * 1e-3,
        _framework(gemm),
    )


def _find(root: Path, name: str) -> Path | None:
    found = sorted(path for end in (".parquet", ".csv") for path in root.rglob(name + end))
    if len(found) > 1:
        raise ProfileError(
            f"{root} holds {len(found)} files {name}: {', '.join(str(p) for p in found[:4])}; "
            "give a folder with one version"
        )
    return found[0] if found else None


def _read(root: Path, name: str) -> pd.DataFrame | None:
    path = _find(root, name)
    if path is None:
        return None
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:  # pyarrow's and pandas' own errors are ValueErrors
        raise ProfileError(f"cannot read {path}: {error}") from None
    keys = list(KEYS[name])
    if name == "context_attention_perf" and "step" not in table:
        table["step"] = 0
    missing = [column for column in [*keys, "latency"] if column not in table]
    if missing:
        raise ProfileError(f"{path} lacks the columns {missing}; it has {list(table.columns)}")
    for column, values in WANTED.items():
        if column in table:
            table = table.loc[np.isin(table[column], values)]
    bad = ~(np.isfinite(table["latency"]) & (table["latency"] > 0))
    if bad.any() or len(table) == 0:
        raise ProfileError(
            f"{path}: {int(bad.sum())} of {len(table)} bfloat16 rows have a latency that is not a "
            "positive number; measure these points again or delete the rows"
        )
    if not keys:
        return table
    labels = {column: "first" for column in ("framework", "version", "device") if column in table}
    return table.groupby(keys, as_index=False).agg({"latency": "median", **labels})


def _framework(table: pd.DataFrame) -> str:
    columns = [name for name in ("framework", "version", "device") if name in table]
    return " ".join(str(table[name].iloc[0]) for name in columns) or "unnamed"
