"""The cases: recorded runs as cases, and random ones that a seed makes."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

RECORDED = tuple(
    f"{name}{variant}"
    for name in ("small", "pressure", "longprompt")
    for variant in ("", ".noreserve", ".longthresh256", ".prefixcache", ".async")
)
LATENCY = {"a": 0.008, "b": 1e-4, "c": 5e-5, "d": 2e-8}  # seconds; of the recorded runs


def read_recorded(folder: Path, name: str) -> dict[str, Any]:
    """One recorded run of the real scheduler, as it was published."""
    with gzip.open(folder / f"{name}.json.gz", "rt") as file:
        return json.load(file)


def recorded_case(name: str, record: dict[str, Any]) -> dict[str, Any]:
    """The input of a recorded run."""
    config = record["config"]
    return {
        "seed": name,
        "config": {
            "num_blocks": config["num_blocks"],
            "block_size": config["block_size"],
            "max_num_seqs": config["max_num_seqs"],
            "max_num_batched_tokens": config["max_num_batched_tokens"],
            "max_model_len": config["max_model_len"],
            "scheduling_policy": "fcfs",
            "enable_chunked_prefill": True,
            "long_prefill_token_threshold": config.get("long_prefill_token_threshold", 0),
            "scheduler_reserve_full_isl": config.get("reserve_full_isl", True),
            "watermark": 0.0,
            "enable_prefix_caching": config.get("enable_prefix_caching", False),
            "async_scheduling": config["async_scheduling"],
            "latency": {key: config["latency"][key] for key in "abcd"},
        },
        "requests": [
            {key: row[key] for key in ("arrival", "prompt", "output", "priority")}
            for row in record["requests"]
        ],
    }


def recorded_answer(record: dict[str, Any]) -> dict[str, Any]:
    """The decisions of a recorded run, in the form that the drivers answer."""
    numbers = {row["id"]: number for number, row in enumerate(record["requests"])}
    return {
        "iterations": [
            {
                "t": row.get("start", row["t"]),
                "dt": row["dt"],
                "batch": [[numbers[r], tokens, before] for r, tokens, before, _ in row["batch"]],
                "victims": [numbers[r] for r in row["preempted"]],
                "n_running": row["n_running"],
                "n_waiting": row["n_waiting"],
                "free_blocks": row["free_blocks"],
            }
            for row in record["iterations"]
            if row["batch"]  # async scheduling forms empty ones; none of these preempted anybody
        ],
        "tokens": [row["tokens"] for row in record["requests"]],
        "preemptions": [row["preemptions"] for row in record["requests"]],
    }


def random_case(seed: int, steered: bool) -> dict[str, Any]:
    """A random case: limits, requests and, if `steered`, how often a policy turns which knob."""
    rng = random.Random(f"case-{seed}-{steered}")
    config = random_config(rng)
    case = {"seed": seed, "config": config, "requests": random_requests(rng, config)}
    if steered:
        case["steer"] = random_use(rng)
    return case


def modern_case(seed: int, caches: bool, ahead: bool) -> dict[str, Any]:
    """A random case with prefix caching, async scheduling or both; every other one is steered."""
    rng = random.Random(f"modern-{seed}-{caches}-{ahead}")
    config = random_config(rng)
    config["enable_prefix_caching"], config["async_scheduling"] = caches, ahead
    requests = random_requests(rng, config)
    case = {"seed": seed, "config": config, "requests": requests}
    if caches:
        share_prefixes(rng, case)
    if seed % 2:
        case["steer"] = random_use(rng)
    return case


def share_prefixes(rng: random.Random, case: dict[str, Any]) -> None:
    """Let prompts begin alike: each follows a tree of families to a random depth.

    An entry of `hash_ids` names the content of `hash_block` tokens and of all before them.
    """
    size, limit = case["config"]["block_size"], case["config"]["max_model_len"]
    block = rng.choice((1, size // 2, size, size + 4, 2 * size, 5 * size))
    case["hash_block"] = block
    families, stray = rng.choice((1, 2, 5)), rng.choice((0.0, 0.02, 0.2))
    grow = rng.random() < 0.5  # prompts long enough that much is shared
    ids: dict[tuple[int, ...], int] = {}
    for row in case["requests"]:
        if grow and rng.random() < 0.7:
            row["prompt"] = rng.randint(1, limit - 1)
        most = row["prompt"] // block + (row["prompt"] % block > 0)
        depth = rng.choice((most, most, rng.randint(0, most)))
        path: tuple[int, ...] = (rng.randrange(families),)
        row["hash_ids"] = []
        for _ in range(depth):
            path = (*path, rng.randrange(1, 4) if rng.random() < stray else 0)
            row["hash_ids"].append(ids.setdefault(path, len(ids)))


def random_config(rng: random.Random) -> dict[str, Any]:
    """Limits under which requests compete: memory is tight in three cases of four."""
    block_size = rng.choice((8, 16, 16, 16, 32))
    max_model_len = rng.choice((96, 200, 400, 800, 1500))
    chunked = rng.random() < 0.8
    max_num_seqs = rng.choice((1, 2, 4, 8, 16, 32))
    batched = rng.choice((max_num_seqs, 32, 64, 100, 256, 512, 2048))
    batched = max(batched, max_num_seqs, 0 if chunked else max_model_len)
    longest = -(-max_model_len // block_size)  # blocks of the longest sequence
    usable = round(longest * rng.choice((1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 20.0)))
    threshold = rng.choice((0, 0, 0, rng.randint(4, 64), rng.randint(16, max_model_len)))
    return {
        "num_blocks": usable + 1,
        "block_size": block_size,
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": batched,
        "max_model_len": max_model_len,
        "scheduling_policy": rng.choice(("fcfs", "priority")),
        "enable_chunked_prefill": chunked,
        "long_prefill_token_threshold": min(threshold, max_model_len),
        "scheduler_reserve_full_isl": rng.random() < 0.6,
        "watermark": rng.choice((0.0, 0.0, 0.01, 0.05, rng.uniform(0.0, 0.3))),
        "latency": LATENCY,
    }


def random_requests(rng: random.Random, config: dict[str, Any]) -> list[dict[str, Any]]:
    """20 to 80 requests that the engine accepts: bursts, ties, one-token prompts and outputs."""
    limit = config["max_model_len"]
    gap = rng.choice((0.0, 0.005, 0.02, 0.05, 0.2))
    tie = rng.choice((0.0, 0.3, 0.8))
    typical_prompt = rng.choice((0.05, 0.2, 0.6)) * limit
    typical_output = rng.choice((0.02, 0.1, 0.4)) * limit
    levels = rng.choice((1, 2, 5))
    clock, rows = 0.0, []
    for _ in range(rng.randint(20, 80)):
        if gap > 0 and rng.random() >= tie:
            clock += rng.expovariate(1.0 / gap)
        prompt = round(rng.lognormvariate(0.0, 1.0) * typical_prompt)
        output = round(rng.lognormvariate(0.0, 1.0) * typical_output)
        prompt = 1 if rng.random() < 0.05 else min(max(prompt, 1), limit - 1)
        output = 1 if rng.random() < 0.1 else min(max(output, 1), limit)  # some reach the limit
        priority = rng.randrange(levels) if config["scheduling_policy"] == "priority" else 0
        rows.append({"arrival": clock, "prompt": prompt, "output": output, "priority": priority})
    return rows


def random_use(rng: random.Random) -> dict[str, float]:
    """How often a new steering comes, and the probability that it uses each knob."""
    chance = {
        name: rng.choice((0.0, 0.3, 0.8))
        for name in ("token_budget", "active_cap", "chunk_cap", "reserve", "hold_prefill", "order")
    }
    chance["hold"] = rng.choice((0.0, 0.1, 0.5))
    chance["preempt"] = rng.choice((0.0, 0.02, 0.2))
    chance["often"] = rng.choice((0.1, 0.4, 1.0))
    return chance
