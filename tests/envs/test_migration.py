"""The verb `migrate` and its destination."""

import numpy as np
from playing import ALL, SPLIT, make, make_split, play, toy

from sgym import HOLD, Simulator, Steering
from sgym.core.layout import HANDOFF, ROUTE, RUNNING, SCHEDULE

MIGRATE = 5
PAIR = toy(cluster__instances=2, cluster__migration={"last_blocks": 2}, workload__rate=20.0)


def state_of(env):
    return env._simulator.state


def steps_to_a_running_request(env):
    """Play neutrally until a request may migrate; the place of its slot."""
    neutral = np.zeros(env.action_space.shape, int)
    _, info = env.reset(seed=0)
    while True:
        for slot, mask in enumerate(info["action_mask"][:8]):
            r = env._desk.slots[slot]
            if mask[MIGRATE] and state_of(env).requests["phase"][r] == RUNNING:
                return slot, info
        info = env.step(neutral)[4]


def pair():
    return make("slots", scenario=PAIR, controls=["schedule", "migrate"], decision="iteration")


def test_a_running_request_goes_on_at_the_destination():
    env = pair()
    slot, info = steps_to_a_running_request(env)
    source = int(state_of(env).cluster[0]["instance"])
    r = int(env._desk.slots[slot])
    assert info["action_mask"][9].tolist() == [int(source != 0), int(source != 1)]
    action = np.zeros(10, int)
    action[slot], action[9] = MIGRATE, 1 - source
    assert env.step(action)[4]["invalid_actions"] == 0
    request = state_of(env).requests[r]
    while request["migrations"] == 0:
        env.step(np.zeros(10, int))
    assert request["instance"] == 1 - source
    assert state_of(env).cluster["migrations"] == 1


def test_a_waiting_request_joins_the_other_queue_at_once():
    env = pair()
    neutral = np.zeros(10, int)
    _, info = env.reset(seed=0)
    while True:
        phases = state_of(env).requests["phase"][env._desk.slots]
        found = [k for k in range(8) if info["action_mask"][k][MIGRATE] and phases[k] == 1]
        if found and env._desk.slots[found[0]] >= 0:
            break
        info = env.step(neutral)[4]
    slot, source = found[0], int(state_of(env).cluster[0]["instance"])
    r = int(env._desk.slots[slot])
    neutral[slot], neutral[9] = MIGRATE, 1 - source
    env.step(neutral)
    assert state_of(env).requests["instance"][r] == 1 - source


def test_a_destination_that_is_not_offered_changes_nothing_and_is_counted():
    env = pair()
    slot, _ = steps_to_a_running_request(env)
    source = int(state_of(env).cluster[0]["instance"])
    here = env.snapshot()
    expected = env.step(np.zeros(10, int))
    env.restore(here)
    action = np.zeros(10, int)
    action[slot], action[9] = MIGRATE, source
    found = env.step(action)
    assert found[4]["invalid_actions"] == (1 if source == 0 else 2)
    assert found[1] == expected[1]
    assert found[0]["requests"].tolist() == expected[0]["requests"].tolist()


def lonely(decision, alone=False):
    """Queue lengths at each decision where a single request is served, and may migrate.

    Args:
        decision: when it is asked.
        alone: whether the other instance takes none after the first decision.
    """
    scenario = toy(cluster__instances=2, workload__rate=0.5, episode__duration=6.0)
    env = make("slots", scenario=scenario, controls=["schedule", "migrate"], decision=decision)
    _, info = env.reset(options={"workload_seed": 1})
    found, over = [], False
    while not over:
        state = state_of(env)
        record = state.instances[int(state.cluster[0]["instance"])]
        offers = any(mask[MIGRATE] for mask in info["action_mask"][:8])
        found.append((int(record["num_running"]), int(record["num_waiting"]), offers))
        if alone:
            env._simulator.set_role(1, "prefill", drain=False)
        *_, terminated, truncated, info = env.step(np.zeros(10, int))
        over = terminated or truncated
    return found


def test_a_single_running_request_that_may_migrate_is_a_choice():
    found = lonely("iteration")
    assert (1, 0, True) in found
    assert all(offers for _, _, offers in found)


def test_a_single_request_that_may_migrate_is_told_of_when_it_comes():
    found = lonely("event")
    assert found[0] == (0, 1, True)
    assert len(found) < len(lonely("iteration"))


def test_a_single_request_that_no_other_instance_takes_is_no_choice():
    found = lonely("iteration", alone=True)
    assert found[0] == (0, 1, True)
    assert (1, 0) not in [queues[:2] for queues in found]


def test_who_migrates_is_asked_only_where_it_can_change_something():
    env = make_split("slots", controls=["schedule", "migrate"], decision="iteration")
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    only_moves, over = 0, False
    while not over:
        state = state_of(env)
        record = state.instances[int(state.cluster[0]["instance"])]
        running, waiting = int(record["num_running"]), int(record["num_waiting"])
        short = record["free_blocks"] < running
        if running + waiting < 2 or not (waiting or short):
            assert any(mask[MIGRATE] for mask in info["action_mask"][:8])
            only_moves += 1
        *_, over, info = env.step(env.action_space.sample(mask=info["action_mask"]))
    assert only_moves > 10


def test_an_instance_that_cannot_serve_a_request_to_its_end_turns_it_away():
    pools = [{}, {"engine": {"num_gpu_blocks": 6}}]  # 80 tokens
    scenario = PAIR | {"cluster": PAIR["cluster"] | {"pools": pools, "instances": 1}}
    env = make("slots", scenario=scenario, controls=["schedule", "migrate"], decision="iteration")
    turned_away, over = 0, False
    _, info = env.reset(seed=0)
    while not over:
        state, action = state_of(env), np.zeros(10, int)
        offered = [k for k in range(8) if info["action_mask"][k][MIGRATE]]
        long = [
            k for k in offered
            if state.requests["prompt"][r := env._desk.slots[k]] + state.requests["output"][r] > 81
        ]  # fmt: skip
        if int(state.cluster[0]["instance"]) == 0 and long:
            request = state.requests[env._desk.slots[long[0]]]
            assert request["prompt"] + request["generated"] <= 80
            action[long[0]], action[9] = MIGRATE, 1
            turned_away += 1
        *_, over, info = env.step(action)
        assert info["invalid_actions"] == 0
    assert turned_away > 3
    assert state_of(env).cluster["migrations"] == state_of(env).cluster["aborted"] == 0


def test_without_the_control_nothing_may_migrate():
    env = make_split("slots", controls=["schedule", "handoff"], decision="iteration")
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    over = False
    while not over:
        assert all(mask[MIGRATE] == 0 for mask in info["action_mask"][:8])
        if int(state_of(env).cluster[0]["decision"]) == SCHEDULE:
            assert info["action_mask"][9].tolist() == [1, 0, 0]
        *_, over, info = env.step(env.action_space.sample(mask=info["action_mask"]))
    assert state_of(env).cluster["migrations"] == 0


def test_a_decode_instance_sends_to_decode_instances_and_a_prefill_one_to_prefill_ones():
    pools = [{"role": "prefill", "instances": 2}, {"role": "decode", "instances": 2}]
    scenario = SPLIT | {"cluster": SPLIT["cluster"] | {"pools": pools}}
    env = make_split("slots", scenario=scenario, controls=ALL, decision="iteration")
    offered = {0: set(), 1: set(), 2: set(), 3: set()}
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    over = False
    while not over:
        cluster = state_of(env).cluster[0]
        if cluster["decision"] == SCHEDULE and env._desk.destinations.any():
            offered[int(cluster["instance"])] |= set(np.flatnonzero(env._desk.destinations))
        *_, over, info = env.step(env.action_space.sample(mask=info["action_mask"]))
    assert offered[2] == {3}
    assert offered[3] == {2}
    assert offered[0] <= {1}
    assert offered[1] <= {0}


def by_hand(env, action):
    """The answer of a Simulator that an action of `slots` stands for."""
    cluster = state_of(env).cluster[0]
    if cluster["decision"] in (ROUTE, HANDOFF):
        return int(action[9])
    steering = Steering(token_budget=64 >> int(action[8]))
    slots, phase = env._desk.slots, state_of(env).requests["phase"]
    running = [k for k in range(8) if slots[k] >= 0 and phase[slots[k]] == RUNNING]
    for k in running + [k for k in (4, 5, 6, 7, 3, 2, 1, 0) if k not in running]:  # in queue order
        verb, r = action[k], int(slots[k])
        if verb == 1:
            steering.preempt.append(r)
        elif verb == 2:
            steering.waiting_score[r] = steering.running_score[r] = 1.0
        elif verb == 3:
            steering.waiting_score[r] = HOLD
        elif verb == MIGRATE:
            steering.migrate_to[r] = int(action[9])
    return steering


def test_all_of_it_equals_a_simulator_that_is_stepped_by_hand():
    env = make_split("slots", controls=ALL, decision="iteration")
    simulator = Simulator(env.scenario, seed=0)

    def choose(env, info):
        action = env.action_space.sample(mask=info["action_mask"])
        here = state_of(env).cluster[0]
        while not at_same_point(simulator, here):
            kind = simulator.decision.kind
            simulator.step(0 if kind == "route" else None, True, True)
        answers.append(by_hand(env, action))
        simulator.step(answers[-1], True, True)
        return action

    answers = []
    simulator.reset(route=True, handoff=True)
    play(env, choose, options={"workload_seed": 0})
    while simulator.decision.kind != "done":
        simulator.step(0 if simulator.decision.kind == "route" else None, True, True)
    mine, other = state_of(env), simulator.state
    for field in ("phase", "instance", "generated", "finish", "migrations", "preemptions"):
        assert np.array_equal(mine.requests[field], other.requests[field], equal_nan=True), field
    assert mine.cluster["migrations"] > 3
    assert mine.cluster["handoffs"] == other.cluster["handoffs"] > 10


def at_same_point(simulator, cluster):
    """Whether a simulator waits for the decision that another one waits for."""
    here = simulator.state.cluster[0]
    names = (
        "iterations",
        "decision",
        "clock",
        "request" if here["decision"] != SCHEDULE else "instance",
    )
    return all(here[name] == cluster[name] for name in names)
