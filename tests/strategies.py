"""Small random clusters, workloads and Steerings for hypothesis.

Sizes are chosen so that everything that is rare in real life happens often: memory for a handful of
requests, budgets of a few tokens, bursts, one-token outputs, events at the very same time.
"""

import math
import random
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

import oracle


@dataclass(frozen=True)
class Case:
    """One random simulation; `requests` are (arrival, prompt, output, priority)."""

    engine: oracle.Engine
    requests: tuple[tuple[float, int, int, int], ...]
    num_instances: int
    router: str
    horizon: float  # seconds

    def oracle(self, steer: oracle.Steer | None = None) -> oracle.Simulation:
        """The slow simulation, run to its end."""
        requests = [oracle.Request(i, *row) for i, row in enumerate(self.requests)]
        return oracle.Simulation(
            requests, self.engine, self.num_instances, self.router, self.horizon, steer
        ).run()


LATENCIES = [
    (0.25, 0.0, 0.0, 0.0),  # ends coincide with arrivals and with each other
    (0.125, 0.0078125, 0.0, 0.0),
    (0.008, 1e-4, 5e-5, 2e-8),
    (0.01, 3e-3, 1e-3, 1e-4),
]


def random_case(former: str, num_requests: int, seed: int) -> Case:
    """A case under pressure: memory for one to three of its longest requests.

    Drawn from `seed` alone: hypothesis left to itself prefers requests of one token, which never
    meet each other, and then hardly a case in thirty preempts.
    """
    draw = random.Random(seed)
    most = draw.choice([4, 15, 40, 80])
    requests = []
    for _ in range(num_requests):
        time = draw.choice([draw.randrange(12) * 0.25, draw.uniform(0, 2), 0.5])
        output = draw.choice([1, draw.randint(1, most), draw.randint(1, 40)])
        requests.append((time, draw.randint(1, most), output, draw.randint(-2, 2)))
    longest = max(prompt + output for _, prompt, output, _ in requests)
    block_size = draw.choice([1, 2, 3, 4, 8, 16])
    usable = math.ceil(longest / block_size * draw.choice([0.9, 1, 1.2, 1.5, 2, 3])) + draw.randint(
        0, 3
    )
    chunked = draw.random() < 0.6
    budget = draw.choice([1, 2, 5, 9, 16, 33, 64, 200])
    if not chunked and draw.random() < 0.9:
        budget = longest + draw.randint(0, 60)
    engine = oracle.Engine(
        former=former,
        max_num_seqs=draw.choice([1, 2, 3, 4, 6, 8]),
        max_num_batched_tokens=budget,
        max_model_len=longest + draw.choice([-3, 0, 1, 20]) if longest > 5 else 8,
        block_size=block_size,
        num_gpu_blocks=usable + 1,
        watermark=draw.choice([None, None, 0.0, 0.01, 0.05, 0.2]),
        long_prefill_token_threshold=draw.choice([0, 0, 0, 1, 3, 8, 20]),
        enable_chunked_prefill=chunked,
        scheduler_reserve_full_isl=draw.random() < 0.5,
        scheduling_policy=draw.choice(["fcfs", "priority"]) if former == "vllm_v1" else "fcfs",
        orca_reserve=draw.choice(["max_len", "pow2", "oracle"]),
        latency=draw.choice(LATENCIES),
    )
    return Case(
        engine,
        tuple(sorted(requests, key=lambda row: row[0])),
        num_instances=draw.choice([1, 1, 2, 3]),
        router=draw.choice(["round_robin", "least_outstanding"]),
        horizon=draw.choice([1e6, 1e6, 1e6, 3.0, 1.1]),
    )


def cases(former: str) -> st.SearchStrategy[Case]:
    """Random cases of one kind of engine, with one to twenty requests."""
    return st.builds(random_case, st.just(former), st.integers(1, 20), st.integers(0, 2**32))


@dataclass(frozen=True)
class RandomPolicy:
    """Steerings that depend only on `seed`, the number of the question and who waits and runs."""

    seed: int
    often: float  # share of the questions that are answered

    def __call__(
        self, number: int, waiting: list[int], running: list[int]
    ) -> dict[str, Any] | None:
        draw = random.Random(self.seed * 1_000_003 + number)
        if draw.random() >= self.often:
            return None
        waiting, running = sorted(waiting), sorted(running)
        answer: dict[str, Any] = {}
        if draw.random() < 0.4:
            answer["token_budget"] = draw.randint(1, 60)
        if draw.random() < 0.3:
            answer["active_cap"] = draw.randint(1, 6)
        if draw.random() < 0.3:
            answer["chunk_cap"] = draw.randint(1, 20)
        if draw.random() < 0.3:
            answer["reserve"] = draw.randint(1, 8)
        if draw.random() < 0.3:
            answer["hold_prefill"] = 1
        scores = [0.0, 0.0, 1.0, 1.0, 2.5, -1.0, -math.inf]
        if draw.random() < 0.6:
            answer["waiting_score"] = {r: draw.choice(scores) for r in waiting + running}
        if draw.random() < 0.6:
            answer["running_score"] = {r: draw.choice(scores[:-1]) for r in waiting + running}
        answer["preempt"] = [r for r in running if draw.random() < 0.15]
        answer["reject"] = [r for r in waiting if draw.random() < 0.05]
        draw.shuffle(answer["preempt"])
        return answer


policies = st.builds(
    RandomPolicy, seed=st.integers(0, 10**6), often=st.sampled_from([0.1, 0.5, 1.0])
)
"""Random policies: seldom, often or always in charge."""


def steer_oracle(policy: RandomPolicy) -> oracle.Steer:
    """A random policy as the oracle's hook."""
    count = iter(range(10**9))

    def steer(_: oracle.Simulation, instance: oracle.Instance) -> dict[str, Any] | None:
        waiting = [request.index for request in instance.waiting]
        return policy(next(count), waiting, [request.index for request in instance.running])

    return steer
