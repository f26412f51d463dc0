"""How fast the simulator is, as CPU time and as ratios to things run beside it.

Question: does sgym meet its speed targets: a million engine iterations per CPU-second at a mean
batch of 16, 200,000 at 128; a cost per request that grows neither with their number nor the queue?

    python experiments/speed/run.py [--out DIR] [--repeats 5] [--quick]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track

import sgym
from sgym.core import engine, metric
from sgym.core.layout import ARRIVAL, EVENT, LINK, REQUEST
from sgym.metrics import mean_interval

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import oracle  # the slow, obvious simulator that the tests compare the fast one with

HERE = Path(__file__).parent
TARGETS = ((16, 1e6), (128, 2e5))  # mean batch, iterations per CPU-second
PROFILE = {"profile": "llama-3.1-8b_a100-80gb_tp1"}


def scenario(max_num_seqs: int = 256, latency: dict | None = None) -> dict:
    """One vLLM-V1 engine with ample memory; all work is done before the horizon."""
    return {
        "engine": {"num_gpu_blocks": 200_001, "max_num_seqs": max_num_seqs, "max_model_len": 8192},
        "latency": latency or PROFILE,
        "workload": {"rate": 1.0},
        "episode": {"duration": 1e9},
    }


def arrivals(
    count: int, rate: float, seed: int, prompt: int = 200, output: int = 200
) -> np.ndarray:
    """Poisson arrivals with exponential lengths, ARRIVAL (count,)."""
    draw = np.random.default_rng(seed)
    table = np.zeros(count, ARRIVAL)
    table["arrival"] = np.cumsum(draw.exponential(1.0 / rate, count))
    table["prompt"] = np.clip(draw.exponential(prompt, count), 1, 4000).astype(np.int32)
    table["output"] = np.clip(draw.exponential(output, count), 1, 4000).astype(np.int32)
    table["predicted"] = np.nan
    return table


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def simulated(count: int, rate: float, seed: int, policy: str = "vllm", **settings) -> dict:
    """Simulate and time one run, its set-up not counted."""
    simulator = sgym.Simulator(
        scenario(**settings), 0, policy, arrivals(count, rate, seed), track=False
    )
    seconds = cpu_seconds(simulator.run)
    state = simulator.state
    iterations = int(state.cluster[0]["iterations"])
    instance = state.instances[0]
    return {
        "iterations_per_cpu_s": iterations / seconds,
        "us_per_request": seconds / count * 1e6,
        "mean_batch": instance["running_time"] / instance["busy_time"],
        "iterations": iterations,
    }


def batch_rows(repeats: int, count: int) -> list[dict]:
    """Iterations per CPU-second over the mean batch."""
    rows = []
    for name, latency in (
        ("measured tables", PROFILE),
        ("a line", {"linear": {"iteration": 0.0125}}),
    ):
        for rate in (1.5, 6.2, 18.0, 24.0):
            runs = [simulated(count, rate, seed, latency=latency) for seed in range(repeats)]
            rows.append(row(f"iterations, {name}", runs, "iterations_per_cpu_s"))
    return rows


def row(name: str, runs: list[dict], column: str, **more) -> dict:
    """Mean and interval of one column over repeated runs."""
    found = mean_interval([run[column] for run in runs])
    batch = float(np.mean([run["mean_batch"] for run in runs]))
    return {
        "benchmark": name,
        "mean_batch": round(batch, 1),
        "unit": column,
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "repeats": len(runs),
    } | more


def cluster_rows(repeats: int, sizes: tuple[int, ...], count: int) -> list[dict]:
    """Iterations per CPU-second of clusters behind a router, at the same load per instance."""
    rows = []
    for size in sizes:
        runs = []
        for seed in range(repeats):
            given = scenario() | {"cluster": {"instances": size, "router": "least_outstanding"}}
            table = arrivals(count * size, 6.2 * size, seed)
            simulator = sgym.Simulator(given, 0, "vllm", table, track=False)
            seconds = cpu_seconds(simulator.run)
            state = simulator.state
            busy = state.instances["busy_time"].sum()
            runs.append(
                {
                    "iterations_per_cpu_s": int(state.cluster[0]["iterations"]) / seconds,
                    "mean_batch": state.instances["running_time"].sum() / busy,
                }
            )
        rows.append(row("iterations, cluster", runs, "iterations_per_cpu_s", instances=size))
    return rows


def size_rows(repeats: int, sizes: tuple[int, ...]) -> list[dict]:
    """Cost per request over their number, at the same load."""
    return [
        row(
            "cost per request",
            [simulated(size, 5.0, seed) for seed in range(repeats)],
            "us_per_request",
            requests=size,
            bytes_per_request=REQUEST.itemsize + LINK.itemsize + EVENT.itemsize,
        )
        for size in sizes
    ]


def queue_rows(repeats: int, sizes: tuple[int, ...]) -> list[dict]:
    """Cost per request when all of them wait from the start: the queue is as long as that."""
    rows = []
    for policy in ("vllm", "spf"):
        for size in sizes:
            runs = [simulated(size, 1e6, seed, policy, max_num_seqs=64) for seed in range(repeats)]
            rows.append(row(f"all wait at once, {policy}", runs, "us_per_request", requests=size))
    return rows


def dry_rows(repeats: int, sizes: tuple[int, ...], steps: int = 3_000) -> list[dict]:
    """Cost of an iteration and of the reward after it, over the readers who are overdue."""
    rows = []
    for size in sizes:
        runs = []
        for seed in range(repeats):
            table = arrivals(size, 1e9, seed)
            table["output"] = 4_000
            simulator = sgym.Simulator(scenario(max_num_seqs=32), seed, "vllm", table)
            for _ in range(500):
                simulator.step()
            state, cluster = simulator.state, simulator.state.cluster[0]
            start = time.process_time()
            for _ in range(steps):
                engine.iterate(state)
                engine.advance(state)
                metric.value(state.requests, state.instances, cluster, state.dry, cluster["clock"])
            passed = time.process_time() - start
            runs.append({"us_per_step": passed / steps * 1e6, "mean_batch": 32.0})
        rows.append(row("step with its reward", runs, "us_per_step", dry=int(cluster["accruing"])))
    return rows


def beside_rows(repeats: int, count: int) -> list[dict]:
    """The oracle on the same requests, and a step of Gymnasium's CartPole, in this process."""
    runs = [oracle_run(arrivals(count, 5.0, seed)) for seed in range(repeats)]
    rows = [row("iterations, oracle in plain Python", runs, "iterations_per_cpu_s")]
    env = gym.make("CartPole-v1")
    env.action_space.seed(0)
    steps = []
    for seed in range(repeats):
        env.reset(seed=seed)
        start = time.process_time()
        for _ in range(20_000):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        steps.append(
            {"steps_per_cpu_s": 20_000 / (time.process_time() - start), "mean_batch": float("nan")}
        )
    rows.append(row("CartPole-v1, single env", steps, "steps_per_cpu_s"))
    return rows


def oracle_run(table: np.ndarray) -> dict:
    """The same engine and requests in plain Python, at iterations of 12.5 ms."""
    requests = [
        oracle.Request(r, float(one["arrival"]), int(one["prompt"]), int(one["output"]))
        for r, one in enumerate(table)
    ]
    engine = oracle.Engine(num_gpu_blocks=200_001, max_model_len=8192, latency=(0.0125, 0, 0, 0))
    simulation = oracle.Simulation(requests, engine)
    seconds = cpu_seconds(simulation.run)
    running = [one.num_running for one in simulation.log]
    return {
        "iterations_per_cpu_s": len(simulation.log) / seconds,
        "mean_batch": float(np.mean(running)),
    }


def start_up_rows() -> list[dict]:
    """CPU seconds until the first simulation is done, in a new process: cold and warm cache."""
    program = (
        "import time; start=time.process_time(); import sgym; import gymnasium;"
        "sgym.simulate('tiny', 'vllm'); print(time.process_time()-start);"
        "env=gymnasium.make('sgym/Colocated-v0', action='knobs'); env.reset(seed=0);"
        "print(time.process_time()-start)"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold (nothing is compiled yet)", "warm (compiled before)"):
            done = subprocess.run(
                [sys.executable, "-c", program],
                env=os.environ | {"NUMBA_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            for what, seconds in zip(
                ("", ", an environment too"), done.stdout.split(), strict=True
            ):
                label = f"start, {name}{what}"
                rows.append(
                    {"benchmark": label, "unit": "cpu_s", "mean": float(seconds), "repeats": 1}
                )
    return rows


def draw(table: pd.DataFrame, path: Path) -> None:
    """Iterations per CPU-second over the batch beside the targets; cost over number and queue."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, part in table[table["unit"] == "iterations_per_cpu_s"].groupby("benchmark"):
        if name == "iterations, cluster":
            continue  # one batch: in the table
        part = part.sort_values("mean_batch")
        spread = [part["mean"] - part["low"], part["high"] - part["mean"]]
        left.errorbar(part["mean_batch"], part["mean"], spread, marker="o", label=name)
    left.plot(*zip(*TARGETS, strict=True), "k_", markersize=18, label="targets")
    left.set(xscale="log", yscale="log", xlabel="mean batch (requests)")
    left.set_title("engine iterations per CPU-second")
    left.legend(fontsize=8)
    for name, part in table[table["unit"] == "us_per_request"].groupby("benchmark"):
        spread = [part["mean"] - part["low"], part["high"] - part["mean"]]
        right.errorbar(part["requests"], part["mean"], spread, marker="o", label=name)
    right.set(xscale="log", ylim=(0, None), xlabel="requests")
    right.set_title("CPU microseconds per request")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run all benchmarks, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: only checks that it runs"
    )
    chosen = parser.parse_args()
    sizes = (1_000, 2_000) if chosen.quick else (10_000, 100_000, 1_000_000)
    queues = (1_000, 2_000) if chosen.quick else (1_000, 10_000, 100_000)
    clusters = (1, 8) if chosen.quick else (1, 8, 64, 256)
    dry = (200, 1_000) if chosen.quick else (200, 1_000, 10_000, 100_000)
    count = 500 if chosen.quick else 10_000
    simulated(100, 5.0, 0)  # compile
    parts: list[Callable[[], list[dict]]] = [
        lambda: batch_rows(chosen.repeats, count),
        lambda: cluster_rows(chosen.repeats, clusters, max(50, count // 20)),
        lambda: size_rows(chosen.repeats, sizes),
        lambda: queue_rows(chosen.repeats, queues),
        lambda: dry_rows(chosen.repeats, dry),
        lambda: beside_rows(chosen.repeats, max(50, count // 100)),
        start_up_rows,
    ]
    rows = [found for part in track(parts, "benchmarks") for found in part()]
    table = pd.DataFrame(rows)
    chosen.out.mkdir(parents=True, exist_ok=True)
    temporary = chosen.out / "speed.csv.part"
    table.to_csv(temporary, index=False)
    temporary.replace(chosen.out / "speed.csv")
    draw(table, chosen.out / "speed.png")
    Console(width=160).print(table.to_string(index=False, float_format=lambda x: f"{x:,.4g}"))
    oracle_rate = table.loc[table["benchmark"].str.contains("oracle"), "mean"].iloc[0]
    core = table[table["benchmark"] == "iterations, measured tables"]
    ratios = {
        f"batch {b:.0f}": m / oracle_rate
        for b, m in zip(core["mean_batch"], core["mean"], strict=True)
    }
    print("iterations per CPU-second as a multiple of the oracle's:", json.dumps(ratios))


if __name__ == "__main__":
    main()
