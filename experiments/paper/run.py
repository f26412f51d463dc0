"""The findings of the paper on smooth goodput (arXiv 2410.14257), and a question it leaves open.

Question: do its six findings hold on these engines, and where does each metric send an optimiser?

    python experiments/paper/run.py [--jobs 2] [--out DIR] [--quick]
"""

import argparse
import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import track

import sgym
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
Task = Callable[[int, float, float], dict[str, float]]
"""Seed, seconds and requests per second -> a row."""


def per_seed(task: Task, kept: Path, size: dict, rate: float) -> pd.DataFrame:
    """A row per seed of finding (e) or (f); each seed is kept, under all that it depends on."""
    kept.mkdir(parents=True, exist_ok=True)
    scenario = loads.scenario_of(*abandoning.PLACE, size["duration"], **{"workload.rate": rate})
    sources = [Path(module.__file__ or "").read_bytes() for module in (abandoning, loads)]
    basis = b"".join([scenario.model_dump_json().encode(), sgym.__version__.encode(), *sources])
    digest = hashlib.sha256(basis).hexdigest()[:12]
    rows = []
    for seed in track(range(size["seeds"]), task.__name__, transient=True):
        file = kept / f"{task.__name__}_{seed}_{digest}.csv"
        if not file.is_file():
            row = pd.DataFrame([task(seed, size["duration"], rate)])
            write_whole(file, row.to_csv(index=False).encode())
        rows.append(pd.read_csv(file))
    return pd.concat(rows, ignore_index=True)


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
        "holding": figures.draw_pairs(holding, figures.HOLDING, "(e) tokens held back"),
        "dropping": figures.draw_pairs(
            dropping, figures.DROPPING, "(f) requests that missed a deadline are dropped"
        ),
        "objectives": figures.draw_cross(crossed),
    }
    for name, figure in pictures.items():
        cells.save_figure(figure, chosen.out / f"{name}.png")


if __name__ == "__main__":
    main()
