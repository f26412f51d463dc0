"""Simulate published serving runs of real vLLM and compare mean ITL, TTFT and E2E."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sgym.config import Engine, Scenario
from sgym.core.layout import ARRIVAL
from sgym.loading import load_scenario
from sgym.profiles import load, profile_name
from sgym.simulator import Simulator

# As in the source's published profile of this workload: stages of 600 s, in which 9 system prompts
# with 5 questions each come again and again.
SECONDS = 600.0
PROMPTS = 45
BLOCK = 16  # tokens
FIT_WORKLOAD = ("Llama-3.1-8B", (2.5, 8.0))  # the row of each GPU on which constants are fitted


@dataclass(frozen=True)
class Run:
    """One measured stage: constant-rate arrivals of equal requests. Times in milliseconds."""

    model: str
    gpu: str
    rate: float  # requests per second
    prompt: int  # tokens
    output: int  # tokens
    ttft: float
    itl: float
    e2e: float
    cached: int  # prompt tokens found in the prefix cache

    @property
    def fits(self) -> bool:
        """Whether the constants of this GPU are fitted on this row."""
        return self.model == FIT_WORKLOAD[0] and self.rate in FIT_WORKLOAD[1]

    @property
    def counted(self) -> float:
        """Tokens that the source counted per request: its ITL is E2E over these.

        About 248 for Qwen3-14B, about 240 for Llama-3.1-8B, whose output text has fewer tokens
        when it is tokenized again than were generated.
        """
        return self.e2e / self.itl


@dataclass(frozen=True)
class Constants:
    """What is fitted, per GPU."""

    overhead: float  # seconds per iteration
    first_token: float  # ms before the first token: HTTP, tokenizer, queues between processes
    counted: float  # tokens counted per request of the fitted model


def read_runs(path: Path, cached: int | None = None) -> list[Run]:
    """The rows of vllm0.15.1_serving.csv.

    Args:
        path: the file.
        cached: prompt tokens in the prefix cache; none = all whole blocks before the last token,
            as the same prompts come again and again.
    """
    table = pd.read_csv(path)
    return [
        Run(
            row.model.removesuffix("-Instruct"),
            row.gpu,
            float(row.rate_rps_inferred),
            int(row.prompt_tokens),
            int(row.output_tokens),
            float(row.ttft_mean_ms),
            float(row.itl_mean_ms),
            float(row.e2e_mean_ms),
            (int(row.prompt_tokens) - 1) // BLOCK * BLOCK if cached is None else cached,
        )
        for row in table.itertuples()
    ]


def simulate_run(run: Run, overhead: float) -> tuple[float, float]:
    """Mean TTFT without constants, and mean time from first to last token, both in ms.

    vLLM 0.15 schedules asynchronously: when a request arrives, the next iteration is already
    planned, so its first token comes one iteration later than in the simulator, which decides in
    between.
    """
    cluster = {"gpu": run.gpu, "model": run.model}
    blocks = load(profile_name(run.model, run.gpu, 1)).blocks(Engine())
    scenario = load_scenario(
        {
            "cluster": cluster,
            "engine": {"num_gpu_blocks": blocks - PROMPTS * run.cached // BLOCK},
            "latency": {"overhead": overhead},
            "workload": {"rate": run.rate},
            "episode": {"duration": 2 * SECONDS},
        }
    )
    arrivals = np.zeros(int(run.rate * SECONDS), ARRIVAL)
    arrivals["arrival"] = np.arange(len(arrivals)) / run.rate
    arrivals["prompt"], arrivals["output"] = run.prompt - run.cached, run.output
    arrivals["predicted"] = np.nan
    requests = _finished(scenario, arrivals, run.cached)
    ttft = float((requests["first_token"] - requests["arrival"]).mean())
    stream = float((requests["finish"] - requests["first_token"]).mean())
    return (ttft + stream / (run.output - 1)) * 1e3, stream * 1e3


def _finished(scenario: Scenario, arrivals: np.ndarray, shared: int = 0) -> np.ndarray:
    """Requests after a simulation in which `shared` tokens of every prompt are cached already.

    The cached tokens are neither computed nor stored again, but attention reads them: the axes of
    both attention tables are shifted by them.
    """
    simulator = Simulator(scenario, arrivals=arrivals, track=False)
    simulator.state.latency["prefix"] -= shared
    simulator.state.latency["context"] -= shared
    requests = simulator.run().state.requests
    unfinished = int(np.isnan(requests["finish"]).sum())
    if unfinished:
        raise RuntimeError(f"{unfinished} of {len(requests)} requests did not finish")
    return requests


def fit(run: Run) -> Constants:
    """The overhead at which one run's time between tokens comes out, and its TTFT constant."""
    target = run.e2e - run.ttft
    low, high = 0.0, 5e-3
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if simulate_run(run, middle)[1] < target else (low, middle)
    overhead = round(low, 5)
    return Constants(overhead, run.ttft - simulate_run(run, overhead)[0], run.counted)


def compare(runs: list[Run], constants: dict[str, Constants]) -> pd.DataFrame:
    """Measured and simulated means of every run; errors relative to the measurement."""
    rows = []
    for run in runs:
        own = constants[run.gpu]
        counted = own.counted if run.model == FIT_WORKLOAD[0] else run.output
        ttft, stream = simulate_run(run, own.overhead)
        e2e = ttft + own.first_token + stream
        rows.append(_row(run, e2e / counted, ttft + own.first_token, e2e))
    return pd.DataFrame(rows)


def _row(run: Run, itl: float, ttft: float, e2e: float) -> dict[str, object]:
    return {
        "model": run.model,
        "gpu": run.gpu,
        "rate_rps": run.rate,
        "fitted_here": run.fits,
        "itl_ms": round(run.itl, 2),
        "itl_sim_ms": round(itl, 2),
        "itl_error": round(itl / run.itl - 1, 4),
        "ttft_ms": round(run.ttft, 2),
        "ttft_sim_ms": round(ttft, 2),
        "ttft_error": round(ttft / run.ttft - 1, 4),
        "e2e_ms": round(run.e2e, 1),
        "e2e_sim_ms": round(e2e, 1),
        "e2e_error": round(e2e / run.e2e - 1, 4),
    }


def compare_rtx4090(folder: Path) -> dict[str, object]:
    """The per-request run on an RTX 4090, nothing fitted: one row as in `compare`."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    lines = (folder / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    real = pd.DataFrame([json.loads(line) for line in lines]).sort_values("queued_ts")
    engine = meta["engine_kwargs"]
    scenario = load_scenario(
        {
            "cluster": {"gpu": "RTX4090", "model": "Llama-3.1-8B"},
            "engine": {
                "num_gpu_blocks": meta["kv_cache"]["num_gpu_blocks"],
                "max_num_seqs": engine["max_num_seqs"],
                "max_num_batched_tokens": engine["max_num_batched_tokens"],
            },
            "latency": {"profile": profile_name("Llama-3.1-8B", "RTX4090", 1)},
            "workload": {"rate": 10.0},
            "episode": {"duration": 3600.0},
        }
    )
    arrivals = np.zeros(len(real), ARRIVAL)
    arrivals["arrival"] = real["queued_ts"] - real["queued_ts"].min()
    arrivals["prompt"], arrivals["output"] = real["input_toks"], real["output_toks"]
    arrivals["predicted"] = np.nan
    requests = _finished(scenario, arrivals)
    run = Run(
        "Llama-3.1-8B",
        "RTX4090",
        10.0,
        int(real["input_toks"].mean()),
        int(real["output_toks"].mean()),
        1e3 * float((real["first_token_ts"] - real["queued_ts"]).mean()),
        1e3 * _per_token(real["last_token_ts"] - real["first_token_ts"], real["output_toks"]),
        1e3 * float((real["last_token_ts"] - real["queued_ts"]).mean()),
        cached=0,
    )
    itl = 1e3 * _per_token(requests["finish"] - requests["first_token"], requests["output"])
    ttft = 1e3 * float((requests["first_token"] - requests["arrival"]).mean())
    return _row(run, itl, ttft, 1e3 * float((requests["finish"] - requests["arrival"]).mean()))


def _per_token(
    stream: "np.ndarray | pd.Series[float]", output: "np.ndarray | pd.Series[int]"
) -> float:
    return float(np.mean(np.asarray(stream) / (np.asarray(output) - 1)))
