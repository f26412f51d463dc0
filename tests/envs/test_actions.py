"""What actions do: they equal built-in policies, and Steerings written by hand."""

import numpy as np
import pytest
from playing import TOY, make, play, sampled, toy

from sgym import HOLD, Simulator, Steering, simulate
from sgym.envs.actions import KNOBS
from sgym.policies.view import InstanceView

NUMBER = {knobs.name: place for place, knobs in enumerate(KNOBS)}


def final(steps):
    return steps[-1][4]["smooth_goodput"]


def same_requests(one, other):
    """Whether all requests had the same life, order keys apart."""
    fields = ["phase", "generated", "lateness", "first_token", "finish", "preemptions", "computed"]
    return all(np.array_equal(one[f], other[f], equal_nan=True) for f in fields)


@pytest.mark.parametrize("decision", ["event", "iteration", "admission", "interval"])
def test_neutral_actions_are_the_stock_engine(decision):
    expected = simulate(TOY, "vllm", seed=4)
    for action, taken in (
        ("knobs", 0),
        ("slots", np.zeros(9, int)),
        ("scores", np.zeros(8)),
        ("index", np.zeros(40)),
    ):
        env = make(action, decision=decision, base="fcfs")
        play(env, lambda env, info, taken=taken: taken, options={"workload_seed": 4})
        assert same_requests(env._simulator.state.requests, expected.state.requests), action


@pytest.mark.parametrize(
    ("knobs", "policy", "parameters"),
    [
        ("spf+0.2+open", "spf", {}),
        ("spf+0+open", "spf", {"reservation": 0.0}),
        ("fcfs+0+open", "vllm", {}),
        ("slack-victim+0+open", "slack-victim", {}),
        ("edf+0+open", "edf", {}),
        ("llf+0+open", "llf", {}),
    ],
)
def test_knobs_at_every_iteration_are_the_built_in_policies(knobs, policy, parameters):
    scenario = toy(engine__num_gpu_blocks=61, engine__max_num_seqs=16)
    expected = simulate({**scenario, "policy": {"name": policy, **parameters}}, policy, seed=2)
    env = make(decision="iteration", scenario=scenario, expected_output=256.0)
    chosen = NUMBER[knobs]
    steps = play(env, lambda env, info: chosen, options={"workload_seed": 2})
    assert final(steps) == pytest.approx(expected.summary["smooth_goodput"], rel=1e-9)


def test_index_starts_from_a_tuned_spf_by_its_estimates_and_its_aging():
    tuned = {"name": "spf", "reservation": 0.2, "aging": 2000.0, "expected_output": 40.0}
    blind = toy(workload__prediction__kind="none")
    expected = simulate({**blind, "policy": tuned}, "spf", seed=2).summary["smooth_goodput"]
    usual = simulate(blind, "spf", seed=2).summary["smooth_goodput"]
    env = make("index", base="spf", decision="iteration", aging=2000.0, expected_output=40.0)
    steps = play(env, lambda env, info: np.zeros(40), options={"workload_seed": 2})
    assert final(steps) == pytest.approx(expected, rel=1e-9)
    assert expected != pytest.approx(usual, rel=1e-3)


def by_hand(env, knobs, view):
    """The Steering of an ordering without reservation and limit."""
    waiting, running = {}, {}
    for r in [*view.waiting, *view.running]:
        late = r.slack + view.now
        waiting[r.id] = {
            "fcfs": -r.arrival,
            "spf": -(r.prompt + 20 * r.arrival) / 512,
            "edf": -r.due,
            "llf": -(late - 1e-4 * r.known),
            "slack-victim": -r.arrival,
        }[knobs.ordering] + 1e6
        if knobs.ordering in ("edf", "llf", "slack-victim"):
            running[r.id] = 1e6 - (r.due if knobs.ordering == "edf" else late)
    return Steering(waiting_score=waiting, running_score=running)


@pytest.mark.parametrize("decision", ["event", "interval"])
@pytest.mark.parametrize("ordering", ["fcfs", "spf", "edf", "llf", "slack-victim"])
def test_knobs_equal_a_steering_by_hand_where_an_ordering_stays_and_where_it_changes(
    decision, ordering
):
    env = make(decision=decision, interval=0.07, scenario=toy(workload__rate=25.0))
    env.reset(options={"workload_seed": 6})
    simulator = Simulator(env.scenario, seed=6)
    random = np.random.default_rng(0)
    over = False
    while not over:
        name = ordering if random.random() < 0.8 else "fcfs"
        place = NUMBER[f"{name}+0+open"]
        while simulator.now < env._simulator.now or not at_same_point(simulator, env):
            simulator.step()  # not asked: the Steering in force goes on
        steering = by_hand(env, KNOBS[place], InstanceView(simulator.state, 0))
        simulator.step(steering)
        over = env.step(place)[3]
    while simulator.decision.kind != "done":
        simulator.step()
    assert same_requests(env._simulator.state.requests, simulator.state.requests)


def at_same_point(simulator, env):
    here, there = simulator.state.cluster[0], env._simulator.state.cluster[0]
    return here["iterations"] == there["iterations"]


def test_slots_equal_a_steering_by_hand():
    env = make("slots", decision="iteration", allow_reject=True, scenario=toy(workload__rate=25.0))
    env.action_space.seed(0)
    _, info = env.reset(seed=1)
    simulator = Simulator(env.scenario, seed=env.workload_seed)
    over = False
    while not over:
        while not at_same_point(simulator, env):
            simulator.step()
        action = sampled(env, info)
        steering = Steering(token_budget=64 >> int(action[8]))
        for verb, r in zip(action[:8], env._desk.slots.tolist(), strict=True):
            if verb == 1:
                steering.preempt.append(r)
            elif verb == 2:
                steering.waiting_score[r] = steering.running_score[r] = 1.0
            elif verb == 3:
                steering.waiting_score[r] = HOLD
            elif verb == 4:
                steering.reject.append(r)
        simulator.step(steering)
        *_, over, info = env.step(action)
    while simulator.decision.kind != "done":
        simulator.step()
    assert (env._simulator.state.requests["phase"] == 4).any()
    assert env._simulator.state.requests["preemptions"].sum() > 0
    assert same_requests(env._simulator.state.requests, simulator.state.requests)


def test_scores_order_both_queues():
    env = make("scores", decision="iteration", scenario=toy(workload__rate=60.0))
    env.reset(seed=0)
    for _ in range(25):
        env.step(np.linspace(-1, 1, 8))
    slots = env._desk.slots.copy()
    running = env._simulator.state.requests["phase"][slots] == 2
    env.step(np.linspace(-1, 1, 8))
    requests = env._simulator.state.requests
    assert running.any()
    assert not running.all()
    for k, r in enumerate(slots):
        name = "running_score" if requests["phase"][r] == 2 else "waiting_score"
        assert requests[name][r] == pytest.approx(-1 + 2 * k / 7)


@pytest.mark.parametrize("base", ["fcfs", "spf", "edf", "llf", "slack-victim"])
def test_index_with_weights_of_zero_is_its_base(base):
    reservation = {"spf": "0.2"}.get(base, "0")
    knobs = make()
    place = NUMBER[f"{base}+{reservation}+open"]
    expected = final(play(knobs, lambda env, info: place))
    index = make("index", base=base)
    assert final(play(index, lambda env, info: np.zeros(40))) == pytest.approx(expected, rel=1e-9)


def test_a_weight_of_index_orders_requests_without_a_slot_too():
    env = make("index", base="fcfs", num_slots=2, scenario=toy(workload__rate=100.0))
    weights = np.zeros(40)
    weights[[f.name for f in env.seen["requests"]].index("prompt")] = -1.0
    env.reset(seed=0)
    for _ in range(30):
        env.step(1000 * weights)  # clipped to -1
    view = InstanceView(env._simulator.state, 0)
    before = {r.id for r in view.waiting}
    env.step(weights)
    after = InstanceView(env._simulator.state, 0).waiting
    scored = [r for r in after if r.id in before]
    assert len(scored) > 10
    keys = [r.arrival + 4 * r.prompt / (r.prompt + 512) for r in scored]
    assert keys == sorted(keys)


def knobs_in_force(env):
    record = env._simulator.state.instances[0]
    return {
        name: int(record[name]) for name in ("token_budget", "active_cap", "chunk_cap", "reserve")
    }


def test_the_second_weights_of_index_order_the_running_requests():
    env = make("index", base="fcfs", decision="iteration")
    weights = np.zeros(40)
    weights[18 + [f.name for f in env.seen["requests"]].index("prompt")] = -1.0
    env.reset(seed=0)
    for _ in range(30):
        env.step(weights)
    state = env._simulator.state
    running = state.running[0, : state.instances[0]["num_running"]]
    scores = state.requests["running_score"][running].tolist()
    assert len(scores) >= 2
    assert scores == sorted(scores, reverse=True)
    assert not np.isin(state.requests["waiting_score"][running], scores).any()


def test_the_last_numbers_of_index_are_reserve_budget_and_caps():
    env = make("index", base="fcfs", decision="iteration", expected_output=100.0)
    env.reset(seed=0)
    open_limits = {"token_budget": 64, "active_cap": 6, "chunk_cap": 0, "reserve": 0}
    for numbers, changed in (
        ((0, 0, 0, 0), {}),
        ((0, -1, 0, 0), {"token_budget": 4}),
        ((0, -0.5, 0.5, 0.5), {"token_budget": 16}),
        ((0, 0, -0.1, 0), {"active_cap": int(6 * 2**-0.6)}),
        ((0, 1, -1, 0), {"active_cap": 1}),
        ((0, 0, 0, -0.5), {"chunk_cap": 16}),
    ):
        env.step(np.array([*np.zeros(36), *numbers]))
        assert knobs_in_force(env) == open_limits | changed
    generated = [r.generated for r in InstanceView(env._simulator.state, 0).running]
    env.step(np.array([*np.zeros(36), 1, 0, 0, 0]))
    expected = int(0.5 * sum(100 - g for g in generated) / 16)
    assert knobs_in_force(env) == open_limits | {"reserve": expected}


def test_limits_of_knobs():
    env = make(decision="iteration")
    env.reset(seed=0)
    for _ in range(10):
        env.step(0)
    running = int(env._simulator.state.instances[0]["num_running"])
    env.step(NUMBER["fcfs+0+closed"])
    assert knobs_in_force(env)["active_cap"] == running
    env.step(NUMBER["spf+0+gentle"])
    assert knobs_in_force(env) == {
        "token_budget": 16, "active_cap": 6, "chunk_cap": 8, "reserve": 0
    }  # fmt: skip
    env.step(NUMBER["spf+0.5+open"])
    assert knobs_in_force(env)["reserve"] > 0


def test_there_are_forty_five_knobs_and_the_first_is_neutral():
    assert len(KNOBS) == 45
    assert KNOBS[0].name == "fcfs+0+open"
