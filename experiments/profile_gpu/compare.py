"""The tables and profiles measured here beside the public ones of the same GPU.

Command: python experiments/profile_gpu/compare.py
"""

import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from rich.console import Console

from sgym import profiles
from sgym.core import latency as core
from sgym.core.layout import CLUSTER, INSTANCE
from sgym.profiles.attention import prefill_surface, select
from sgym.profiles.gemm import GemmTable
from sgym.profiles.models import ModelSpec
from sgym.profiles.tables import Tables, read_tables

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
MODELS = ("Llama-3.1-8B", "Qwen2.5-14B")
PUBLIC = Path("profiles/aiconfigurator/h200_sxm")
PREFIXES = (0, 2048, 8192, 32768)
CONTEXTS = (128, 1024, 8192, 32768)
RANGES = {  # what the summary takes medians over: the name of x, and where its ranges begin
    "GEMM": ("tokens", (1, 129, 1025)),
    "prefill attention": ("tokens", (1, 513, 2049)),
    "prefill attention after a prefix": ("tokens", (1, 513, 2049)),
    "decode attention": ("KV entries", (1, 2**14, 2**17)),
}


def public_tables() -> Path:
    """Folder of the public tables, below $SGYM_DATA or ../shared/data beside the checkout."""
    data = Path(os.environ.get("SGYM_DATA", HERE.parents[2] / "shared" / "data"))
    if not (data / PUBLIC).is_dir():
        raise SystemExit(f"no public tables at {data / PUBLIC}; SGYM_DATA names another folder")
    return data / PUBLIC


def operations(ours: Tables, public: Tables, spec: ModelSpec) -> pd.DataFrame:
    """One row per point measured in both: operation, series, x, and milliseconds."""
    heads = spec.heads, spec.kv_heads, spec.head_dim
    parts = [_gemms(GemmTable(ours.gemm), GemmTable(public.gemm), spec)]
    parts.append(_prefill(select(ours.context, *heads), select(public.context, *heads)))
    parts.append(_decode(select(ours.generation, *heads), select(public.generation, *heads)))
    return pd.concat(parts).assign(model=spec.name)


def _gemms(ours: GemmTable, public: GemmTable, spec: ModelSpec) -> pd.DataFrame:
    rows = []
    both, here, there = np.intersect1d(ours.tokens, public.tokens, return_indices=True)
    for name, (n, k) in spec.gemms(1).items():
        series = name if public.measured(n, k) else f"{name} (interpolated)"
        pairs = zip(both, ours.curve(n, k)[here], public.curve(n, k)[there], strict=True)
        rows += [("GEMM", series, m, 1e3 * own, 1e3 * other) for m, own, other in pairs]
    return _frame(rows)


def _prefill(ours: pd.DataFrame, public: pd.DataFrame) -> pd.DataFrame:
    """After a prefix, the public times are derived from those of whole prompts."""
    rows = []
    own, other = (prefill_surface(table) for table in (ours, public))
    chunks, here, there = np.intersect1d(own[0], other[0], return_indices=True)
    for prefix in np.intersect1d(own[1], other[1]):
        name = "prefill attention" if prefix == 0 else "prefill attention after a prefix"
        columns = [np.flatnonzero(side[1] == prefix)[0] for side in (own, other)]
        for chunk, i, j in zip(chunks, here, there, strict=True):
            times = own[2][i, columns[0]], other[2][j, columns[1]]
            rows.append((name, f"{prefix:.0f}", chunk, *(1e3 * time for time in times)))
    return _frame(rows)


def _decode(ours: pd.DataFrame, public: pd.DataFrame) -> pd.DataFrame:
    both = ours.merge(public, on=["batch_size", "step"], suffixes=("", "_public"))
    return _frame(
        ("decode attention", f"{row.step + 1}", row.batch_size, row.latency, row.latency_public)
        for row in both.itertuples()
    )


def _frame(rows: object) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["operation", "series", "x", "ours_ms", "public_ms"])
    return frame.assign(ratio=frame["ours_ms"] / frame["public_ms"])


def steps(folder: Path, model: str) -> pd.DataFrame:
    """Whole steps, without the host's time: measured, by our profile, and by the public one."""
    table = pd.read_csv(folder / "whole_step_perf.csv")
    table = table[["batch_size", "tokens", "context", "latency"]]
    table = table.sort_values(["tokens", "batch_size"]).rename(columns={"latency": "measured_ms"})
    for column, gpu in (("ours_ms", "h200-torch"), ("public_ms", "h200")):
        record = profiles.load(f"{model}_{gpu}_tp1").latency(overhead=0.0)
        table[column] = [1e3 * step_seconds(record, *row) for row in _shapes(table)]
    table["ours/measured"] = table["ours_ms"] / table["measured_ms"]
    table["ours/public"] = table["ours_ms"] / table["public_ms"]
    table.insert(0, "model", model)
    return table


def _shapes(table: pd.DataFrame) -> list[tuple[int, int, int]]:
    return [*table[["batch_size", "tokens", "context"]].itertuples(index=False, name=None)]


def step_seconds(record: np.ndarray, batch: int, tokens: int, context: int) -> float:
    """Time of a step of `batch` decodes, or of one prompt, by a profile."""
    instance = np.zeros(1, INSTANCE)[0]
    instance["num_sampled"], attention = batch, 0.0
    if tokens == 1:
        instance["decode_seqs"], instance["decode_kv"] = batch, batch * context
    else:
        instance["prefill_tokens"] = tokens
        attention = core.prefill_attention(record[0], tokens, context - tokens)
    return core.iteration_time(record[0], instance, attention, np.zeros(1, CLUSTER)[0])


def summary(points: pd.DataFrame) -> pd.DataFrame:
    """Median ratio, and the middle 80 %, by operation, model and range."""
    rows = []
    for operation, (unit, edges) in RANGES.items():
        for first, beyond in zip(edges, (*edges[1:], None), strict=True):
            own = points[points["operation"] == operation]
            x = own["x"] * (own["series"].astype(int) if unit == "KV entries" else 1)
            own = own[(x >= first) & (x < (beyond or np.inf))]
            span = f"{first} - {beyond - 1}" if beyond else f"{first} and more"
            row: dict[str, object] = {"operation": operation, "range": f"{span} {unit}"}
            for model, ratio in own.groupby("model")["ratio"]:
                low, middle, high = ratio.quantile([0.1, 0.5, 0.9])
                row[str(model)] = f"{middle:.2f} ({low:.2f} - {high:.2f})"
            rows.append(row)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """A table for README.md."""
    text = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in table.values]
    lines = [[*table.columns], ["---"] * len(table.columns), *text]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def draw(points: pd.DataFrame, whole: pd.DataFrame, path: Path) -> None:
    """Ratios: a row of panels per model, a panel per operation."""
    figure, panels = plt.subplots(
        len(MODELS), 4, figsize=(17, 8), sharey=True, layout="constrained"
    )
    for row, model in zip(panels, MODELS, strict=True):
        own = points[points["model"] == model]
        prefill = own[own["operation"].str.startswith("prefill")]
        _lines(row[0], own[own["operation"] == "GEMM"], None, "GEMM, over tokens")
        _lines(row[1], prefill, PREFIXES, "prefill attention, over chunk", "prefix")
        _lines(
            row[2], own[own["operation"] == "decode attention"], CONTEXTS,
            "decode attention, over batch", "context",
        )  # fmt: skip
        _steps(row[3], whole[whole["model"] == model])
        row[0].set_ylabel(f"{model}\ntime here / public time")
    panels[0, 0].set_yscale("log", base=2)
    ticks = [0.25, 0.35, 0.5, 0.7, 1, 1.4]
    panels[0, 0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panels[0, 0].set_ylim(0.17, 1.7)
    draft = path.with_suffix(".tmp.png")
    figure.savefig(draft, dpi=100)
    os.replace(draft, path)
    plt.close(figure)


def _lines(
    axes: "plt.Axes",
    points: pd.DataFrame,
    series: tuple[int, ...] | None,
    title: str,
    legend: str | None = None,
) -> None:
    for name in series or points["series"].unique():
        line = points[points["series"] == str(name)].sort_values("x")
        style = "--" if "interpolated" in str(name) else "-"
        axes.plot(line["x"], line["ratio"], style, marker=".", label=str(name))
    axes.axhline(1, color="0.6", linewidth=1, zorder=0)
    axes.set(xscale="log", title=title)
    axes.grid(color="0.9")
    axes.legend(title=legend, fontsize="small", loc="lower right")


def _steps(axes: "plt.Axes", whole: pd.DataFrame) -> None:
    names = [
        f"decode {row.batch_size}" if row.tokens == 1 else f"prefill {row.tokens}"
        for row in whole.itertuples()
    ]
    axes.plot(names, whole["ours/public"], "o", label="sum of operations")
    axes.plot(names, whole["measured_ms"] / whole["public_ms"], "x", label="measured as a whole")
    axes.axhline(1, color="0.6", linewidth=1, zorder=0)
    axes.set_title("whole step (decode: 1024 context)")
    axes.tick_params(axis="x", rotation=60)
    axes.grid(color="0.9")
    axes.legend(fontsize="small", loc="lower right")


def write(text: str, path: Path) -> None:
    """Write a file, in one piece or not at all."""
    draft = path.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def main() -> None:
    """Write h200/comparison.csv, steps.csv, comparison.md and comparison.png."""
    public, out = read_tables(public_tables()), HERE / "h200"
    points = pd.concat(
        operations(read_tables(out / name.lower()), public, profiles.MODELS[name])
        for name in MODELS
    )
    whole = pd.concat(steps(out / name.lower(), name) for name in MODELS)
    write(points.round(5).to_csv(index=False), out / "comparison.csv")
    write(whole.round(4).to_csv(index=False), out / "steps.csv")
    text = markdown(summary(points)) + "\n" + markdown(whole)
    write(text, out / "comparison.md")
    draw(points, whole, out / "comparison.png")
    Console().print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
