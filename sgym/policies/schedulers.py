"""The entries of schedulers: what each is, where it comes from, what is simplified."""

from sgym.policies import kinds
from sgym.policies.builtin import Builtin

ORDERS = {"reservation": 0.0, "expected_output": 256.0}
"""Every ordering policy can keep blocks free for what the running requests will still generate."""

SCHEDULERS: dict[str, Builtin] = {
    "stock": Builtin(
        "the engine that the scenario describes, as it is",
        "project",
    ),
    "vllm": Builtin(
        "vLLM's V1 engine: running requests first, then waiting ones first come first served",
        "vllm 0.33.0, v1/core/sched/scheduler.py",
        engine={"former": "vllm_v1", "scheduling_policy": "fcfs"},
        simplified="prefix caching and async scheduling only if the scenario sets them",
    ),
    "vllm-priority": Builtin(
        "vLLM's V1 engine under --scheduling-policy priority: order and victims by priority",
        "vllm 0.33.0, v1/core/sched/scheduler.py",
        engine={"former": "vllm_v1", "scheduling_policy": "priority"},
        simplified="prefix caching and async scheduling only if the scenario sets them",
    ),
    "vllm-v0": Builtin(
        "vLLM's V0 engine: prefill-only iterations go before decode-only ones",
        "vllm 0.6.6, core/scheduler.py",
        engine={"former": "vllm_v0", "scheduling_policy": "fcfs", "enable_chunked_prefill": False},
        simplified="preemption by recompute unless the scenario sets swap",
    ),
    "sarathi": Builtin(
        "Sarathi-Serve: decodes first, prompts in chunks that fill the budget (OSDI 2024)",
        "microsoft/sarathi-serve 96f9911, sarathi_scheduler.py",
        engine={"former": "sarathi", "scheduling_policy": "fcfs", "max_num_batched_tokens": 512},
        simplified="a fixed chunk size of max_num_batched_tokens, 512 as in its source",
    ),
    "sglang": Builtin(
        "SGLang: prefill first, one chunked request, memory reserved for a share of what may come",
        "sglang 0.5.23, srt/managers/schedule_policy.py, scheduler.py, schedule_batch.py",
        engine={"former": "sglang", "scheduling_policy": "fcfs"},
        simplified="no radix cache and no overlap; the page is block_size; clients set no limit on "
        "the output, so max_new_tokens is what the context leaves; max_prefill_tokens never binds; "
        "a chunk takes no more than is free; a request alone is let in if its known tokens fit; "
        "where the last decode does not fit, the chunked request is retracted",
    ),
    "orca": Builtin(
        "Orca: iteration-level batching with KV reserved for the longest output (OSDI 2022)",
        "microsoft/sarathi-serve 96f9911, orca_scheduler.py",
        engine={"former": "orca", "scheduling_policy": "fcfs"},
        simplified="nothing",
    ),
    "spf": Builtin(
        "shortest prompt first, with aging; keeps KV free for what running requests will generate",
        "project; the baseline to beat in colocated serving",
        kinds.SPF,
        parameters={"aging": 20.0, "reservation": 0.2, "expected_output": 256.0},
    ),
    "sjf": Builtin(
        "shortest job first by predicted output (and prompt) length",
        "learning-to-rank family, arXiv 2408.15792",
        kinds.SJF,
        parameters={"aging": 0.0, "prompt_weight": 0.0, "output_weight": 1.0, **ORDERS},
        simplified="not preemptive; without a prediction, the mean length",
    ),
    "srpt": Builtin(
        "shortest remaining processing time by predicted output length, also for victims",
        "Schrage 1968; hao-ai-lab/vllm-ltr 13bbf6f",
        kinds.SRPT,
        parameters={"aging": 0.0, **ORDERS},
        simplified="preempts only when memory is short",
    ),
    "edf": Builtin(
        "earliest due token first, for admission and for victims",
        "Liu and Layland 1973, on the token deadlines of arXiv 2410.14257",
        kinds.EDF,
        parameters=dict(ORDERS),
    ),
    "llf": Builtin(
        "least laxity first: slack until the reader runs dry, less the prefill still to do",
        "Mok 1983, on the token deadlines of arXiv 2410.14257",
        kinds.LLF,
        parameters={"prefill_time": 1e-4, **ORDERS},
    ),
    "slack-victim": Builtin(
        "first come first served, but the request with the largest slack is preempted first",
        "project",
        kinds.SLACK_VICTIM,
        parameters=dict(ORDERS),
    ),
    "vtc": Builtin(
        "virtual token counter: the client that was served least goes first (OSDI 2024)",
        "Ying1123/VTC-artifact 192c2e2, vtc_req_queue.py",
        kinds.VTC,
        parameters={"prompt_weight": 1.0, "output_weight": 2.0},
        simplified="the engine's own admission test; O(waiting) per iteration",
    ),
    "ltr": Builtin(
        "learning to rank: all requests in the order of their predicted lengths, in each iteration",
        "hao-ai-lab/vllm-ltr 13bbf6f, core/scheduler.py (NeurIPS 2024)",
        kinds.LTR,
        engine={"former": "vllm_v1", "scheduling_policy": "fcfs", "preemption_mode": "swap"},
        parameters={"starvation": 200.0, "period": 10.0, **ORDERS},
        simplified="the prediction in place of the ranking model's score; a running request behind "
        "a picked one keeps its tokens while memory and seats last, and is evicted only where that "
        "one then fits",
    ),
    "slack-chunk": Builtin(
        "chunks of prefill as large as the most urgent reader can wait; earliest deadline with the "
        "work to do first, the hopeless last",
        "family of Niyama (arXiv 2503.22562), SOLA (MLSys 2025) and SLOs-Serve (arXiv 2504.08784), "
        "none of which has public source",
        kinds.SLACK_CHUNK,
        engine={"former": "vllm_v1", "scheduling_policy": "fcfs"},
        parameters={"prompt_weight": 1.0, "floor": 64.0},
        simplified="deadlines of the metric; iteration times from the instance's own latency "
        "tables; readers that no chunk could save do not limit it; never less than `floor` tokens",
    ),
    "andes": Builtin(
        "Andes: under memory pressure a knapsack of whom to serve by gain in QoE per KV block",
        "AmberLJC/vllm 1991203, core/andes_utils (arXiv 2404.16283)",
        kinds.ANDES,
        engine={"former": "vllm_v0", "scheduling_policy": "fcfs", "enable_chunked_prefill": False},
        parameters={"period": 10.0, "pressure": 0.9, "horizon": 50.0, "token_latency": 0.1},
        simplified="V0's watermark of 1 % also for those picked",
    ),
    "andes-smooth": Builtin(
        "Andes' knapsack, with what the next `horizon` tokens gain in smooth goodput as the value, "
        "and the time that an eviction costs all others",
        "project, after arXiv 2404.16283",
        kinds.ANDES_SMOOTH,
        engine={"former": "vllm_v0", "scheduling_policy": "fcfs", "enable_chunked_prefill": False},
        parameters={"period": 10.0, "pressure": 0.9, "horizon": 50.0},
        simplified="the present pace of decoding is assumed to last",
    ),
    "lightllm-pf": Builtin(
        "LightLLM's past-future admission: let in whose sampled peak of memory still fits",
        "ModelTC/lightllm 26329d33, router/req_queue.py (ASPLOS 2025)",
        kinds.PAST_FUTURE,
        engine={"former": "vllm_v1", "scheduling_policy": "fcfs"},
        parameters={"pressure": 0.95, "expected_output": 1024.0},
        simplified="vLLM's token budget in place of batch_max_tokens, and chunks in one batch with "
        "decodes; a request alone is always let in; one history for all instances, which learns a "
        "length when the last token is scheduled; clients set no limit on the output",
    ),
    "fastserve": Builtin(
        "FastServe: a skip-join multi-level feedback queue with proactive swapping",
        "LLMServe/FastServe 187a274, fastserve/scheduler.py (arXiv 2305.05920)",
        kinds.FASTSERVE,
        engine={
            "former": "vllm_v0",
            "scheduling_policy": "fcfs",
            "enable_chunked_prefill": False,
            "preemption_mode": "swap",
            "swap_overlap": True,
        },
        parameters={
            "quantum": 0.01,
            "starvation": 3.0,
            "period": 1000.0,
            "batch": 16.0,
            "prompt_tokens": 2048.0,
        },
        simplified="prompts and decodes in separate iterations, and swapped requests come back "
        "before prompts start, as in vLLM V0; no more are on the GPU than the engine has seats; a "
        "single prompt may be longer than `prompt_tokens`; a batch in which swapped requests come "
        "back may decode as many others; the reserve evicts nobody who was picked",
    ),
    "random": Builtin(
        "waiting requests and victims in random order",
        "project",
        kinds.RANDOM,
        parameters=dict(ORDERS),
    ),
}
