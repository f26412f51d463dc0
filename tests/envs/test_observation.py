"""What an agent sees, against the readable view of the same state."""

import numpy as np
import pytest
from playing import make, play, toy

from sgym.envs.features import TABLES, markdown
from sgym.policies.view import InstanceView


def scaled(feature, value):
    value = value / (abs(value) + feature.scale) if feature.squash else value / feature.scale
    return np.float32(min(max(value, feature.low), feature.high))


def shown(env, observation, slot):
    """Name -> number of one slot."""
    chosen = env.seen["requests"]
    row = observation["requests"][slot * len(chosen) : (slot + 1) * len(chosen)]
    return {feature.name: value for feature, value in zip(chosen, row, strict=True)}


def named(env, observation, table):
    return {f.name: v for f, v in zip(env.seen[table], observation[table], strict=False)}


def go_on(env, steps, action=0):
    observation, info = env.reset(seed=0)
    for _ in range(steps):
        observation, *_, info = env.step(action)
    return observation, info


def test_features_of_a_request_are_those_of_the_view():
    env = make(length_hint="oracle", decision="iteration", scenario=toy(slo="mixed"))
    by_name = {feature.name: feature for feature in TABLES["requests"]}
    for steps in (3, 20, 60):
        observation, _ = go_on(env, steps)
        state = env._simulator.state
        view = InstanceView(state, 0)
        running = {request.id for request in view.running}
        assert (env._desk.slots >= 0).sum() == min(8, view.num_running + view.num_waiting)
        for slot, r in enumerate(env._desk.slots):
            found = shown(env, observation, slot)
            if r < 0:
                assert not any(found.values())
                continue
            request = next(q for q in [*view.running, *view.waiting] if q.id == r)
            expected = {
                "present": 1,
                "running": r in running,
                "prefilling": r in running and request.computed < request.known - 1,
                "slack": request.slack,
                "waited": request.waited,
                "prompt": request.prompt,
                "generated": request.generated,
                "known": request.known,
                "to_prefill": request.known - request.computed,
                "computed": request.computed / request.known,
                "blocks": request.blocks / 20,
                "needs": -(-request.known // 16) / 20,
                "preemptions": request.preemptions,
                "token_time": request.token_time,
                "alpha": request.alpha,
                "weight": request.weight,
                "priority": request.priority,
                "predicted": request.predicted - request.generated,
            }
            for name, value in expected.items():
                assert found[name] == pytest.approx(scaled(by_name[name], float(value))), name


def test_running_requests_come_first_the_next_victim_ahead():
    env = make("slots", decision="iteration")
    observation, _ = go_on(env, 30, np.zeros(9, int))
    view = InstanceView(env._simulator.state, 0)
    running = [request.id for request in view.running][::-1]
    waiting = [request.id for request in view.waiting]
    slots = env._desk.slots.tolist()
    assert slots[: min(4, len(running))] == running[:4]
    assert slots[4 : 4 + min(4, len(waiting))] == waiting[:4]
    assert len(observation["requests"]) == 8 * 18


@pytest.mark.parametrize(
    ("num_running", "num_waiting", "expected"),
    [
        (2, 1, ["v1", "v2", "-", "w1"]),
        (2, 5, ["v1", "v2", "w1", "w2"]),
        (1, 5, ["v1", "w3", "w1", "w2"]),
        (0, 5, ["w4", "w3", "w1", "w2"]),
        (5, 1, ["v1", "v2", "w1", "v3"]),
        (5, 0, ["v1", "v2", "v4", "v3"]),
    ],
)
def test_unused_slots_of_one_half_are_lent_to_the_other(num_running, num_waiting, expected):
    scenario = toy(engine__num_gpu_blocks=200, workload__rate=100.0)
    env = make("slots", num_slots=4, scenario=scenario | {"engine": scenario["engine"]})
    env.reset(seed=0)
    from sgym.core import batch
    from sgym.envs import shown

    state = env._simulator.state
    for r in list(InstanceView(state, 0).waiting):
        batch.dequeue(state.requests, state.links, state.instances[0], r.id)
    state.instances["num_running"] = num_running
    state.running[0, :num_running] = np.arange(20, 20 + num_running)
    for r in range(10, 10 + num_waiting):
        batch.enqueue(state.requests, state.links, state.engines[0], state.instances[0], r, False)
    slots = np.zeros(4, np.int32)
    shown.fill_slots(state, 0, slots)
    names = {-1: "-"}
    names |= {20 + k: f"v{num_running - k}" for k in range(num_running)}
    names |= {10 + k: f"w{k + 1}" for k in range(num_waiting)}
    if (num_running, num_waiting) == (2, 1):
        expected = ["v1", "v2", "w1", "-"]
    assert [names[int(r)] for r in slots] == expected


def test_features_of_instances_and_cluster():
    env = make("slots", scenario=toy(cluster__instances=2, workload__rate=30.0))
    neutral = np.zeros(9, int)
    neutral[8] = 1  # half the token budget
    observation, _ = go_on(env, 30, neutral)
    state = env._simulator.state
    asking = int(state.cluster[0]["instance"])
    width = len(env.seen["instances"])
    for i in range(2):
        row = observation["instances"][i * width : (i + 1) * width]
        found = {f.name: v for f, v in zip(env.seen["instances"], row, strict=True)}
        view = InstanceView(state, i)
        assert found["asks"] == (i == asking)
        assert found["running"] == pytest.approx(view.num_running / 6)
        assert found["free"] == pytest.approx(view.free_blocks / 20)
        assert found["waiting"] == pytest.approx(view.num_waiting / (view.num_waiting + 16))
        assert found["budget"] == pytest.approx(0.5)
        assert (found["cap"], found["chunk"], found["reserve"]) == (1.0, 0.0, 0.0)
    found = named(env, observation, "cluster")
    view = InstanceView(state, asking)
    hidden = view.num_running + view.num_waiting - int((env._desk.slots >= 0).sum())
    parts = [found[name] for name in ("hidden_running", "hidden_waiting")]
    assert sum(16 * x / (1 - x) for x in parts) == pytest.approx(hidden, abs=1e-4)
    overdue = sum(
        request.slack < 0
        for i in range(2)
        for request in [*InstanceView(state, i).running, *InstanceView(state, i).waiting]
    )
    assert 16 * found["overdue"] / (1 - found["overdue"]) == pytest.approx(overdue, abs=1e-4)
    assert found["decides_schedule"] == 1.0
    assert found["arrived"] + found["finished"] + found["pressure"] + found["dry"] >= 1.0


def test_the_true_output_length_is_invisible_without_a_hint():
    env = make("slots")
    go_on(env, 20, np.zeros(9, int))
    assert np.isnan(env._simulator.state.requests["predicted"]).all()
    before, _ = env.restore(env.snapshot())
    env._simulator.state.requests["output"] += 17
    after, _ = env.restore(env.snapshot())
    for table in TABLES:
        assert before[table].tobytes() == after[table].tobytes()


@pytest.mark.parametrize("hint", ["noisy", "bucket", "oracle"])
def test_a_hint_adds_the_prediction(hint):
    plain, hinted = make(), make(length_hint=hint)
    assert len(hinted.seen["requests"]) == len(plain.seen["requests"]) + 1
    assert hinted.seen["requests"][-1].name == "predicted"
    hinted.reset(seed=0)
    requests = hinted._simulator.state.requests
    assert (requests["predicted"] == requests["output"]).all() == (hint == "oracle")


def test_what_an_engine_cannot_know_must_be_asked_for():
    assert "time_left" not in [f.name for f in make().seen["cluster"]]
    env = make(extra_features=("time_left",))
    steps = play(env)
    left = [named(env, step[0], "cluster")["time_left"] for step in steps]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0.0


def test_everything_stays_within_its_bounds_in_overload_and_before_the_first_token():
    for scenario in (
        toy(workload__rate=200.0),
        toy(slo__origin="first_token", slo__clamp=False),
    ):
        env = make("slots", scenario=scenario)
        for observation, *_ in play(env):
            assert observation in env.observation_space


def test_each_table_says_how_an_engine_knows_its_features():
    for table, rows in TABLES.items():
        assert len({feature.name for feature in rows}) == len(rows)
        assert all(feature.engine for feature in rows)
        assert all((feature.engine == "-") == (feature.when == "extra") for feature in rows)
        assert markdown(table).count("\n") == len(rows) + 1
