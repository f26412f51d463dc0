"""The oracle itself: it repeats what the real vLLM scheduler did, decision for decision."""

import gzip
import json
from pathlib import Path
from typing import Any

import oracle
import pytest

RUNS = [
    f"{name}{variant}"
    for name in ("small", "pressure", "longprompt")
    for variant in ("", ".noreserve", ".longthresh256")
]


FOLDER = Path(__file__).parent / "data" / "vllm_reference"


def load(name: str) -> dict[str, Any]:
    with gzip.open(FOLDER / f"{name}.json.gz", "rt") as file:
        return json.load(file)


def simulate(record: dict[str, Any]) -> oracle.Simulation:
    config, line = record["config"], record["config"]["latency"]
    engine = oracle.Engine(
        max_num_seqs=config["max_num_seqs"],
        max_num_batched_tokens=config["max_num_batched_tokens"],
        max_model_len=config["max_model_len"],
        block_size=config["block_size"],
        num_gpu_blocks=config["num_blocks"],
        long_prefill_token_threshold=config.get("long_prefill_token_threshold", 0),
        scheduler_reserve_full_isl=config.get("reserve_full_isl", True),
        latency=(line["a"], line["b"], line["c"], line["d"]),
    )
    requests = [
        oracle.Request(index, row["arrival"], row["prompt"], row["output"], row["priority"])
        for index, row in enumerate(record["requests"])
    ]
    return oracle.Simulation(requests, engine).run()


@pytest.mark.parametrize("name", RUNS)
def test_oracle_reproduces_real_vllm(name: str) -> None:
    record = load(name)
    ids = [row["id"] for row in record["requests"]]
    run = simulate(record)
    assert len(run.log) == len(record["iterations"])
    for ours, real in zip(run.log, record["iterations"], strict=True):
        assert [(ids[r], n, before) for r, n, before in ours.batch] == [
            (r, n, before) for r, n, before, _ in real["batch"]
        ]
        assert [ids[r] for r in ours.victims] == real["preempted"]
        assert ours.free_blocks == real["free_blocks"]
        assert (ours.num_running, ours.num_waiting) == (real["n_running"], real["n_waiting"])
        assert ours.prefill_tokens == real["prefill_tokens"]
        assert ours.decode_seqs == real["decode_seqs"]
        assert ours.kv_tokens == real["total_kv_tokens"]
        assert abs(ours.start - real["t"]) <= 1e-9
        assert abs(ours.duration - real["dt"]) <= 1e-12
    for ours, real in zip(run.requests, record["requests"], strict=True):
        assert ours.preemptions == real["preemptions"]
        assert ours.tokens == pytest.approx(real["tokens"], rel=0, abs=1e-9)
