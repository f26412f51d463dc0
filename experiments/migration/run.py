"""What migration between instances is worth, and what readers and hard thresholds notice of it.

Question: how many migrations and preemptions does each policy make, what do they gain or cost, and
how often does a hard threshold of the time between tokens object to what no reader notices?

    python experiments/migration/run.py [--jobs 2] [--out DIR] [--quick]
"""

import argparse
import os
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console

from sgym.core.layout import Move
from sgym.loading import load_scenario
from sgym.metrics import mean_interval, paired_difference
from sgym.metrics.experience import meets_ttft_tbt
from sgym.simulator import Result

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
import cells
import example
import figures
import noticed

HERE = Path(__file__).parent
SCENARIOS = {
    "Llama-3.1-8B": ("llama8b-a100-4x-migration", (27.0, 30.0, 33.0)),
    "Qwen2.5-14B": ("qwen14b-a100-4x-migration", (16.0, 18.5, 21.0)),
}
"""Scenario, and requests per second: below, about at, and above the peak without migration."""
LOADS = ("low", "middle", "high")
SLOW = {"cluster.link": {"bandwidth": 1.25e9, "latency": 1e-4}}  # Ethernet of 10 Gb/s
STOP = {"cluster.migration.mode": "stop_and_copy"}
RECOMPUTE = {"cluster.migration.mode": "recompute"}
REFERENCE = "no-migration"


def _tuned(**parameters: float) -> dict:
    return {"policy": {"name": "llumnix", **parameters}}


VARIANTS = {
    "round-robin": ("vllm", {}),
    REFERENCE: ("no-migration", {}),
    "live": ("llumnix", {}),
    "stop-and-copy": ("llumnix", STOP),
    "recompute": ("llumnix", RECOMPUTE),
    "live, threshold 0": ("llumnix", _tuned(threshold=0.0)),
    "live, threshold 30": ("llumnix", _tuned(threshold=30.0)),
    "live, each 0.5 s": ("llumnix", _tuned(poll=0.5)),
    "live, each 5 s": ("llumnix", _tuned(poll=5.0)),
    "live, balanced": ("llumnix", _tuned(pairing=1.0)),
    "live, longest": ("llumnix", _tuned(moves=1.0)),
    "live, 10 Gb/s": ("llumnix", SLOW),
    "stop-and-copy, 10 Gb/s": ("llumnix", {**STOP, **SLOW}),
}
"""Policy and changes of the scenario. Unless said otherwise llumnix pairs instances each 0.05 s,
with threshold 3, and moves the shortest request over InfiniBand."""
DURATION = 120.0  # seconds
COUNTS = (
    "num_migrations",
    "num_aborted_migrations",
    "num_preemptions",
    "recomputed_tokens",
    "transferred_gb",
    "throughput_tok_s",
    "ttft_p50",
    "ttft_p99",
    "tpot_p99",
    "tbt_p99",
    "kv_utilisation",
)
EVENTS = {"migration": Move.MIGRATION, "preemption": Move.PREEMPTION}
GROUP = ["model", "load"]


def keep(result: Result) -> dict[str, float]:
    """What is kept of a run."""
    sent = noticed.deliveries(result)
    row = {name: result.summary[name] for name in COUNTS}
    for name, reader in noticed.READERS.items():
        row[f"smooth_goodput_{name}"] = noticed.smooth_goodput(result, sent, reader)
        row[f"on_time_{name}"] = noticed.on_time(result, sent, reader)
    requests = result.state.requests
    finished = requests[requests["finish"] > 0]
    row["hard_slo"] = float(meets_ttft_tbt(finished, result.scenario.slo).mean())
    for name, kind in EVENTS.items():
        found = noticed.events(result, sent, kind)
        row |= {f"{name}_{what}": value for what, value in found.items()}
    return row


def all_cells(models=tuple(SCENARIOS), **size) -> list[cells.Cell]:
    """Every policy on every scenario, at each load."""
    found = []
    for model in models:
        name, rates = SCENARIOS[model]
        for load, rate in zip(LOADS, rates, strict=True):
            for variant, (policy, changes) in VARIANTS.items():
                overrides = {"episode.duration": size["duration"], "slo.tbt": noticed.TBT}
                scenario = load_scenario(name, {**overrides, **changes})
                labels = {"model": model, "load": load, "variant": variant}
                log = ("tokens", "moves")
                found.append(cells.Cell(labels, scenario, policy, (rate,), size["seeds"], log))
    return found


def tabulate(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per policy and load: means, and smooth goodput less that without migration."""
    table = []
    rewards = [f"smooth_goodput_{name}" for name in noticed.READERS]
    for key, group in rows.groupby(GROUP, sort=False):
        group = group.sort_values("seed", kind="stable")
        reference = group[group["variant"] == REFERENCE]
        for variant in VARIANTS:
            runs = group[group["variant"] == variant]
            row = dict(zip(GROUP, key, strict=True)) | {"variant": variant}
            row |= {"rate": runs["rate"].iloc[0], "seeds": len(runs)}
            for name in rewards:
                row[name], row[f"{name}_low"], row[f"{name}_high"] = mean_interval(runs[name])
                gain = paired_difference(runs[name], reference[name])
                row[f"{name}_gain"], row[f"{name}_gain_low"], row[f"{name}_gain_high"] = gain
            known = {*GROUP, "variant", "rate", "seed", *rewards}
            row |= {name: runs[name].mean() for name in rows if name not in known}
            table.append(row)
    return pd.DataFrame(table)


def show(table: pd.DataFrame, console: Console) -> None:
    """Print the table, a line per policy and load."""
    for key, part in table.groupby(GROUP, sort=False):
        console.print(f"[bold]{key[0]}, {key[1]} load, {part['rate'].iloc[0]:g} requests/s")
        for _, row in part.iterrows():
            gains = "  ".join(
                f"{name} {row[f'smooth_goodput_{name}']:5.0f}"
                f" ({row[f'smooth_goodput_{name}_gain']:+4.0f},"
                f" {row[f'smooth_goodput_{name}_gain_low']:+.0f} to"
                f" {row[f'smooth_goodput_{name}_gain_high']:+.0f})"
                for name in noticed.READERS
            )
            console.print(
                f"  {row['variant']:23} {gains}  moved {row['num_migrations']:6.1f}"
                f" (aborted {row['num_aborted_migrations']:.1f})"
                f"  preempted {row['num_preemptions']:6.1f}  on time {row['on_time_strict']:.2f}"
                f"  hard {row['hard_slo']:.2f}",
                highlight=False,
            )


def main() -> None:
    """Simulate, tabulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--runs", type=Path, help="finished runs (OUT/runs)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="tiny: only checks that it runs")
    parser.add_argument("--redraw", action="store_true", help="figures from the table in OUT")
    chosen = parser.parse_args()
    size = {"duration": DURATION, "seeds": chosen.seeds}
    if chosen.quick:
        size = {"duration": 15.0, "seeds": 2}
    models = tuple(SCENARIOS)[: 1 if chosen.quick else None]
    if not chosen.redraw:
        runs_in = chosen.runs or chosen.out / "runs"
        rows = cells.run_all(all_cells(models, **size), keep, runs_in, chosen.jobs)
        cells.save(tabulate(rows), chosen.out / "table.csv")
    table = pd.read_csv(chosen.out / "table.csv")
    show(table, Console(width=180))
    cells.save_figure(figures.draw_gains(table, REFERENCE), chosen.out / "gains.png")
    cells.save_figure(figures.draw_events(table), chosen.out / "events.png")
    cells.save_figure(figures.draw_example(example.tell()), chosen.out / "example.png")


if __name__ == "__main__":
    main()
