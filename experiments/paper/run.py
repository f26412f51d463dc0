"""What the paper on smooth goodput finds, here: six findings, and where each metric leads.

Questions: do the findings of arXiv 2410.14257 hold in this simulator, on its models and workloads?
And what it leaves open: which scheduler does an optimiser find for each of the metrics?

    python experiments/paper/run.py [--jobs 2] [--out DIR] [--quick]
"""

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import cells
import crosstab
import effects
import optimise
import plots
import settings
import tables
import told

from agents.search import Budget, write_whole
from sgym.profiles import ProfileWarning

HERE = Path(__file__).parent
Size = dict[str, Any]
SIZES: Size = {
    "models": settings.MODELS,
    "engines": tuple(settings.ENGINES),
    "fractions": settings.FRACTIONS,
    "horizons": {300.0: 24, 1800.0: 8},  # seconds -> seeds
    "loads": (0.7, 1.0, 1.2),  # of NOMINAL, for (e) and (f)
    "effect_seeds": 8,
    "objectives": tuple(optimise.METRICS),
    "settings": tuple(optimise.SETTINGS),
    "budget": optimise.BUDGET,
    "restarts": optimise.RESTARTS,
    "duration": optimise.DURATION,
    "held_out": 48,
}
QUICK: Size = {
    "models": settings.MODELS[:1],
    "engines": ("prefill-first", "chunked"),
    "fractions": (0.4, 0.7, 1.0, 1.3),
    "horizons": {40.0: 3},
    "loads": (1.0,),
    "effect_seeds": 2,
    "objectives": ("slo_attainment", "smooth_goodput"),
    "settings": ("one reader",),
    "budget": Budget(population=4, seeds=1, generations=2, check=2, validation=2),
    "restarts": 1,
    "duration": 10.0,
    "held_out": 3,
}
EFFECT_ENGINES = ("prefill-first", "chunked")


def sweep_cells(size: Size) -> list[cells.Cell]:
    """Every engine under every workload, at each rate.

    The trace is too short for the longest window, so it is left out there.
    """
    return [
        cells.Cell(
            {"horizon": horizon, "model": model, "workload": workload, "engine": engine},
            settings.scenario(model, workload, engine, horizon),
            "stock",
            settings.rates(model, workload, size["fractions"]),
            seeds,
        )
        for horizon, seeds in size["horizons"].items()
        for model in size["models"]
        for workload in settings.workloads()
        if workload != settings.TRACE or horizon == min(size["horizons"])
        for engine in size["engines"]
    ]


def effect_cells(size: Size) -> list[cells.Cell]:
    """Runs of which the times of all tokens are looked at."""
    return [
        cells.Cell(
            {"model": model, "workload": workload, "engine": engine, "load": load},
            settings.scenario(model, workload, engine, min(size["horizons"])),
            "stock",
            settings.rates(model, workload, (load,)),
            size["effect_seeds"],
            ("tokens",),
        )
        for model in size["models"]
        for workload in settings.workloads()
        for engine in EFFECT_ENGINES
        for load in size["loads"]
    ]


def trials(size: Size) -> list[optimise.Trial]:
    """All searches."""
    return [
        optimise.Trial(setting, objective, restart, size["budget"], size["duration"])
        for setting in size["settings"]
        for objective in size["objectives"]
        for restart in range(size["restarts"])
    ]


def compute(size: Size, kept: Path, jobs: int) -> dict[str, pd.DataFrame]:
    """Simulate and search; the tables by name."""
    sweep = cells.run_all(sweep_cells(size), settings.sweep_columns, kept, jobs)
    observed = cells.run_all(effect_cells(size), effects.effects, kept, jobs)
    searched = trials(size)
    best = crosstab.best_of(searched, optimise.run_trials(searched, kept, jobs))
    searches = [trial.file_in(kept) for trial in searched]
    rows = crosstab.measured(best, searches, size["duration"], size["held_out"])
    return {
        "curves": tables.curve_table(sweep),
        "peaks": tables.peak_table(sweep),
        "alphas": tables.alpha_table(sweep),
        "chunks": tables.chunk_table(sweep),
        "effects": tables.effect_table(observed),
        "cross": crosstab.cross(rows),
        "beside": crosstab.beside(rows),
        "policies": best,
    }


def main() -> None:
    """Simulate, search, tabulate, draw, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="tiny: only checks that it runs")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", ProfileWarning)  # the README says what is extrapolated
    os.environ["PYTHONWARNINGS"] = "ignore"  # so do not the workers either
    try:
        made = compute(QUICK if chosen.quick else SIZES, chosen.out / "runs", chosen.jobs)
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on from here") from None
    for name, table in made.items():
        cells.save(table, chosen.out / f"{name}.csv")
    text = told.findings(made)
    write_whole(chosen.out / "findings.md", text.encode())
    for name, figure in plots.all_figures(made):
        cells.save_figure(figure, chosen.out / f"{name}.png")
    Console(width=160).print(text, highlight=False, markup=False)


if __name__ == "__main__":
    main()
