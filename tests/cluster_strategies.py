"""Small random clusters: pools with roles, slow links, migrations, changing roles, swaps."""

import math
import random
from dataclasses import dataclass
from typing import Any

import oracle
from hypothesis import strategies as st
from strategies import LATENCIES, LONG, RandomPolicy, User, random_metric, random_user

KV_BYTES = 131072  # of a token of Llama-3.1-8B, the default model
FORMERS = ["vllm_v1", "vllm_v0", "sarathi", "orca"]
Row = tuple[float, int, int, int, int]


@dataclass(frozen=True)
class ClusterCase:
    """One random simulation; `requests` are (arrival, prompt, output, priority, user)."""

    machines: tuple[oracle.Machine, ...]  # each one a pool
    cluster: oracle.Cluster
    requests: tuple[Row, ...]
    users: tuple[User, ...]
    metric: oracle.Metric
    horizon: float  # seconds
    policy: "ClusterPolicy"

    def oracle(self) -> oracle.Simulation:
        """The slow simulation, run to its end."""
        requests = []
        for index, (arrival, prompt, output, priority, user) in enumerate(self.requests):
            who = self.users[user]
            delay = who.first_delay + who.first_delay_per_prompt_token * prompt
            reader = (who.token_time, delay, who.alpha, who.weight)
            requests.append(oracle.Request(index, arrival, prompt, output, priority, *reader))
        return oracle.Simulation(
            requests,
            machines=self.machines,
            cluster=self.cluster,
            horizon=self.horizon,
            **hooks(self.policy, len(self.machines)),
        ).run()


@dataclass(frozen=True)
class ClusterPolicy:
    """Random answers that depend only on `seed` and the number of the question."""

    seed: int
    often: float  # share of the questions that are answered
    steers: bool = False
    routes: bool = False
    hands_off: bool = False
    migrates: float = 0.0  # share of the requests, when it answers
    changes_roles: float = 0.0  # share of the questions

    def steering(
        self, number: int, waiting: list[int], running: list[int], num_instances: int
    ) -> dict[str, Any] | None:
        """A Steering, with `set_role` (instance, role, drain) beside it."""
        if number >= 200:
            return {}
        draw = random.Random(self.seed * 1_000_003 + number)
        answer: dict[str, Any] | None = None
        if self.steers:
            answer = RandomPolicy(self.seed, self.often)(number, waiting, running)
        if draw.random() < self.often and self.migrates:
            answer = answer or {}
            first = answer.get("preempt", [])
            others = [r for r in sorted(waiting) + sorted(running) if r not in first]
            moved = [r for r in first + others if draw.random() < self.migrates]
            answer["migrate_to"] = {r: draw.randrange(num_instances) for r in moved}
        if draw.random() < self.changes_roles:
            role = draw.choice(["mixed", "prefill", "decode"])
            answer = answer or {}
            answer["set_role"] = draw.randrange(num_instances), role, draw.random() < 0.5
        return answer

    def target(self, kind: int, number: int, num_instances: int) -> int:
        """Of an arrival (0) or of a finished prefill (1)."""
        return random.Random((self.seed * 2 + kind) * 1_000_003 + number).randrange(num_instances)


def hooks(policy: ClusterPolicy, num_instances: int) -> dict[str, Any]:
    """The policy as the oracle asks it."""
    questions, routed, handed = (iter(range(10**9)) for _ in range(3))

    def steer(sim: oracle.Simulation, instance: oracle.Instance) -> dict[str, Any] | None:
        waiting = [request.index for request in instance.waiting]
        running = [request.index for request in instance.running]
        answer = policy.steering(next(questions), waiting, running, num_instances)
        if answer and "set_role" in answer:
            sim.set_role(*answer["set_role"])
        return answer

    given: dict[str, Any] = {"steer": steer}
    if policy.routes:
        given["route"] = lambda *_: policy.target(0, next(routed), num_instances)
    if policy.hands_off:
        given["handoff"] = lambda *_: policy.target(1, next(handed), num_instances)
    return given


def random_engine(
    draw: random.Random, former: str, longest: int, block_size: int, context: int, swaps: bool
) -> oracle.Engine:
    """An engine with memory for one to three of the longest requests."""
    usable = math.ceil(longest / block_size * draw.choice([0.7, 1, 1.2, 1.5, 2, 3]))
    chunked = draw.random() < 0.6
    budget = draw.choice([1, 2, 5, 9, 16, 33, 64, 200])
    if not chunked and draw.random() < 0.9:
        budget = longest + draw.randint(0, 60)
    if former == "vllm_v0" and not chunked:
        budget = max(budget, context)  # as V0 sets it
    host_blocks = draw.choice([0, 2, 5, 20, 100])
    return oracle.Engine(
        former=former,
        max_num_seqs=draw.choice([1, 2, 3, 4, 6, 8]),
        max_num_batched_tokens=budget,
        max_model_len=context,
        block_size=block_size,
        num_gpu_blocks=usable + draw.randint(1, 4),
        watermark=draw.choice([None, None, 0.0, 0.01, 0.05, 0.2]),
        long_prefill_token_threshold=draw.choice([0, 0, 0, 1, 3, 8, 20]),
        enable_chunked_prefill=chunked,
        scheduler_reserve_full_isl=draw.random() < 0.7,
        scheduling_policy=draw.choice(["fcfs", "fcfs", "priority"])
        if former == "vllm_v1"
        else "fcfs",
        orca_reserve=draw.choice(["max_len", "pow2", "oracle"]),
        preemption_mode="swap" if swaps else "recompute",
        swap_space=host_blocks * block_size * KV_BYTES / 2**30,
        swap_bandwidth=KV_BYTES * draw.choice([16.0, 64.0, 100.0, 1e4]),
        swap_overlap=draw.random() < 0.5,
        latency=draw.choice(LATENCIES),
    )


def random_requests(draw: random.Random, count: int) -> tuple[Row, ...]:
    """Bursts, ties and lone arrivals of prompts and outputs of all lengths."""
    most = draw.choice([4, 15, 40, 80])
    rows = []
    for _ in range(count):
        time = draw.choice([draw.randrange(12) * 0.25, draw.uniform(0, 2), 0.5])
        output = draw.choice([1, draw.randint(1, most), draw.randint(1, 40)])
        rows.append((time, draw.randint(1, most), output, draw.randint(-2, 2), draw.randrange(3)))
    return tuple(sorted(rows, key=lambda row: row[0]))


ROLES = [
    ["mixed", "mixed"],
    ["prefill", "decode"],
    ["prefill", "mixed"],
    ["prefill", "prefill", "decode"],
    ["prefill", "decode", "decode"],
    ["mixed", "prefill", "decode"],
    ["mixed", "mixed", "mixed", "mixed"],
    ["prefill", "prefill", "decode", "decode"],
]


def random_cluster(count: int, seed: int, **kinds: Any) -> ClusterCase:
    """A case under pressure.

    Args:
        count: of requests.
        seed: of everything in it.
        kinds: what may happen: `former` (None = any, and they differ), `steers`, `migrates`,
            `changes_roles`, `swaps`.
    """
    draw = random.Random(seed)
    requests = random_requests(draw, count)
    longest = max(row[1] + row[2] for row in requests)
    block_size = draw.choice([1, 2, 3, 4, 8, 16])
    context = longest + draw.choice([-3, 0, 1, 20]) if longest > 5 else 8
    former = kinds.get("former") or draw.choice(FORMERS)
    machines = []
    for role in draw.choice(ROLES):
        if kinds.get("former") is None and draw.random() < 0.3:
            former = draw.choice(FORMERS)
        engine = random_engine(draw, former, longest, block_size, context, bool(kinds.get("swaps")))
        machines.append(
            oracle.Machine(engine, role, KV_BYTES * draw.choice([8.0, 32.0, 100.0, 1e3]))
        )
    if draw.random() < 0.4:  # instances that keep pace
        machines = [
            oracle.Machine(machines[0].engine, m.role, machines[0].bandwidth) for m in machines
        ]
    cluster = oracle.Cluster(
        kv_bytes=float(KV_BYTES),
        latency=draw.choice([0.0, 0.0, 0.25, 0.013]),
        layerwise=draw.random() < 0.3,
        mode=draw.choice(["live", "live", "live", "stop_and_copy", "recompute"]),
        stages=draw.choice([1, 2, 3, 8]),
        last_blocks=draw.choice([1, 1, 2, 4]),
        concurrent=draw.choice([1, 2, 4]),
    )
    policy = ClusterPolicy(
        seed=draw.randrange(10**6),
        often=draw.choice([0.1, 0.5, 1.0]),
        steers=bool(kinds.get("steers")) and draw.random() < 0.8,
        routes=draw.random() < 0.6,
        hands_off=draw.random() < 0.6,
        migrates=draw.choice([0.1, 0.3]) if kinds.get("migrates") else 0.0,
        changes_roles=draw.choice([0.02, 0.2]) if kinds.get("changes_roles") else 0.0,
    )
    return ClusterCase(
        tuple(machines),
        cluster,
        requests,
        users=tuple(random_user(draw) for _ in range(3)),
        metric=random_metric(draw),
        horizon=draw.choice([40.0, 20.0, 3.0]) if not kinds.get("long") else LONG,
        policy=policy,
    )


def clusters(**kinds: Any) -> st.SearchStrategy[ClusterCase]:
    """Random cases with one to sixteen requests."""
    return st.builds(
        lambda count, seed: random_cluster(count, seed, **kinds),
        st.integers(1, 16),
        st.integers(0, 2**32),
    )
