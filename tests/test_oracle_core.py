"""sgym equals the slow simulator: token times, counters, batches, and B at any time."""

from typing import Any

import oracle
import pytest
from hypothesis import given, settings
from strategies import Case, RandomPolicy, cases, policies, steer_oracle

from sgym import Simulator
from sgym.core.layout import Phase
from sgym.policies import Steering

FORMERS = ["vllm_v1", "vllm_v0", "sarathi", "orca"]
LOGS = ("tokens", "iterations", "batches")
COUNTS = ("instance", "prefill_tokens", "decode_seqs", "kv_tokens")
QUEUES = ("num_running", "num_waiting", "free_blocks")
TimeAndB = tuple[float, float]


def scenario(case: Case) -> dict[str, Any]:
    """The case as a scenario."""
    iteration, prefill_token, decode_seq, context_token = case.engine.latency
    engine = {
        name: getattr(case.engine, name)
        for name in oracle.Engine.__dataclass_fields__
        if name != "latency"
    }
    metric = case.metric
    users = [
        {"name": f"user{i}"} | {name: getattr(user, name) for name in user.__dataclass_fields__}
        for i, user in enumerate(case.users)
    ]
    return {
        "cluster": {"instances": case.num_instances, "router": case.router},
        "engine": engine,
        "latency": {
            "linear": {
                "iteration": iteration,
                "prefill_token": prefill_token,
                "decode_seq": decode_seq,
                "context_token": context_token,
            }
        },
        "workload": {"rate": 1.0},
        "slo": {
            "classes": users,
            "origin": "first_token" if metric.from_first_token else "commit",
            "penalty": metric.penalty,
            "penalty_cap": metric.penalty_cap,
            "scale_by_tokens": metric.scale_by_tokens,
            "clamp": metric.clamp,
        },
        "episode": {"duration": case.horizon},
        "policy": {"name": "stock"},
    }


def simulator(case: Case) -> Simulator:
    names = ("arrival", "prompt", "output", "priority", "user_class")
    arrivals = [dict(zip(names, row, strict=True)) for row in case.requests]
    return Simulator(scenario(case), arrivals=arrivals, log=LOGS)


def steering(answer: dict[str, Any], engine: oracle.Engine) -> Steering:
    """A random policy's answer as the project's own record, inside its ranges."""
    limits = {
        "token_budget": engine.max_num_batched_tokens,
        "active_cap": engine.max_num_seqs,
    }
    clipped = {name: min(answer[name], most) for name, most in limits.items() if name in answer}
    return Steering(**(answer | clipped))


def step_through(
    case: Case, policy: RandomPolicy | None
) -> tuple[Simulator, list[tuple[float, float]]]:
    """Step through the case; also (time, B) at each decision of an instance and at the end."""
    sim = simulator(case)
    decision, questions, potentials = sim.decision, 0, []
    while decision.kind != "done":
        potentials.append((decision.time, sim.potential))
        answer = None
        if policy is not None:
            view = decision.view
            waiting, running = [r.id for r in view.waiting], [r.id for r in view.running]
            answer = policy(questions, waiting, running)
            questions += 1
        decision = sim.step(None if answer is None else steering(answer, case.engine))
        assert decision.time >= potentials[-1][0]
    potentials.append((case.horizon, sim.potential))
    return sim, potentials


def logged_batches(sim: Simulator) -> dict[int, tuple[list[tuple[int, ...]], list[int]]]:
    """Iteration -> (request, tokens, computed before) of its batch, and its victims, if any."""
    state, batches = sim.state, {}
    for row in state.batches[: int(state.cluster[0]["num_batches_logged"])]:
        batch, victims = batches.setdefault(int(row["iteration"]), ([], []))
        if row["tokens"]:
            batch.append(tuple(int(row[name]) for name in ("request", "tokens", "computed")))
        else:
            victims.append(int(row["request"]))
    return batches


def compare(case: Case, policy: RandomPolicy | None) -> None:
    """Both simulators on one case, number by number."""
    sim, potentials = step_through(case, policy)
    truth = case.oracle(steer_oracle(policy) if policy else None)
    state, cluster = sim.state, sim.state.cluster[0]
    batches = logged_batches(sim)
    for number, row in enumerate(truth.log[: int(cluster["num_iterations_logged"])]):
        ours = state.iterations[number]
        batch, victims = batches[number]
        if case.engine.former == "vllm_v1":
            assert batch == row.batch, number
        assert sorted(batch) == sorted(row.batch), number
        assert [r for r in victims if r in row.victims] == row.victims, number
        assert ours["start"] == row.start
        assert ours["duration"] == row.duration
        for name in COUNTS + QUEUES:
            assert ours[name] == getattr(row, name), (number, name)
    assert len(truth.log) == cluster["num_iterations_logged"] == cluster["iterations"]
    tokens = state.tokens[: int(cluster["num_tokens_logged"])]
    for request, ours in zip(truth.requests, state.requests, strict=True):
        assert tokens["time"][tokens["request"] == request.index].tolist() == request.tokens
        assert Phase(ours["phase"]).name.lower() == request.phase
        assert ours["preemptions"] == request.preemptions
        assert ours["recomputed"] == request.recomputed
    for instance, ours in zip(truth.instances, state.instances, strict=True):
        assert ours["free_blocks"] == instance.free
        assert ours["iterations"] == instance.iterations
        assert ours["preemptions"] == instance.preemptions
    step = 1 + len(potentials) // 25
    for time, potential in potentials[::-1][::step]:
        exact = case.metric.total(truth.requests, time)
        assert potential == pytest.approx(exact, rel=1e-9, abs=1e-9), time


@pytest.mark.parametrize("former", FORMERS)
def test_core_equals_oracle(former: str) -> None:
    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(cases(former))
    def agree(case: Case) -> None:
        compare(case, None)

    agree()


@pytest.mark.parametrize("former", FORMERS)
def test_core_equals_oracle_under_any_steering(former: str) -> None:
    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(cases(former), policies)
    def agree(case: Case, policy: RandomPolicy) -> None:
        compare(case, policy)

    agree()
