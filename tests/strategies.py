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


@st.composite
def engines(draw: st.DrawFn, former: str) -> oracle.Engine:
    """Engines with little memory, few sequences and small budgets."""
    return oracle.Engine(
        former=former,
        max_num_seqs=draw(st.integers(1, 8)),
        max_num_batched_tokens=draw(st.integers(1, 16) | st.integers(16, 200)),
        max_model_len=draw(st.integers(20, 160)),
        block_size=draw(st.sampled_from([1, 2, 3, 4, 8, 16])),
        num_gpu_blocks=draw(st.integers(9, 61)),
        watermark=draw(st.sampled_from([None, None, 0.0, 0.01, 0.05, 0.2])),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 0, 1, 3, 8, 20])),
        enable_chunked_prefill=draw(st.booleans()),
        scheduler_reserve_full_isl=draw(st.booleans()),
        scheduling_policy=draw(st.sampled_from(["fcfs", "priority"]))
        if former == "vllm_v1"
        else "fcfs",
        orca_reserve=draw(st.sampled_from(["max_len", "pow2", "oracle"])),
        latency=draw(
            st.sampled_from(
                [
                    (0.25, 0.0, 0.0, 0.0),  # ends coincide with arrivals and with each other
                    (0.125, 0.0078125, 0.0, 0.0),
                    (0.008, 1e-4, 5e-5, 2e-8),
                    (0.01, 3e-3, 1e-3, 1e-4),
                ]
            )
        ),
    )


@st.composite
def workloads(draw: st.DrawFn) -> tuple[tuple[float, int, int, int], ...]:
    """One to sixteen requests in bursts, on a grid of times or anywhere, sorted by arrival."""
    times = st.integers(0, 16).map(lambda step: step * 0.25) | st.floats(0, 2, width=32)
    lengths = st.integers(1, 8) | st.integers(1, 70)
    row = st.tuples(times, lengths, st.just(1) | st.integers(1, 40), st.integers(-2, 2))
    rows = draw(st.lists(row, min_size=1, max_size=16))
    return tuple(sorted(rows, key=lambda row: row[0]))


@st.composite
def cases(draw: st.DrawFn, former: str) -> Case:
    """A whole random simulation of one kind of engine."""
    num_instances = draw(st.sampled_from([1, 1, 2, 3]))
    return Case(
        engine=draw(engines(former)),
        requests=draw(workloads()),
        num_instances=num_instances,
        router=draw(st.sampled_from(["round_robin", "least_outstanding"])),
        horizon=draw(st.sampled_from([1e6, 1e6, 1e6, 3.0, 1.1])),
    )


@dataclass(frozen=True)
class RandomPolicy:
    """Steerings that depend only on `seed`, the number of the question and who waits and runs."""

    seed: int
    often: float  # share of the questions that are answered

    def __call__(self, number: int, waiting: list[int], running: list[int]) -> dict[str, Any] | None:
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
