"""Small random clusters, workloads and Steerings for hypothesis.

Sizes are chosen so that everything that is rare in real life happens often: memory for a handful of
requests, budgets of a few tokens, bursts, one-token outputs, events at the very same time.
"""

import math
import random
from dataclasses import dataclass
from typing import Any

import oracle
from hypothesis import strategies as st

LONG = 1e4  # seconds; a horizon at which everything is done


@dataclass(frozen=True)
class User:
    """A class of users."""

    token_time: float  # seconds
    first_delay: float  # seconds
    first_delay_per_prompt_token: float  # seconds
    alpha: float
    weight: float


@dataclass(frozen=True)
class Case:
    """One random simulation; `requests` are (arrival, prompt, output, priority, user)."""

    engine: oracle.Engine
    requests: tuple[tuple[float, int, int, int, int], ...]
    users: tuple[User, ...]
    metric: oracle.Metric
    num_instances: int
    router: str
    horizon: float  # seconds

    def oracle(self, steer: oracle.Steer | None = None) -> oracle.Simulation:
        """The slow simulation, run to its end."""
        requests = []
        for index, (arrival, prompt, output, priority, user) in enumerate(self.requests):
            who = self.users[user]
            delay = who.first_delay + who.first_delay_per_prompt_token * prompt
            reader = (who.token_time, delay, who.alpha, who.weight)
            requests.append(oracle.Request(index, arrival, prompt, output, priority, *reader))
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
        priority, user = draw.randint(-2, 2), draw.randrange(3)
        requests.append((time, draw.randint(1, most), output, priority, user))
    longest = max(row[1] + row[2] for row in requests)
    block_size = draw.choice([1, 2, 3, 4, 8, 16])
    usable = math.ceil(longest / block_size * draw.choice([0.9, 1, 1.2, 1.5, 2, 3])) + draw.randint(
        0, 3
    )
    chunked = draw.random() < 0.6
    budget = draw.choice([1, 2, 5, 9, 16, 33, 64, 200])
    if not chunked and draw.random() < 0.9:
        budget = longest + draw.randint(0, 60)
    context = longest + draw.choice([-3, 0, 1, 20]) if longest > 5 else 8
    if former == "vllm_v0" and not chunked:
        budget = max(budget, context)  # as V0 sets it
    engine = oracle.Engine(
        former=former,
        max_num_seqs=draw.choice([1, 2, 3, 4, 6, 8]),
        max_num_batched_tokens=budget,
        max_model_len=context,
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
    takes_turns = engine.scheduling_policy == "priority" and not engine.scheduler_reserve_full_isl
    return Case(
        engine,
        tuple(sorted(requests, key=lambda row: row[0])),
        users=tuple(random_user(draw) for _ in range(3)),
        metric=random_metric(draw),
        num_instances=draw.choice([1, 1, 2, 3]),
        router=draw.choice(["round_robin", "least_outstanding"]),
        # real vLLM lets two requests of equal priority and arrival preempt each other for ever
        horizon=20.0 if takes_turns else draw.choice([LONG, LONG, LONG, 3.0, 1.1]),
    )


def random_user(draw: random.Random) -> User:
    """Fast and slow readers, on and off the grid of times."""
    return User(
        token_time=draw.choice([0.0625, 0.25, 0.01, 0.3]),
        first_delay=draw.choice([0.0, 0.0, 0.5, 1.3]),
        first_delay_per_prompt_token=draw.choice([0.0, 0.01]),
        alpha=draw.choice([0.0, 1.0, 2.5]),
        weight=draw.choice([1.0, 0.5, 2.0]),
    )


def random_metric(draw: random.Random) -> oracle.Metric:
    """Every form of the penalty; the quadratic one only where lateness is not negative."""
    penalty = draw.choice(["identity", "capped", "quadratic"])
    return oracle.Metric(
        penalty=penalty,
        penalty_cap=draw.choice([0.25, 1.0, 7.0]),
        scale_by_tokens=draw.random() < 0.3,
        from_first_token=draw.random() < 0.3,
        clamp=penalty == "quadratic" or draw.random() < 0.7,
    )


def cases(former: str) -> st.SearchStrategy[Case]:
    """Random cases of one kind of engine, with one to twenty requests."""
    return st.builds(random_case, st.just(former), st.integers(1, 20), st.integers(0, 2**32))


@dataclass(frozen=True)
class RandomPolicy:
    """Steerings that depend only on `seed`, the number of the question and who waits and runs.

    Neutral after 200 questions, so that what it keeps preempting gets done.
    """

    seed: int
    often: float  # share of the questions that are answered

    def __call__(
        self, number: int, waiting: list[int], running: list[int]
    ) -> dict[str, Any] | None:
        if number >= 200:
            return {}
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
