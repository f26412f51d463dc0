"""Prefill and decode on the same instances or apart, at equal GPU count: which earns more?

Question: where does each arrangement win, on smooth goodput, on attainment and on throughput?

    python experiments/disaggregation/run.py [--jobs 2] [--out DIR] [--quick]
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from sgym.loading import load_scenario
from sgym.metrics import mean_interval, paired_difference
from sgym.simulator import Result

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
import cells
import pictures

HERE = Path(__file__).parent
MODELS = ("Llama-3.1-8B", "Qwen2.5-14B")
NOMINAL = {
    ("Llama-3.1-8B", "chat"): 20.0,
    ("Llama-3.1-8B", "conversations"): 9.5,
    ("Llama-3.1-8B", "documents"): 4.2,
    ("Qwen2.5-14B", "chat"): 11.0,
    ("Qwen2.5-14B", "conversations"): 5.0,
    ("Qwen2.5-14B", "documents"): 2.2,
}
"""Requests per second and GPU: about where colocated instances peak. Scale of the rates only."""
FRACTIONS = tuple(round(0.1 * step, 1) for step in range(2, 13))  # of NOMINAL
MODERATE, OVERLOAD = 0.5, 1.2  # of NOMINAL: where attainment, and throughput, are compared
WORKLOADS = {
    "chat": "sharegpt",
    "conversations": "azure-conv-2023",
    "documents": "arxiv-summarization",
}
READERS = {
    "paper": {"classes": [{"token_time": 0.2}], "ttft": 2.0, "tbt": 0.2, "tpot": 0.1},
    "strict": {
        "classes": [{"token_time": 0.05, "first_delay": 0.5}],
        "ttft": 0.5,
        "tbt": 0.1,
        "tpot": 0.05,
    },
}
"""Token SLO of the metric, and hard thresholds that the columns `attainment_ttft_*` apply."""
ARRANGEMENTS = {
    2: ("colocated", "colocated-512", "1P1D"),
    4: ("colocated", "colocated-512", "2P2D", "1P3D", "3P1D"),
    8: ("colocated", "colocated-512", "4P4D"),
}
"""By GPU count; the first is the one that others are compared with."""
MANY_SEATS = ("colocated", "2P2D", "1P3D")
"""At 4 GPUs under the chat workload, also with 1,024 seats per instance instead of vLLM's 256."""
DURATION = 180.0  # seconds
KEPT = (
    "smooth_goodput",
    "slo_attainment",
    "slo_attainment_decided",
    "throughput_tok_s",
    "goodput_req_s",
    "attainment_ttft_tbt",
    "attainment_ttft_tpot",
    "idle_latency_mean",
    "ttft_p50",
    "ttft_p99",
    "tpot_p99",
    "tbt_p99",
    "num_preemptions",
    "transferred_gb",
    "kv_utilisation",
    "busy_share",
)
PER_GPU = ("smooth_goodput", "throughput_tok_s", "goodput_req_s")
ON_TIME = "slo_attainment_decided"
"""Without the requests that are under way at the end and not late so far."""
BANDS = ("smooth_goodput", ON_TIME, "throughput_tok_s", "attainment_ttft_tbt")
TABLE_HEAD = """# Every arrangement

Per GPU. Peak: smooth goodput in tokens/s at its best rate, and how much less or more than colocated
(paired by seed, 95 % interval). On time (every token), and hard thresholds of TTFT and TBT: shares
at half of the nominal rate. Overload: throughput in tokens/s at 1.2 times the nominal rate.

"""
COLUMNS = (
    "model",
    "workload",
    "reader",
    "GPUs",
    "arrangement",
    "peak (at requests/s)",
    "less colocated",
    "on time",
    "TTFT and TBT",
    "90 % on time up to (requests/s)",
    "overload",
)
GROUP = ["model", "workload", "reader", "gpus"]


def keep(result: Result) -> dict[str, float]:
    """What is kept of a run."""
    return {name: result.summary[name] for name in KEPT}


def pools(arrangement: str, gpus: int) -> list[dict]:
    """The pools of an arrangement such as 1P3D."""
    if arrangement.startswith("colocated"):
        return [{"role": "mixed", "instances": gpus}]
    prefill, decode = arrangement.removesuffix("D").split("P")
    return [
        {"role": "prefill", "instances": int(prefill)},
        {"role": "decode", "instances": int(decode)},
    ]


def cell(
    model: str,
    workload: str,
    reader: str,
    gpus: int,
    arrangement: str,
    seats: int = 256,
    **size,
) -> cells.Cell:
    """An arrangement under a workload, at all rates."""
    scenario = load_scenario(
        {
            "cluster": {
                "model": model,
                "gpu": "A100-80GB",
                "pools": pools(arrangement, gpus),
                "router": "least_outstanding",
                "handoff": "least_kv",
                "link": {"preset": "infiniband"},
            },
            "engine": {
                "max_num_batched_tokens": 512 if arrangement.endswith("-512") else 2048,
                "max_num_seqs": seats,
                "max_model_len": 16384,
            },
            "workload": {"rate": 1.0, "lengths": [{"dataset": WORKLOADS[workload]}]},
            "slo": READERS[reader],
            "episode": {"duration": size["duration"]},
        }
    )
    values = (model, workload, reader if seats == 256 else f"{reader}, {seats} seats")
    values += (gpus, arrangement)
    labels = dict(zip([*GROUP, "arrangement"], values, strict=True))
    nominal = NOMINAL[model, workload] * gpus
    rates = tuple(round(nominal * fraction, 6) for fraction in size["fractions"])
    return cells.Cell(labels, scenario, "vllm", rates, size["seeds"])


def all_cells(models=MODELS, **size) -> list[cells.Cell]:
    """Every arrangement under every workload and reader."""
    return [
        cell(model, workload, reader, gpus, arrangement, **size)
        for model in models
        for workload in WORKLOADS
        for reader in READERS
        for gpus, arrangements in ARRANGEMENTS.items()
        for arrangement in arrangements
    ]


def seat_cells(models=MODELS, **size) -> list[cells.Cell]:
    """Short prompts, where decode instances run out of seats before they run out of memory."""
    return [
        cell(model, "chat", "strict", 4, arrangement, seats=1024, **size)
        for model in models
        for arrangement in MANY_SEATS
    ]


def with_fractions(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with rates and rewards per GPU, and the rate as a fraction of the nominal one."""
    rows = rows.copy()
    for name in PER_GPU:
        rows[name] /= rows["gpus"]
    rows["rate_per_gpu"] = rows["rate"] / rows["gpus"]
    nominal = [NOMINAL[pair] for pair in zip(rows["model"], rows["workload"], strict=True)]
    rows["fraction"] = (rows["rate_per_gpu"] / nominal).round(3)
    return rows


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per arrangement and rate: means over seeds, some with their 95 % interval."""
    table = []
    keys = [*GROUP, "arrangement", "fraction", "rate_per_gpu"]
    for key, runs in rows.groupby(keys, sort=False):
        row = dict(zip(keys, key, strict=True)) | {"seeds": len(runs)}
        for name in KEPT:
            row[name] = runs[name].mean()
            if name in BANDS:
                _, row[f"{name}_low"], row[f"{name}_high"] = mean_interval(runs[name])
        table.append(row)
    return pd.DataFrame(table)


def matrix(runs: pd.DataFrame, column: str) -> np.ndarray:
    """Values of one arrangement, (seeds, rates)."""
    return runs.pivot(index="seed", columns="fraction", values=column).to_numpy()


def held_out_peak(values: np.ndarray) -> np.ndarray:
    """What each seed earns at the rate that the other seeds find best, (seeds,).

    The maximum of noisy means is too high; a seed that has no say in the choice is not.
    """
    others = (values.sum(axis=0) - values) / (len(values) - 1)
    return values[np.arange(len(values)), others.argmax(axis=1)]


def rate_of_share(shares: np.ndarray, rates: np.ndarray, least: float = 0.9) -> np.ndarray:
    """The rate at which each seed's share first falls below `least`, (seeds,); 0 = always."""
    found = []
    for row in shares:
        below = np.flatnonzero(row < least)
        if not len(below):
            found.append(rates[-1])
        elif below[0] == 0:
            found.append(0.0)
        else:
            k = below[0]
            part = (row[k - 1] - least) / (row[k - 1] - row[k])
            found.append(rates[k - 1] + part * (rates[k] - rates[k - 1]))
    return np.array(found)


def scores(runs: pd.DataFrame) -> dict[str, np.ndarray]:
    """What an arrangement is compared by, per seed."""
    fractions = np.array(sorted(set(runs["fraction"])))
    rates = np.array(sorted(set(runs["rate_per_gpu"])))
    moderate = int(np.abs(fractions - MODERATE).argmin())
    return {
        "peak": held_out_peak(matrix(runs, "smooth_goodput")),
        "attainment": matrix(runs, ON_TIME)[:, moderate],
        "attainment_ttft_tbt": matrix(runs, "attainment_ttft_tbt")[:, moderate],
        "rate_90": rate_of_share(matrix(runs, ON_TIME), rates),
        "throughput": matrix(runs, "throughput_tok_s")[:, -1],
    }


def verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per arrangement: its scores, and what it has more than colocated, paired by seed."""
    table = []
    for key, group in rows.groupby(GROUP, sort=False):
        found = {name: scores(runs) for name, runs in group.groupby("arrangement", sort=False)}
        reference = found["colocated"]
        for arrangement, values in found.items():
            runs = group[group["arrangement"] == arrangement]
            means = runs.groupby("rate_per_gpu")["smooth_goodput"].mean()
            row = dict(zip(GROUP, key, strict=True)) | {"arrangement": arrangement}
            row["peak_rate"] = means.idxmax()
            for name, sample in values.items():
                row[name], row[f"{name}_low"], row[f"{name}_high"] = mean_interval(sample)
                gain = paired_difference(sample, reference[name])
                row[f"{name}_gain"], row[f"{name}_gain_low"], row[f"{name}_gain_high"] = gain
                row[f"{name}_colocated"] = reference[name].mean()
            table.append(row)
    return pd.DataFrame(table)


def show(table: pd.DataFrame, console: Console) -> None:
    """Print the verdicts."""
    for key, part in table.groupby(GROUP, sort=False):
        console.print(f"[bold]{', '.join(str(name) for name in key)} GPUs")
        for _, row in part.iterrows():
            console.print(
                f"  {row['arrangement']:14} peak {row['peak']:6.0f} at {row['peak_rate']:5.2f}/s"
                f" ({row['peak_gain']:+5.0f}, {row['peak_gain_low']:+.0f} to"
                f" {row['peak_gain_high']:+.0f})  on time {row['attainment']:.2f}"
                f"  TTFT+TBT {row['attainment_ttft_tbt']:.2f}  90 % to {row['rate_90']:.2f}/s"
                f"  overload {row['throughput']:.0f} tokens/s",
                highlight=False,
            )


def as_markdown(table: pd.DataFrame) -> str:
    """The verdicts for people: a row per arrangement."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    for _, row in table.iterrows():
        half = (row["peak_gain_high"] - row["peak_gain_low"]) / 2
        gain = "" if row["arrangement"] == "colocated" else f"{row['peak_gain']:+.0f} ± {half:.0f}"
        labels = [*(str(row[name]) for name in GROUP), row["arrangement"]]
        cells_of = [
            f"{row['peak']:.0f} ({row['peak_rate']:.3g})",
            gain,
            f"{100 * row['attainment']:.0f} %",
            f"{100 * row['attainment_ttft_tbt']:.0f} %",
            f"{row['rate_90']:.2f}",
            f"{row['throughput']:.0f}",
        ]
        lines.append(f"| {' | '.join(labels + cells_of)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate, tabulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--runs", type=Path, help="finished runs (OUT/runs)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="tiny: only checks that it runs")
    parser.add_argument("--redraw", action="store_true", help="figures from the tables in OUT")
    chosen = parser.parse_args()
    size = {"duration": DURATION, "fractions": FRACTIONS, "seeds": chosen.seeds}
    if chosen.quick:
        size = {"duration": 20.0, "fractions": (0.5, 1.2), "seeds": 2}
    models = MODELS[:1] if chosen.quick else MODELS
    runs_in = chosen.runs or chosen.out / "runs"
    if not chosen.redraw:
        wanted = all_cells(models, **size) + seat_cells(models, **size)
        rows = cells.run_all(wanted, keep, runs_in, chosen.jobs)
        rows = with_fractions(rows)
        cells.save(curves(rows), chosen.out / "curves.csv")
        cells.save(verdicts(rows), chosen.out / "table.csv")
    table = pd.read_csv(chosen.out / "curves.csv")
    verdict = pd.read_csv(chosen.out / "table.csv")
    show(verdict, Console(width=160))
    draft = chosen.out / ".table.md.part"
    draft.write_text(TABLE_HEAD + as_markdown(verdict), encoding="utf-8")
    draft.replace(chosen.out / "table.md")
    standard = verdict[verdict["reader"].isin(list(READERS))]
    for gpus in ARRANGEMENTS:
        path = chosen.out / f"curves_{gpus}_gpus.png"
        cells.save_figure(pictures.draw_curves(table, gpus, ARRANGEMENTS[gpus]), path)
    cells.save_figure(pictures.draw_map(standard), chosen.out / "map.png")


if __name__ == "__main__":
    main()
