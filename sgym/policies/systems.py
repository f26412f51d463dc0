"""The entries of systems that decide over a whole cluster: routers, hand-off and migration.

A system brings its own router and rule of hand-off; the scenario's are not used. What it compares
is up to date, whatever `cluster.staleness` says. All but distserve run the engine of the scenario.
"""

from sgym.policies import rules
from sgym.policies.builtin import Builtin

TARGETS = {"ttft_target": 2.0, "tpot_target": 0.1}
"""Seconds until the first token, and per output token, that a system aims at: those of the
scenario's `slo.ttft` and `slo.tpot`, unless `policy` says otherwise."""

SYSTEMS: dict[str, Builtin] = {
    "distserve": Builtin(
        "DistServe: whole prompts here, decoding there, which pulls what it has room for",
        "LLMServe/DistServe 82831f1, decoding_stage_scheduler.py (OSDI 2024)",
        system=rules.DISTSERVE,
        router="least_outstanding",
        handoff="least_outstanding",
        disaggregated=True,
        engine={
            "former": "vllm_v0",
            "scheduling_policy": "fcfs",
            "enable_chunked_prefill": False,
            "preemption_mode": "swap",
        },
        parameters={"prefill_batch": 2048.0, "waiting_share": 0.05},
        simplified="V0's batches; what a decode instance pulls is bounded by what is being sent; "
        "no search for the number of instances",
    ),
    "splitwise": Builtin(
        "Splitwise: pools for prompts and tokens, and a mixed one that borrows from both",
        "Mutinifni/splitwise-sim 8f99e7d, scheduler.py, MixedPoolScheduler (ISCA 2024)",
        system=rules.SPLITWISE,
        disaggregated=True,
        parameters={"max_pending": 8192.0},
        simplified="the engine's own batches; who decodes is decided after the prefill, by memory "
        "needed so far; what a mixed machine prefills it decodes",
    ),
    "conditional": Builtin(
        "conditional disaggregation: short prompts are prefilled where they decode",
        "ai-dynamo/dynamo, lib/llm/src/disagg_router.rs",
        system=rules.CONDITIONAL,
        handoff="least_kv",
        disaggregated=True,
        parameters={"max_local_prefill": 1000.0},
        simplified="no limit on the queue of prefill instances",
    ),
    "mooncake": Builtin(
        "Mooncake: earliest first token, and early rejection of what would miss its targets",
        "Mooncake (FAST 2025), Algorithm 1 and section 7, by notes on it: the code is not public",
        system=rules.MOONCAKE,
        disaggregated=True,
        parameters={**TARGETS, "rejection": 1.0, "decode_time": 10.0},
        choices={"rejection": ("never", "early", "predicted")},
        simplified="cached KV is not sent from one prefill instance to another, and a long prompt "
        "is not split over several; memory counts as a load of decoding",
    ),
    "arrow": Builtin(
        "Arrow: roles of instances change when one phase would miss its target",
        "arXiv 2505.11916 as in athrael-soju/Narwhal 8dea4fc, scheduler.py",
        system=rules.ARROW,
        disaggregated=True,
        parameters={
            **TARGETS,
            "expand": 1.0,
            "shrink": 0.5,
            "interval": 1.0,
            "sustained": 3.0,
            "cooldown": 10.0,
        },
        simplified="time between tokens is that of the latest iteration, not a mean over time",
    ),
    "llumnix": Builtin(
        "Llumnix: routes to free memory, and moves running requests there while they decode",
        "AlibabaPAI/llumnix 24220fb, load_computation.py, migration_policy.py (OSDI 2024)",
        system=rules.LLUMNIX,
        migration=1,
        parameters={"poll": 0.05, "threshold": 3.0, "pairing": 0.0, "moves": 0.0},
        choices={"pairing": ("defrag", "balanced"), "moves": ("shortest", "longest", "last")},
        simplified="no priorities, no scaling; instances are seen as they are, not as last polled",
    ),
    "no-migration": Builtin(
        "llumnix without migration: routes to free memory",
        "AlibabaPAI/llumnix 24220fb, dispatch_policy.py",
        system=rules.LLUMNIX,
        simplified="as llumnix",
    ),
}
