"""Routing and handing off: what actions do, which are valid, who is asked."""

import numpy as np
import pytest
from playing import ALL, SPLIT, UNEQUAL, make, make_router, make_split, play, toy

from sgym import Simulator, simulate
from sgym.core.layout import DONE, FINISHED, HANDOFF, NONE, REFUSED, ROUTE
from sgym.policies.view import ClusterView

EQUAL = toy(cluster__instances=3, workload__rate=25.0)


def state_of(env):
    return env._simulator.state


def decision(env):
    return int(state_of(env).cluster[0]["decision"])


def same_requests(one, other):
    """Whether all requests had the same life, order keys apart."""
    fields = ["phase", "instance", "generated", "lateness", "first_token", "finish", "computed"]
    return all(np.array_equal(one[f], other[f], equal_nan=True) for f in fields)


def least_outstanding(env, info=None):
    """What the built-in router of this name answers."""
    instances = ClusterView(state_of(env)).instances
    return min(instances, key=lambda view: (view.num_running + view.num_waiting, view.index)).index


@pytest.mark.parametrize("policy", ["vllm", "spf", "vtc", "srpt"])
def test_routing_like_a_built_in_router_is_that_router(policy):
    scenario = EQUAL | {"policy": {"name": policy}}
    cluster = scenario["cluster"] | {"router": "least_outstanding"}
    expected = simulate(scenario | {"cluster": cluster}, seed=4)
    env = make_router(scenario=scenario)
    steps = play(env, least_outstanding, options={"workload_seed": 4})
    assert same_requests(state_of(env).requests, expected.state.requests)
    assert len(steps) == (state_of(env).requests["phase"] != 0).sum()


def test_routing_goes_on_after_a_warm_start_where_the_policy_left_off():
    scenario = toy(cluster__instances=3, workload__rate=25.0, episode__warm_start=2.0)
    scenario |= {"policy": {"name": "vtc"}}
    cluster = scenario["cluster"] | {"router": "least_outstanding"}
    expected = simulate(scenario | {"cluster": cluster}, seed=4)
    env = make_router(scenario=scenario | {"cluster": cluster})
    play(env, least_outstanding, options={"workload_seed": 4})
    assert same_requests(state_of(env).requests, expected.state.requests)


def test_the_router_is_asked_once_for_every_arrival_the_first_included():
    env = make_router(scenario=EQUAL)
    env.reset(seed=0)
    asked, over = [], False
    while not over:
        asked.append(int(state_of(env).cluster[0]["request"]))
        over = env.step(len(asked) % 3)[3]
    assert asked == list(range(len(asked)))
    assert asked[-1] + 1 == (state_of(env).requests["phase"] != 0).sum()
    assert state_of(env).requests["instance"][:6].tolist() == [1, 2, 0, 1, 2, 0]


def test_the_mask_of_a_route_knows_the_prompt_and_not_the_output():
    lengths = [{"prompt": 90, "output": 60, "prompt_sigma": 0.5, "output_sigma": 0.5}]
    env = make_router(scenario=UNEQUAL, overrides={"workload.lengths": lengths})
    env.action_space.seed(0)
    _, info = env.reset(seed=2)
    asked, over = set(), False
    while not over:
        if decision(env) == ROUTE:
            asked.add(int(state_of(env).cluster[0]["request"]))
            assert info["action_mask"].tolist() == [1, 1, 1]
        *_, over, info = env.step(env.action_space.sample(mask=info["action_mask"]))
    requests = state_of(env).requests
    prompt, total = requests["prompt"], requests["prompt"] + requests["output"] - 1
    came, small = requests["phase"] != 0, requests["instance"] > 0
    # 10 blocks of 16 tokens on the small ones: a longer prompt has to go to the first
    assert asked == set(np.flatnonzero(came & (prompt <= 160)).tolist())
    assert (requests["instance"][came & (prompt > 160)] <= 0).all()  # -1: too long for all
    refused = requests["phase"] == REFUSED
    assert np.array_equal(refused & small, came & small & (total > 160))
    assert (refused & small).sum() > 5


def test_a_built_in_router_knows_the_prompt_and_not_the_output():
    pools = [{"engine": {"num_gpu_blocks": 11}}, {}]  # 160 and 320 tokens
    scenario = toy(cluster__pools=pools)
    lengths = [(100, 61), (100, 61), (100, 62), (161, 1)]
    rows = [{"arrival": 0.1 * k, "prompt": p, "output": o} for k, (p, o) in enumerate(lengths)]
    requests = simulate(scenario, "vllm", arrivals=rows).state.requests
    assert requests["instance"].tolist() == [0, 1, 0, 1]
    assert requests["phase"].tolist() == [FINISHED, FINISHED, REFUSED, FINISHED]


def test_an_instance_that_drains_is_not_offered():
    env = make_router(scenario=EQUAL)
    env.reset(seed=0)
    for _ in range(10):
        env.step(1)
    env._simulator.set_role(1, "decode", drain=True)
    _, info = env.restore(env.snapshot())
    assert info["action_mask"].tolist() == [1, 0, 1]


def test_a_route_against_the_mask_is_that_of_the_scenario_and_counted():
    env = make_router(scenario=EQUAL)  # round robin
    env.reset(seed=0)
    env._simulator.set_role(2, "decode", drain=False)
    env.restore(env.snapshot())
    first = int(state_of(env).cluster[0]["request"])
    counts = [env.step(2)[4]["invalid_actions"] for _ in range(4)]
    assert counts == [1, 1, 1, 1]
    assert state_of(env).requests["instance"][first : first + 4].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("action", ["slots", "scores", "knobs", "index"])
def test_neutral_actions_that_follow_the_rule_are_the_stock_engine(action):
    expected = simulate(SPLIT, "vllm", seed=4)
    env = make_split(action, base="fcfs")
    size = env.action_space.shape[0] if env.action_space.shape else 1

    def follow(env, info):
        taken = np.zeros(size)
        if decision(env) != HANDOFF:
            return int(taken[0]) if action == "knobs" else taken
        instances = state_of(env).instances
        chosen = 1 if instances["free_blocks"][1] >= instances["free_blocks"][2] else 2
        if action == "knobs":
            return chosen
        taken[-1 if action == "slots" else -3 + chosen] = chosen if action == "slots" else 1.0
        return taken

    steps = play(env, follow, options={"workload_seed": 4})
    assert state_of(env).cluster["handoffs"] > 20
    assert same_requests(state_of(env).requests, expected.state.requests)
    assert sum(step[4]["invalid_actions"] for step in steps) == 0


def test_a_hand_off_goes_where_the_action_says_or_stays():
    env = make_split("route", controls=["handoff"])
    _, info = env.reset(seed=0)
    chosen, over = {}, False
    while not over:
        cluster = state_of(env).cluster[0]
        assert info["action_mask"].tolist() == [1, 1, 1]  # 0: it decodes where it was prefilled
        chosen[int(cluster["request"])] = len(chosen) % 3
        *_, over, info = env.step(len(chosen) % 3 - 1 if len(chosen) % 3 else 2)
    requests = state_of(env).requests
    # the n-th decision (from 1) named n % 3 - 1, or 2
    named = {r: (place % 3 - 1 if place % 3 else 2) for place, r in enumerate(chosen, 1)}
    assert len(named) > 20
    for r, j in named.items():
        assert requests["instance"][r] == j
        assert requests["stays"][r] == (1 if j == 0 else 0)


def test_a_hand_off_to_an_instance_that_cannot_serve_it_to_its_end_stays():
    pools = [{"role": "prefill"}, {"role": "decode", "instances": 2, "engine": {
        "num_gpu_blocks": 6}}]  # fmt: skip
    scenario = SPLIT | {"cluster": SPLIT["cluster"] | {"pools": pools}}
    env = make_split("route", scenario=scenario, controls=["handoff"])
    _, info = env.reset(seed=0)
    over, stayed = False, 0
    while not over:
        request = state_of(env).requests[int(state_of(env).cluster[0]["request"])]
        assert info["action_mask"].tolist() == [1, 1, 1]
        assert request["prompt"] + request["generated"] <= 80  # else nobody is asked
        *_, over, info = env.step(2)
        assert info["invalid_actions"] == 0
        fits = request["prompt"] + request["output"] - 1 <= 80
        assert request["instance"] == (2 if fits else 0)
        stayed += not fits
    assert stayed > 3


def test_a_hand_off_against_the_mask_is_that_of_the_scenario():
    two = SPLIT | {"cluster": SPLIT["cluster"] | {"pools": [
        {"role": "prefill", "instances": 2}, {"role": "decode", "instances": 2}]}}  # fmt: skip
    env = make_split("knobs", scenario=two, controls=["schedule", "handoff"])
    env.reset(seed=0)
    while decision(env) != HANDOFF:
        env.step(0)
    cluster = state_of(env).cluster[0]
    r, own = int(cluster["request"]), int(cluster["instance"])
    here = env.snapshot()
    mask = env.action_masks()
    assert mask.tolist() == [own == 0, own == 1, True, True] + [False] * 41
    for wrong in (1 - own, 7, 44):
        env.restore(here)
        assert env.step(wrong)[4]["invalid_actions"] == 1
        assert state_of(env).requests["instance"][r] == 2  # both are empty: the first


def test_verbs_do_not_apply_where_a_request_is_placed():
    env = make_split("slots", controls=["schedule", "route", "handoff"])
    _, info = env.reset(seed=0)
    assert decision(env) == HANDOFF  # a single prefill instance: routes are forced
    assert [mask.tolist() for mask in info["action_mask"][:8]] == [[1, 0, 0, 0, 0, 0]] * 8
    assert info["action_mask"][8].tolist() == [1, 0, 0, 0]
    assert info["action_mask"][9].tolist() == [1, 1, 1]
    r = int(state_of(env).cluster[0]["request"])
    assert env._desk.slots.tolist() == [r] + [NONE] * 7
    assert env.step(np.array([1, 0, 0, 0, 0, 0, 0, 3, 2, 1]))[4]["invalid_actions"] == 3
    assert state_of(env).requests["instance"][r] == 1


def test_the_highest_number_of_an_open_instance_is_where_scores_send_a_request():
    env = make_split("scores", controls=["schedule", "handoff"])
    env.reset(seed=0)
    while decision(env) != HANDOFF:
        env.step(np.zeros(11))
    here, r = env.snapshot(), int(state_of(env).cluster[0]["request"])
    for numbers, expected in (((-1, 0.5, 0.6), 2), ((-1, 0.6, 0.6), 1), ((0.1, 0, -1), 0)):
        env.restore(here)
        assert env.step(np.array([*np.ones(8), *numbers]))[4]["invalid_actions"] == 0
        assert state_of(env).requests["instance"][r] == expected


def test_what_is_not_controlled_is_never_asked():
    kinds = {}
    for name, env in {
        "schedule": make_split("slots", controls=["schedule"]),
        "handoff": make_split("route", controls=["handoff"]),
        "route": make("slots", scenario=EQUAL, controls=["schedule", "route"]),
        "all": make_split("slots", controls=ALL, scenario=SPLIT | {"cluster": SPLIT["cluster"] | {
            "pools": [{"role": "prefill", "instances": 2}, {"role": "decode"}]}}),
    }.items():  # fmt: skip
        env.action_space.seed(0)
        _, info = env.reset(seed=0)
        kinds[name], over = set(), False
        while not over:
            kinds[name].add(decision(env))
            *_, over, info = env.step(env.action_space.sample(mask=info["action_mask"]))
        assert decision(env) == DONE
    assert kinds == {"schedule": {2}, "handoff": {4}, "route": {1, 2}, "all": {1, 2, 4}}


def test_requests_that_an_agent_hands_off_have_no_score_of_the_scenarios_policy():
    env = make_split("scores", scenario=SPLIT | {"policy": {"name": "spf"}})
    env.reset(seed=0)
    for _ in range(60):
        env.step(np.zeros(11))
    assert (state_of(env).requests["waiting_score"][5:] == 0).all()


def test_a_router_of_a_split_cluster_leaves_hand_offs_to_the_scenario():
    scenario = SPLIT | {"cluster": SPLIT["cluster"] | {"pools": [
        {"role": "prefill", "instances": 2}, {"role": "decode"}]}}  # fmt: skip
    env = make_router(scenario=scenario)
    steps = play(env)
    assert state_of(env).cluster["handoffs"] > 10
    assert (state_of(env).requests["phase"] != 0).sum() == len(steps)
    mask = steps[0][4]["action_mask"]
    assert mask.tolist() == [1, 1, 0]


def test_a_simulator_can_be_reset_to_its_first_arrival():
    simulator = Simulator(EQUAL, seed=0)
    assert simulator.reset(route=True).kind == "route"
    assert simulator.decision.view.request.id == 0
