"""The paper's models, workloads and engines as scenarios, and where the real trace lies."""

import os
from pathlib import Path
from typing import Any

from effects import READERS

from sgym.config import Scenario
from sgym.loading import load_scenario
from sgym.simulator import Result

MODELS = ("Llama-3.1-8B", "Qwen2.5-14B")
SHORT = {"Llama-3.1-8B": "8B", "Qwen2.5-14B": "14B"}
TRACE_FILE = "AzureLLMInferenceTrace_conv.csv"
TRACE = "Azure trace"
LONG_CONTEXT = 32_768  # Qwen2.5-14B's, and as far as the latency tables were measured
ROOM = 1_024  # tokens of the context that a long prompt leaves to its answer

LOOGLE = {"prompt": 21_180, "prompt_sigma": 0.5, "output": 64, "output_sigma": 1.0}
"""LooGLE (arXiv 2311.04939) says "over 24,000 tokens per document". A lognormal distribution with
that mean; its width, and answers of 106 tokens on average, are assumed. What does not fit the
context is drawn again, which leaves a mean of 18,800 tokens."""

WORKLOADS = {
    "ShareGPT": {"lengths": [{"dataset": "sharegpt"}]},
    "LooGLE-like": {
        "lengths": [LOOGLE],
        "max_prompt": LONG_CONTEXT - ROOM,
        "max_output": ROOM,
    },
    TRACE: {"format": "azure"},
}
CONTEXT = {"ShareGPT": 16_384, "LooGLE-like": LONG_CONTEXT, TRACE: 16_384}
NOMINAL = {
    ("Llama-3.1-8B", "ShareGPT"): 20.0,
    ("Llama-3.1-8B", "LooGLE-like"): 0.5,
    ("Llama-3.1-8B", TRACE): 9.5,
    ("Qwen2.5-14B", "ShareGPT"): 11.0,
    ("Qwen2.5-14B", "LooGLE-like"): 0.25,
    ("Qwen2.5-14B", TRACE): 5.0,
}
"""Requests per second, about where the chunked engine peaks. Scale of the rates only."""
FRACTIONS = tuple(round(0.1 * step, 1) for step in range(2, 15))  # of NOMINAL

ENGINES = {
    "prefill-first": "whole prompts, before any decode",
    "chunked": "chunks, 2,048 tokens per iteration",
    "chunked-512": "chunks, 512 tokens per iteration",
}
"""All are vLLM V0, so that the option alone differs. Without chunks vLLM needs a token budget of
the whole context; with chunks 512 was its default when they were new, 2,048 is today's here."""

MAIN = "chunked"  # the engine of which more is shown

KEPT = ("smooth_goodput", "throughput_tok_s", "goodput_tok_s", "slo_attainment")
"""Columns of the summary that become curves over the rate."""


def trace_path() -> Path | None:
    """The real trace, below $SGYM_DATA or ../shared/data beside the checkout; None without it."""
    given = os.environ.get("SGYM_DATA")
    data = Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "data"
    path = data / "traces" / TRACE_FILE
    return path if path.is_file() else None


def workloads() -> tuple[str, ...]:
    """Those that can be run here."""
    return tuple(name for name in WORKLOADS if name != TRACE or trace_path())


def engine_of(name: str, context: int) -> dict[str, Any]:
    """Settings of one of ENGINES."""
    if name == "prefill-first":
        return {"enable_chunked_prefill": False, "max_num_batched_tokens": context}
    return {"max_num_batched_tokens": 512 if name == "chunked-512" else 2048}


def scenario(model: str, workload: str, engine: str, duration: float) -> Scenario:
    """One model on one A100-80GB under a workload; the rate is set later."""
    requests = {"rate": 1.0, **WORKLOADS[workload]}
    if workload == TRACE:
        requests["trace"] = str(trace_path())
    context = CONTEXT[workload]
    return load_scenario(
        {
            "cluster": {"model": model, "gpu": "A100-80GB"},
            "engine": {
                "former": "vllm_v0",
                "max_model_len": context,
                **engine_of(engine, context),
            },
            "workload": requests,
            "slo": {"classes": [READERS["paper"]]},
            "episode": {"duration": duration},
        }
    )


def rates(model: str, workload: str, fractions: tuple[float, ...]) -> tuple[float, ...]:
    """Requests per second at fractions of the nominal rate."""
    return tuple(round(NOMINAL[model, workload] * fraction, 6) for fraction in fractions)


def sweep_columns(result: Result) -> dict[str, float]:
    """What is kept of a run in the sweep over the rate."""
    return {name: result.summary[name] for name in (*KEPT, "num_refused")}
