"""What is served: two models on one A100, three loads, prompts split or prefilled first."""

import os
from pathlib import Path
from typing import Any

import cells

from sgym.loading import load_scenario
from sgym.simulator import Result

MODELS = {"Llama-3.1-8B": "llama8b-a100", "Qwen2.5-14B": "qwen14b-a100"}
TRACE = "AzureLLMInferenceTrace_conv.csv"
LONG = [{"prompt": 21_180, "prompt_sigma": 0.5, "output": 150, "output_sigma": 0.6}]
"""LooGLE-like: lognormal prompts with the mean of LooGLE's documents, 24,000 tokens (arXiv
2311.04939), drawn again where they do not fit into the context; spread and answers are assumed."""
CONTEXT, LONG_CONTEXT = 16_384, 32_768
"""Tokens of prompt and output together; of long inputs."""
LONGEST = 31_744
"""Tokens of a long prompt, which leaves room for its answer."""
RATES: dict[tuple[str, str], tuple[float, ...]] = {
    ("Llama-3.1-8B", "ShareGPT"): (8, 11, 14, 16, 18, 20, 22, 25, 28, 32),
    ("Llama-3.1-8B", "long inputs"): (0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8),
    ("Llama-3.1-8B", "Azure's trace"): (4, 6, 7, 8, 9, 10, 11, 12, 14, 16),
    ("Qwen2.5-14B", "ShareGPT"): (4, 6, 8, 9, 10, 11, 12, 13, 15, 17),
    ("Qwen2.5-14B", "long inputs"): (0.05, 0.1, 0.15, 0.18, 0.2, 0.23, 0.26, 0.3, 0.35, 0.4),
    ("Qwen2.5-14B", "Azure's trace"): (2, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8),
}
"""Requests per second: from little load to well beyond the peak."""
ENGINES = {"chunked prefill": 2048, "prefill first": None}
"""vLLM V0, the engine of the paper, with its two ways to prefill -> tokens of an iteration; None =
the whole context, as prompts are not split."""
ALPHA = 2.5
HARD_TBT = 0.1
"""Seconds between tokens that a hard threshold allows, in finding (e)."""


def trace() -> Path | None:
    """Azure's conversations, if they are there: $SGYM_DATA/traces or ../shared/data/traces."""
    given = os.environ.get("SGYM_DATA")
    places = [Path(given)] if given else []
    places.append(Path(__file__).resolve().parents[3] / "shared" / "data")
    found = [file for place in places if (file := place / "traces" / TRACE).is_file()]
    return found[0] if found else None


def workloads() -> dict[str, dict[str, Any]]:
    """Name -> overrides."""
    found: dict[str, dict[str, Any]] = {
        "ShareGPT": {"workload.lengths": [{"dataset": "sharegpt"}]},
        "long inputs": {"workload.lengths": LONG, "workload.max_prompt": LONGEST},
    }
    file = trace()
    if file is not None:
        found["Azure's trace"] = {"workload.trace": str(file)}
    return found


def overrides(load: str, engine: str, duration: float) -> dict[str, Any]:
    """Changes of a scenario of `MODELS`."""
    context = LONG_CONTEXT if load == "long inputs" else CONTEXT
    tokens = ENGINES[engine]
    return {
        **workloads()[load],
        "engine.former": "vllm_v0",
        "engine.enable_chunked_prefill": tokens is not None,
        "engine.max_num_batched_tokens": tokens or context,
        "engine.max_model_len": context,
        "episode.duration": duration,
    }


def scenario_of(model: str, load: str, engine: str, duration: float, **more: Any) -> Any:
    """The scenario."""
    name = MODELS[model] + ("-azure" if load == "Azure's trace" else "-chat")
    return load_scenario(name, {**overrides(load, engine, duration), **more})


def keep(result: Result) -> dict[str, float]:
    """What is kept of a run: with tokens = A and waiting = B, smooth goodput is A - alpha B."""
    row = result.summary
    return {
        "smooth_goodput": row["smooth_goodput"],
        "throughput": row["throughput_tok_s"],
        "idle": (row["throughput_tok_s"] - row["smooth_goodput"]) / ALPHA,
        "slo_attainment": row["slo_attainment"],
        "goodput": row["goodput_tok_s"],
        "qoe": row["qoe_mean"],
    }


def sweep(duration: float, seeds: int, models: int) -> list[cells.Cell]:
    """Every load, engine and rate."""
    found = []
    for model in list(MODELS)[:models]:
        for load in workloads():
            for engine in ENGINES:
                scenario = scenario_of(model, load, engine, duration)
                labels = {"model": model, "load": load, "engine": engine}
                rates = RATES[model, load]
                found.append(cells.Cell(labels, scenario, "stock", rates, seeds))
    return found
