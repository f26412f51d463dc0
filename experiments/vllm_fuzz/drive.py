"""Drive the real vLLM 0.33.0 scheduler in simulated time; runs in the environment of setup.sh.

Reads cases as JSON, one per line, from standard input and answers each with a line: what the
scheduler decided in every iteration, and when each token came out. No model and no GPU: an
iteration takes a + b*prefill tokens + c*decoding sequences + d*KV entries seconds.
"""

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(
    CUDA_VISIBLE_DEVICES="", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1"
)

import torch
from steering import Steering, draw
from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 128,
    "max_position_embeddings": 131072,
    "torch_dtype": "float16",
}
"""A model in name only: the scheduler asks for its longest sequence and nothing else."""


def model_config(max_model_len: int) -> ModelConfig:
    """A ModelConfig from a local folder, without the hub and without a tokenizer."""
    folder = Path(tempfile.gettempdir()) / f"vllm_fuzz_{os.getpid()}"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(MODEL))
    return ModelConfig(
        model=str(folder),
        tokenizer=str(folder),
        skip_tokenizer_init=True,
        dtype="float16",
        max_model_len=max_model_len,
    )


def build_scheduler(
    config: dict[str, Any], kinds: tuple[type, type] = (Scheduler, AsyncScheduler)
) -> Scheduler:
    """A scheduler, the second kind of it where a case is async, under the case's limits."""
    ahead = config.get("async_scheduling", False)
    vllm_config = VllmConfig(
        scheduler_config=SchedulerConfig(
            max_num_seqs=config["max_num_seqs"],
            max_num_batched_tokens=config["max_num_batched_tokens"],
            max_model_len=config["max_model_len"],
            is_encoder_decoder=False,
            policy=config["scheduling_policy"],
            enable_chunked_prefill=config["enable_chunked_prefill"],
            long_prefill_token_threshold=config["long_prefill_token_threshold"],
            scheduler_reserve_full_isl=config["scheduler_reserve_full_isl"],
            watermark=config["watermark"],
            async_scheduling=ahead,
        ),
        model_config=model_config(config["max_model_len"]),
        cache_config=CacheConfig(
            block_size=config["block_size"],
            enable_prefix_caching=config.get("enable_prefix_caching", False),
        ),
        device_config=DeviceConfig("cpu"),
    )
    vllm_config.cache_config.num_gpu_blocks = config["num_blocks"]
    attention = FullAttentionSpec(
        block_size=config["block_size"], num_kv_heads=1, head_size=16, dtype=torch.float16
    )
    return kinds[ahead](
        vllm_config=vllm_config,
        kv_cache_config=KVCacheConfig(
            num_blocks=config["num_blocks"],
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(["layer"], attention)],
        ),
        structured_output_manager=StructuredOutputManager(vllm_config),
        block_size=config["block_size"],
    )


def build_request(number: int, row: dict[str, Any], case: dict[str, Any]) -> Request:
    """Request `number` of a case. Zero-padded ids: vLLM breaks ties by comparing them as text."""
    hasher = None
    if case["config"].get("enable_prefix_caching", False):
        hasher = get_request_block_hasher(case["config"]["block_size"], sha256)
    return Request(
        request_id=f"{number:06d}",
        prompt_token_ids=prompt_tokens(number, row, case.get("hash_block", 1)),
        block_hasher=hasher,
        sampling_params=SamplingParams(max_tokens=row["output"], ignore_eos=True),
        pooling_params=None,
        arrival_time=row["arrival"],
        priority=row["priority"],
    )


def prompt_tokens(number: int, row: dict[str, Any], hash_block: int) -> list[int]:
    """Equal numbers where prompts are equal; what no `hash_ids` describe is the request's own."""
    shared = [-2 - name for name in row.get("hash_ids", ()) for _ in range(hash_block)]
    own = [number] * max(row["prompt"] - len(shared), 0)
    return (shared + own)[: row["prompt"]]


class Drive:
    """One run of the scheduler over a case."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        init_none_hash(sha256)
        self.clock = 0.0
        self.scheduler = self.build()
        self.under_way: list[tuple[float, Any, Any]] = []  # end, output, sampled; oldest first
        self.depth = 2 if case["config"].get("async_scheduling", False) else 1
        self.block_pool = self.scheduler.kv_cache_manager.block_pool
        self.watermark_blocks = self.scheduler.kv_cache_manager.watermark_blocks
        self.pending = list(enumerate(case["requests"]))[::-1]
        self.tokens: list[list[float]] = [[] for _ in case["requests"]]
        self.preemptions = [0] * len(case["requests"])
        self.iterations: list[dict[str, Any]] = []
        self.victims: list[int] = []  # since the last iteration that ran
        self.made_room = False  # the newest schedule() preempted somebody
        self.calls = 0
        self.steering: Steering | None = None
        self.held: set[int] = set()  # preempted by the steering in force
        self.watch_preemptions()

    def build(self) -> Scheduler:
        """The scheduler under test."""
        return build_scheduler(self.case["config"])

    def watch_preemptions(self) -> None:
        """Note every victim in the order of preemption, whoever asked for it."""
        original = self.scheduler._preempt_request

        def noted(request: Request, *args: Any, **options: Any) -> None:
            self.victims.append(number_of(request))
            self.preemptions[number_of(request)] += 1
            self.made_room = True
            original(request, *args, **options)

        self.scheduler._preempt_request = noted

    def run(self) -> dict[str, Any]:
        """Serve every request of the case; returns all decisions."""
        horizon = self.case.get("horizon", math.inf)
        while self.pending or self.scheduler.requests:
            if not self.scheduler.requests:
                self.clock = max(self.clock, self.pending[-1][1]["arrival"])
            if self.clock > horizon:
                break
            while self.pending and self.pending[-1][1]["arrival"] <= self.clock:
                self.scheduler.add_request(self.request(*self.pending.pop()))
            output = self.schedule()
            executed = output.total_num_scheduled_tokens > 0
            if executed:
                self.execute(output)
                if len(self.under_way) < self.depth:
                    continue
            if self.under_way:  # the queue of batches is full, if by an empty one
                if self.under_way[0][0] > horizon:
                    break
                self.finish()
            elif not self.made_room:  # nothing will change before somebody arrives
                if not self.pending:
                    break
                self.clock = self.pending[-1][1]["arrival"]
        return {
            "seed": self.case["seed"],
            "iterations": self.iterations,
            "tokens": self.tokens,
            "preemptions": self.preemptions,
        }

    def request(self, number: int, row: dict[str, Any]) -> Request:
        """A request as the engine gives it to the scheduler."""
        return build_request(number, row, self.case)

    def schedule(self) -> Any:
        """Let the scheduler decide under the steering in force."""
        waiting = [number_of(r) for r in self.scheduler.waiting]
        running = [number_of(r) for r in self.scheduler.running]
        new = draw(self.case, self.calls, waiting, running)
        self.calls += 1
        if new is not None:
            self.sort()  # what the last one says holds up to here
            self.steering, self.held = new, set()
            for number in new.preempt:
                self.preempt(number)
            self.turn_knobs(new)
        self.made_room = False
        if self.steering is None:
            return self.scheduler.schedule()
        self.sort()
        return self.schedule_without_held(self.steering)

    def preempt(self, number: int) -> None:
        """Preempt a running request the way vLLM's own reset_prefix_cache does."""
        running = self.scheduler.running
        place = [number_of(r) for r in running].index(number)
        self.scheduler._preempt_request(running.pop(place), 0.0)
        self.held.add(number)

    def turn_knobs(self, steering: Steering) -> None:
        """Set the attributes that schedule() reads."""
        config, scheduler = self.case["config"], self.scheduler
        scheduler.max_num_scheduled_tokens = steering.token_budget
        scheduler.max_num_active_reqs = steering.active_cap
        caps = [config["long_prefill_token_threshold"], steering.chunk_cap]
        threshold = min((cap for cap in caps if cap > 0), default=0)
        scheduler.scheduler_config.long_prefill_token_threshold = threshold
        scheduler.kv_cache_manager.watermark_blocks = self.watermark_blocks + steering.reserve

    def sort(self) -> None:
        """Bring waiting (fcfs) and running into the order of the scores in force; stable."""
        if self.steering is None:
            return
        scheduler, scores = self.scheduler, self.steering
        scheduler.running.sort(key=lambda r: -scores.running_score.get(number_of(r), 0.0))
        if self.case["config"]["scheduling_policy"] == "fcfs":
            ordered = sorted(
                scheduler.waiting, key=lambda r: -scores.waiting_score.get(number_of(r), 0.0)
            )
            scheduler.waiting.clear()
            scheduler.waiting.extend(ordered)

    def schedule_without_held(self, steering: Steering) -> Any:
        """Keep held requests out of `waiting` during the call and put them back in their places."""
        scheduler = self.scheduler
        before = list(scheduler.waiting)
        held = [r for r in before if self.is_held(steering, number_of(r))]
        if len(held) == len(before) and not scheduler.running:
            held = []  # holds are ignored where nothing else is left
        for request in held:
            scheduler.waiting.remove_request(request)
        passed_over = scheduler.deferred_waiting & set(held)
        scheduler.deferred_waiting -= passed_over
        output = scheduler.schedule(throttle_prefills=steering.hold_prefill)
        scheduler.deferred_waiting |= passed_over
        if held:
            after = list(scheduler.waiting)
            stays = set(after) | set(held)
            order = [r for r in after if r not in before] + [r for r in before if r in stays]
            scheduler.waiting.remove_requests(after)
            for request in order:
                scheduler.waiting.add_request(request)
        return output

    def is_held(self, steering: Steering, number: int) -> bool:
        """Whether the steering in force keeps this waiting request from being admitted."""
        return number in self.held or steering.waiting_score.get(number, 0.0) == -math.inf

    def execute(self, output: Any) -> None:
        """Pretend to run the batch, behind the one under way if there is one."""
        scheduler, sampled, batch = self.scheduler, [], []
        prefills: list[tuple[int, int]] = []  # tokens, computed before
        decodes: list[int] = []  # KV entries
        for key, tokens in output.num_scheduled_tokens.items():
            request = scheduler.requests[key]
            before = request.num_computed_tokens - tokens
            samples = not request.is_prefill_chunk
            promised = request.num_output_placeholders  # this batch's own token included
            if self.depth == 2:
                promised -= samples
            known = request.num_tokens + promised
            if request.num_output_tokens + promised > 0 and before == known - 1:
                decodes.append(request.num_computed_tokens)
            else:
                prefills.append((tokens, before))
            batch.append([number_of(request), tokens, before])
            sampled.append([number_of(request)] if samples else [])
        duration = self.duration(prefills, decodes, sum(map(len, sampled)))
        start = self.under_way[-1][0] if self.under_way else self.clock
        self.iterations.append(
            {
                "t": start,
                "dt": duration,
                "batch": batch,
                "victims": self.victims,
                "n_running": len(scheduler.running),
                "n_waiting": len(scheduler.waiting),
                "free_blocks": self.block_pool.get_num_free_blocks(),
            }
        )
        self.victims = []
        self.under_way.append((start + duration, output, sampled))

    def duration(
        self,
        prefills: list[tuple[int, int]],
        decodes: list[int],
        num_sampled: int,  # noqa: ARG002  (for those who override it)
    ) -> float:
        """Seconds of a batch.

        Args:
            prefills: tokens and tokens computed before, of each chunk.
            decodes: KV entries of each decoding sequence.
            num_sampled: sequences that get a token.
        """
        line = self.case["config"]["latency"]
        prefill = sum(tokens for tokens, _ in prefills)
        entries = sum(tokens + before for tokens, before in prefills) + sum(decodes)
        return line["a"] + line["b"] * prefill + line["c"] * len(decodes) + line["d"] * entries

    def finish(self) -> None:
        """End the oldest batch under way and deliver its tokens."""
        self.clock, output, sampled = self.under_way.pop(0)
        keys = list(output.num_scheduled_tokens)
        for key, token in zip(keys, sampled, strict=True):
            if token:
                self.tokens[int(key)].append(self.clock)
        self.scheduler.update_from_output(
            output,
            ModelRunnerOutput(
                req_ids=keys,
                req_id_to_index={key: place for place, key in enumerate(keys)},
                sampled_token_ids=sampled,
            ),
        )


def number_of(request: Request) -> int:
    """Place of a request in the order of arrival."""
    return int(request.request_id)


def main() -> None:
    """Answer every case on standard input."""
    for line in sys.stdin:
        print(json.dumps(Drive(json.loads(line)).run()), flush=True)


if __name__ == "__main__":
    main()
