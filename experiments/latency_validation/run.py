"""Both parts of the validation: error at held-out points, and simulated against real serving runs.

python experiments/latency_validation/run.py
"""

import argparse
import os
from pathlib import Path

import held_out
import matplotlib as mpl
import pandas as pd
import serving
from data import shared_data
from rich.console import Console
from rich.table import Table

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
METRICS = ("itl", "ttft", "e2e")


def main() -> None:
    """Print both tables and write them with their figures beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cached", type=int, help="prompt tokens in the prefix cache (default: all whole blocks)"
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder for tables and figures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    console, data = Console(width=150), shared_data()

    errors = held_out.table(data / "profiles")
    _print(console, errors, "Held-out points")
    _write(errors, options.out / "held_out.csv")
    _draw_held_out(errors, options.out / "held_out.png")

    runs = serving.read_runs(data / "serving_runs" / "vllm0.15.1_serving.csv", options.cached)
    constants = {run.gpu: serving.fit(run) for run in runs if run.fits}
    for gpu, fitted in constants.items():
        console.print(f"{gpu}: {fitted}")
    result = serving.compare(runs, constants)
    own = serving.compare_rtx4090(data / "serving_runs" / "rtx4090_llama-3.1-8b_vllm0.19")
    result = pd.concat([result, pd.DataFrame([own])], ignore_index=True)
    _print(console, result, "Real serving runs")
    _write(result, options.out / "serving.csv")
    _draw_serving(result, options.out / "serving.png")
    rest = result[~result["fitted_here"]]
    for name in METRICS:
        median = rest[f"{name}_error"].abs().median()
        console.print(
            f"median absolute error of mean {name.upper()}: {median:.1%} ({len(rest)} rows)"
        )


def _print(console: Console, frame: pd.DataFrame, title: str) -> None:
    table = Table(*frame.columns, title=title)
    for row in frame.itertuples(index=False):
        table.add_row(*(str(value) for value in row))
    console.print(table)


def _write(frame: pd.DataFrame, path: Path) -> None:
    draft = path.with_suffix(".tmp")
    frame.to_csv(draft, index=False)
    os.replace(draft, path)


def _save(figure: "plt.Figure", path: Path) -> None:
    draft = path.with_suffix(".tmp.png")
    figure.savefig(draft, dpi=120)
    os.replace(draft, path)
    plt.close(figure)


def _draw_held_out(errors: pd.DataFrame, path: Path) -> None:
    wide = errors.pivot(index="operation", columns="gpu", values="median_abs_error") * 100
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    wide.plot.barh(ax=axes)
    axes.set_xlabel("median absolute error at held-out points (%)")
    axes.set_ylabel("")
    _save(figure, path)


def _draw_serving(result: pd.DataFrame, path: Path) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(13, 4.5), layout="constrained")
    for axes, name in zip(panels, METRICS, strict=True):
        for gpu, rows in result.groupby("gpu"):
            line = axes.scatter(rows[f"{name}_ms"], rows[f"{name}_sim_ms"], label=gpu)
            fitted = rows[rows["fitted_here"]]
            axes.scatter(
                fitted[f"{name}_ms"],
                fitted[f"{name}_sim_ms"],
                s=140,
                facecolors="none",
                edgecolors=line.get_facecolor(),
            )
        ends = [result[f"{name}_ms"].min() * 0.8, result[f"{name}_ms"].max() * 1.25]
        axes.plot(ends, ends, color="0.6", linewidth=1, zorder=0)
        axes.set(xscale="log", yscale="log", title=f"mean {name.upper()} (ms)")
        axes.set(xlabel="measured", ylabel="simulated")
    panels[0].legend(title="circled: fitted on this row")
    _save(figure, path)


if __name__ == "__main__":
    main()
