"""sgym's vllm_v1 repeats recorded runs of the real vLLM 0.33.0 scheduler, decision for decision."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgym.simulator import Result, simulate

FOLDER = Path(__file__).parent / "data" / "vllm_reference"
RUNS = [
    f"{name}{variant}"
    for name in ("small", "pressure", "longprompt")
    for variant in ("", ".noreserve", ".longthresh256", ".prefixcache", ".async")
]
SECONDS = 1e-9


@cache
def recorded(name: str) -> dict[str, Any]:
    """A recorded run, without the empty batches that async scheduling forms now and then.

    None of these preempted anybody.
    """
    with gzip.open(FOLDER / f"{name}.json.gz", "rt") as file:
        record = json.load(file)
    empty = [row for row in record["iterations"] if not row["batch"]]
    assert not any(row["preempted"] for row in empty)
    record["iterations"] = [row for row in record["iterations"] if row["batch"]]
    return record


@cache
def ours(name: str) -> Result:
    """The same requests under the same limits, simulated."""
    config = recorded(name)["config"]
    line = config["latency"]
    scenario = {
        "name": name,
        "engine": {
            "max_num_seqs": config["max_num_seqs"],
            "max_num_batched_tokens": config["max_num_batched_tokens"],
            "max_model_len": config["max_model_len"],
            "block_size": config["block_size"],
            "num_gpu_blocks": config["num_blocks"],
            "long_prefill_token_threshold": config.get("long_prefill_token_threshold", 0),
            "scheduler_reserve_full_isl": config.get("reserve_full_isl", True),
            "enable_prefix_caching": config.get("enable_prefix_caching", False),
            "async_scheduling": config["async_scheduling"],
        },
        "latency": {
            "linear": {
                "iteration": line["a"],
                "prefill_token": line["b"],
                "decode_seq": line["c"],
                "context_token": line["d"],
            }
        },
        "workload": {"rate": 1.0},
        "episode": {"duration": 1000.0},
    }
    log = ("tokens", "iterations", "batches")
    return simulate(scenario, arrivals=recorded(name)["requests"], log=log)


def batches(name: str, victims: bool) -> list[list[tuple[str, int, int]]]:
    """Per iteration the members of our batch, or its victims: id, tokens, computed before."""
    result = ours(name)
    ids = [row["id"] for row in recorded(name)["requests"]]
    rows: list[list[tuple[str, int, int]]] = [[] for _ in range(len(result.iterations))]
    for entry in result.batches.itertuples():
        if (entry.tokens == 0) == victims:
            rows[entry.iteration].append((ids[entry.request], entry.tokens, entry.computed))
    return rows


@pytest.mark.parametrize("name", RUNS)
def test_every_batch_holds_the_same_requests_and_tokens(name: str) -> None:
    real = [
        [(r, tokens, before) for r, tokens, before, _ in row["batch"]]
        for row in recorded(name)["iterations"]
    ]
    assert batches(name, victims=False) == real


@pytest.mark.parametrize("name", RUNS)
def test_the_same_requests_are_preempted_in_the_same_order(name: str) -> None:
    real = [row["preempted"] for row in recorded(name)["iterations"]]
    assert [[r for r, _, _ in row] for row in batches(name, victims=True)] == real


@pytest.mark.parametrize("name", RUNS)
def test_the_same_blocks_are_free_and_the_same_numbers_run_and_wait(name: str) -> None:
    columns = {"free_blocks": "free_blocks", "num_running": "n_running", "num_waiting": "n_waiting"}
    for column, key in columns.items():
        real = [row[key] for row in recorded(name)["iterations"]]
        assert ours(name).iterations[column].tolist() == real


@pytest.mark.parametrize("name", RUNS)
def test_iterations_start_and_last_as_long(name: str) -> None:
    rows = recorded(name)["iterations"]
    start = [row.get("start", row["t"]) for row in rows]  # "t" is when it was formed
    assert np.abs(ours(name).iterations["start"] - start).max() <= SECONDS
    assert np.abs(ours(name).iterations["duration"] - [row["dt"] for row in rows]).max() <= SECONDS


@pytest.mark.parametrize("name", RUNS)
def test_every_token_comes_out_at_the_same_time(name: str) -> None:
    delivered = ours(name).tokens.groupby("request")["time"].apply(list)
    for r, row in enumerate(recorded(name)["requests"]):
        assert delivered[r] == pytest.approx(row["tokens"], rel=0, abs=SECONDS)


def test_memory_pressure_is_part_of_what_is_compared() -> None:
    preemptions = {name: int(ours(name).state.requests["preemptions"].sum()) for name in RUNS}
    assert preemptions["pressure"] == 40
    assert preemptions["pressure.noreserve"] == 179
    assert preemptions["pressure.longthresh256"] == 55
    assert preemptions["pressure.prefixcache"] == 39
    assert preemptions["pressure.async"] == 39
