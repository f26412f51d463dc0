"""The findings of the paper on smooth goodput (arXiv 2410.14257), and a question it leaves open.

Question: do its six findings hold on these engines, and where does each metric send an optimiser?

    python experiments/paper/run.py [--jobs 2] [--out DIR] [--quick]
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import track

from sgym.profiles import ProfileWarning

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import abandoning
import cells
import curves
import figures
import findings
import loads
import objectives

from agents.search import Budget, write_whole

HERE = Path(__file__).parent


def per_seed(task, kept: Path, size: dict, rate: float) -> pd.DataFrame:
    """A row per seed of finding (e) or (f); each seed is kept."""
    rows = []
    kept.mkdir(parents=True, exist_ok=True)
    for seed in track(range(size["seeds"]), task.__name__, transient=True):
        file = kept / f"{task.__name__}_{rate:g}_{size['duration']:g}_{seed}.csv"
        if not file.is_file():
            row = pd.DataFrame([task(seed, size["duration"], rate)])
            write_whole(file, row.to_csv(index=False).encode())
        rows.append(pd.read_csv(file))
    return pd.concat(rows, ignore_index=True)


def bars(rows: pd.DataFrame, names: dict[str, tuple[str, dict[str, str]]]) -> dict:
    """Panels of `figures.draw_pairs`: title -> (prefix of a column, its ending -> label)."""
    return {
        title: {label: rows[f"{prefix}_{end}"].to_numpy() for end, label in ends.items()}
        for title, (prefix, ends) in names.items()
    }


def main() -> None:
    """Simulate, tune, tabulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="tiny: only checks that it runs")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", ProfileWarning)
    size = {"duration": 300.0, "seeds": 12}
    budget, tuned = (
        Budget(population=10, seeds=3, generations=30, validation=16),
        {"duration": 120.0, "seeds": 24},
    )
    models = 2
    if chosen.quick:
        size, models = {"duration": 20.0, "seeds": 3}, 1
        budget = Budget(population=4, seeds=1, generations=1, validation=2)
        tuned = {"duration": 10.0, "seeds": 3}
    kept = chosen.out / "runs"
    console = Console(width=150)
    if loads.trace() is None:
        console.print(f"{loads.TRACE} is not there ($SGYM_DATA), so its row is left out")
    rows = cells.run_all(loads.sweep(models=models, **size), loads.keep, kept, chosen.jobs)
    found = curves.curves_of(rows)
    table = curves.table_of(found)
    holding = per_seed(abandoning.holding, kept, size, findings.HOLD_RATE)
    short = {**size, "duration": min(size["duration"], 100.0)}  # a policy in Python is slow
    dropping = per_seed(abandoning.dropping, kept, short, findings.DROP_RATE)
    for_each = pd.concat(
        [
            objectives.tune_for(
                metric, budget, tuned["duration"], tuned["seeds"], kept, chosen.jobs
            )
            for metric in objectives.METRICS
        ]
    )
    crossed = objectives.cross(for_each)
    cells.save(table, chosen.out / "peaks.csv")
    cells.save(holding, chosen.out / "holding.csv")
    cells.save(dropping, chosen.out / "dropping.csv")
    cells.save(crossed, chosen.out / "objectives.csv")
    cells.save(
        for_each.drop_duplicates("optimised_for").drop(columns="seed"), chosen.out / "tuned.csv"
    )
    text = findings.sentences(table, found, holding, dropping)
    write_whole(
        chosen.out / "findings.md", (text + "\n" + findings.objectives_table(crossed)).encode()
    )
    console.print(text, highlight=False)
    console.print(findings.objectives_table(crossed), highlight=False)
    pictures = {
        "peaks": figures.draw_peaks(found),
        "alpha": figures.draw_alpha(found),
        "holding": figures.draw_pairs(
            bars(
                holding,
                {
                    "share of requests within 0.1 s\nbetween tokens": (
                        "tbt_attainment",
                        {"as_they_come": "as they come", "held_back": "held back"},
                    ),
                    "smooth goodput, tokens/s": (
                        "smooth_goodput",
                        {"as_they_come": "as they come", "held_back": "held back"},
                    ),
                },
            ),
            "(e) tokens held back",
        ),
        "dropping": figures.draw_pairs(
            bars(
                dropping,
                {
                    "cut off on paper:\nsmooth goodput, tokens/s": (
                        "smooth_goodput",
                        {"served": "served", "cut": "cut off"},
                    ),
                    "refused when late:\nSLO attainment": (
                        "system_attainment",
                        {"served": "served", "refused": "refused"},
                    ),
                    "goodput, tokens/s": (
                        "system_goodput",
                        {"served": "served", "refused": "refused"},
                    ),
                    "smooth goodput, tokens/s": (
                        "system_smooth_goodput",
                        {"served": "served", "refused": "refused"},
                    ),
                },
            ),
            "(f) requests that missed a deadline are dropped",
        ),
        "objectives": figures.draw_cross(crossed),
    }
    for name, figure in pictures.items():
        cells.save_figure(figure, chosen.out / f"{name}.png")


if __name__ == "__main__":
    main()
