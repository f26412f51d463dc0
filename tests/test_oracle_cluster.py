"""sgym equals the slow simulator on clusters with roles, links, migrations and swaps."""

from typing import Any

import oracle
import pytest
from cluster_strategies import ClusterCase, clusters
from hypothesis import given, settings

from sgym import Simulator
from sgym.core.layout import Move, Phase, Role
from sgym.policies import Steering
from sgym.policies.view import InstanceView
from sgym.simulator import Decision

LOGS = ("tokens", "iterations", "batches", "moves")
COUNTS = ("instance", "prefill_tokens", "decode_seqs", "kv_tokens")
QUEUES = ("num_running", "num_waiting", "free_blocks")
IDS = ("request", "source", "target", "tokens")
SAME = {"rel": 1e-9, "abs": 1e-9}


def scenario(case: ClusterCase) -> dict[str, Any]:
    """The case as a scenario, with a pool for each instance."""
    cluster, metric = case.cluster, case.metric
    limits = [
        {name: value for name, value in vars(machine.engine).items() if name != "latency"}
        for machine in case.machines
    ]
    common = {name: limits[0][name] for name in ("max_model_len", "block_size")}
    pools = [
        {
            "role": machine.role,
            "engine": {name: limit[name] for name in limit if name not in common},
            "link_bandwidth": machine.bandwidth,
        }
        for machine, limit in zip(case.machines, limits, strict=True)
    ]
    return {
        "cluster": {
            "pools": pools,
            "link": {"latency": cluster.latency, "layerwise": cluster.layerwise},
            "migration": {
                "mode": cluster.mode,
                "stages": cluster.stages,
                "last_blocks": cluster.last_blocks,
                "concurrent": cluster.concurrent,
            },
        },
        "engine": common,
        "latency": {"linear": {"iteration": 1.0}},  # each instance gets its own
        "workload": {"rate": 1.0},
        "slo": {
            "classes": [{"name": f"user{i}"} | vars(user) for i, user in enumerate(case.users)],
            "origin": "first_token" if metric.from_first_token else "commit",
            "penalty": metric.penalty,
            "penalty_cap": metric.penalty_cap,
            "scale_by_tokens": metric.scale_by_tokens,
            "clamp": metric.clamp,
        },
        "episode": {"duration": case.horizon},
        "policy": {"name": "stock"},
    }


class Stepped(Simulator):
    """The case, stopped wherever its policy wants to be asked."""

    def __init__(self, case: ClusterCase) -> None:
        self.case = case
        names = ("arrival", "prompt", "output", "priority", "user_class")
        arrivals = [dict(zip(names, row, strict=True)) for row in case.requests]
        super().__init__(scenario(case), arrivals=arrivals, log=LOGS)
        parts = ("base", "per_prefill_token", "per_decode_seq", "per_kv_token")
        for machine, record in zip(case.machines, self.state.latency, strict=True):
            for part, value in zip(parts, machine.engine.latency, strict=True):
                record[part] = value  # nothing has run yet

    def advance(self, route: bool = False, handoff: bool = False) -> Decision:
        return super().advance(self.case.policy.routes, self.case.policy.hands_off)


def steering(answer: dict[str, Any], engine: oracle.Engine) -> Steering:
    """A random answer as the project's own record, inside its ranges."""
    limits = {
        "token_budget": engine.max_num_batched_tokens,
        "active_cap": engine.max_num_seqs,
    }
    clipped = {name: min(answer[name], most) for name, most in limits.items() if name in answer}
    plain = {name: value for name, value in answer.items() if name != "set_role"}
    return Steering(**(plain | clipped))


def step_through(
    case: ClusterCase, simulator: type[Stepped] = Stepped
) -> tuple[Simulator, list[tuple[float, float]]]:
    """Step through the case; also (time, B) when an instance asks and at the end."""
    sim, policy, count = simulator(case), case.policy, len(case.machines)
    numbers, potentials = {"schedule": 0, "route": 0, "handoff": 0}, []
    decision = sim.decision
    while decision.kind != "done":
        kind, view = decision.kind, decision.view
        number = numbers[kind]
        numbers[kind] += 1
        before = decision.time
        if isinstance(view, InstanceView):  # all else that happens now is in B
            potentials.append((before, sim.potential))
            waiting, running = [r.id for r in view.waiting], [r.id for r in view.running]
            answer = policy.steering(number, waiting, running, count)
            if answer and "set_role" in answer:
                sim.set_role(*answer["set_role"])
            engine = case.machines[view.index].engine
            decision = sim.step(None if answer is None else steering(answer, engine))
        else:
            decision = sim.step(policy.target(int(kind == "handoff"), number, count))
        assert decision.time >= before
    return sim, [*potentials, (case.horizon, sim.potential)]


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


def compare_iterations(sim: Simulator, truth: oracle.Simulation) -> None:
    state, batches = sim.state, logged_batches(sim)
    logged = int(state.cluster[0]["num_iterations_logged"])
    for number, row in enumerate(truth.log[:logged]):
        ours = state.iterations[number]
        assert ours["start"] == pytest.approx(row.start, **SAME), number
        batch, victims = batches[number]
        assert sorted(batch) == sorted(row.batch), (number, row)
        assert [r for r in victims if r in row.victims] == row.victims, number
        assert ours["duration"] == pytest.approx(row.duration, **SAME), number
        for name in COUNTS + QUEUES:
            assert ours[name] == getattr(row, name), (number, name)
    assert len(truth.log) == logged == state.cluster[0]["iterations"]


def compare_moves(sim: Simulator, truth: oracle.Simulation) -> None:
    rows = sim.state.moves[: int(sim.state.cluster[0]["num_moves_logged"])]
    ours = [
        (Move(row["kind"]).name.lower(), *(int(row[n]) for n in IDS), row["start"], row["end"])
        for row in rows
    ]
    theirs = [tuple(vars(move).values()) for move in truth.moves]
    for ours_row, their_row in zip(sorted(ours), sorted(theirs), strict=True):
        assert ours_row[:5] == their_row[:5]
        assert ours_row[5:] == pytest.approx(their_row[5:], **SAME)


def compare_requests(sim: Simulator, truth: oracle.Simulation) -> None:
    state = sim.state
    tokens = state.tokens[: int(state.cluster[0]["num_tokens_logged"])]
    for request, ours in zip(truth.requests, state.requests, strict=True):
        times = tokens["time"][tokens["request"] == request.index].tolist()
        assert times == pytest.approx(request.tokens, **SAME)
        assert Phase(ours["phase"]).name.lower() == request.phase
        for name in ("preemptions", "recomputed", "migrations", "swaps"):
            assert ours[name] == getattr(request, name), (request.index, name)
        if request.phase in ("waiting", "running", "moving"):
            for name in ("instance", "blocks", "other_blocks"):
                assert ours[name] == getattr(request, name), (request.index, name)


def compare_instances(sim: Simulator, truth: oracle.Simulation) -> None:
    state, cluster = sim.state, sim.state.cluster[0]
    for instance, ours in zip(truth.instances, state.instances, strict=True):
        assert ours["free_blocks"] == instance.free
        assert ours["free_host_blocks"] == instance.free_host
        assert Role(ours["role"]).name.lower() == instance.role
        assert ours["num_loading"] == len(instance.loading)
        assert ours["iterations"] == instance.iterations
        assert ours["preemptions"] == instance.preemptions
    for name in ("handoffs", "migrations", "aborted"):
        assert cluster[name] == getattr(truth, name), name
    assert cluster["transferred"] == pytest.approx(truth.transferred)
    assert cluster["swapped"] == pytest.approx(truth.swapped)


def compare(case: ClusterCase) -> oracle.Simulation:
    """Both simulators on one case, number by number."""
    truth = case.oracle()
    sim, potentials = step_through(case)
    compare_iterations(sim, truth)
    compare_moves(sim, truth)
    compare_requests(sim, truth)
    compare_instances(sim, truth)
    step = 1 + len(potentials) // 25
    times = [token for request in truth.requests for token in request.tokens]
    for time, potential in potentials[::-1][::step]:
        if any(0 < token - time < 1e-9 for token in times):
            continue  # a rounding apart: the core has delivered it
        exact = case.metric.total(truth.requests, time)
        assert potential == pytest.approx(exact, **SAME), time
    return truth


KINDS = {
    "roles": {"long": True},
    "steered": {"steers": True},
    "migrations": {"migrates": True},
    "swaps": {"swaps": True, "steers": True},
    "changing roles": {"changes_roles": True},
    "everything": {"steers": True, "migrates": True, "swaps": True, "changes_roles": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_core_equals_oracle_on_clusters(kind: str) -> None:
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(clusters(**KINDS[kind]))
    def agree(case: ClusterCase) -> None:
        compare(case)

    agree()
