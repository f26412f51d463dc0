"""When the agent is asked."""

import numpy as np
import pytest
from playing import CLUSTERS, SPLIT, make, make_split, play, sampled, toy

from sgym import Simulator
from sgym.core import engine, metric
from sgym.core.layout import DONE, ROUTE
from sgym.policies import trigger
from sgym.policies.view import InstanceView


def asked(decision, scenario, **arguments):
    """Times at which an agent that does nothing is asked."""
    env = make(decision=decision, scenario=scenario, **arguments)
    times = []
    _, info = env.reset(options={"workload_seed": 3})
    over = False
    while not over:
        times.append(info["time"])
        *_, terminated, truncated, info = env.step(0)
        over = terminated or truncated
    return times


def batches(scenario):
    """Every batch of the stock engine: time, running, waiting, free blocks, victims so far."""
    simulator = Simulator(scenario, seed=3)
    found = []
    while simulator.decision.kind != "done":
        view, record = simulator.decision.view, simulator.state.instances[0]
        queues = [r.id for r in view.running], [r.id for r in view.waiting]
        slack = {r.id: r.slack for r in [*view.running, *view.waiting]}
        known = {r.id: r.known for r in view.waiting}
        victims = int(record["preemptions"])
        found.append((view.now, *queues, view.free_blocks, victims, slack, known))
        simulator.step()
    return found


def has_choice(batch):
    _, running, waiting, free, *_ = batch
    return len(running) + len(waiting) >= 2 and (waiting or free < len(running))


SCENARIO = toy(workload__rate=7.0, episode__duration=5.0)


def test_iteration_asks_before_every_batch_with_a_choice():
    expected = [batch[0] for batch in batches(SCENARIO) if has_choice(batch)]
    assert asked("iteration", SCENARIO) == expected
    assert len(expected) < len(batches(SCENARIO))


def test_event_asks_when_a_request_came_or_went_memory_ran_short_or_a_reader_nearly_dry():
    expected = []
    seen, before, short, victims, looked, endangered = set(), set(), False, 0, 0.0, 0
    for batch in batches(SCENARIO):
        now, running, waiting, free, preemptions, slack, _ = batch
        here = set(running) | set(waiting)
        news = bool(here - seen) or bool(before - here) or preemptions > victims
        news |= free < len(running) and not short
        news |= any(looked < now + slack[r] - trigger.DRY_LEAD <= now for r in waiting)
        nearly_dry = sum(slack[r] <= trigger.DRY_LEAD for r in running)
        news |= nearly_dry > endangered
        if has_choice(batch) and news:
            expected.append(now)
        seen |= here
        before, short, victims = here, free < len(running), preemptions
        looked, endangered = now, nearly_dry
    assert asked("event", SCENARIO) == expected
    assert len(expected) < len(asked("iteration", SCENARIO))


def test_admission_asks_only_when_a_waiting_request_would_fit():
    times = dict.fromkeys(asked("admission", SCENARIO))
    for now, running, waiting, free, _, _, known in batches(SCENARIO):
        needed = [-(-known[r] // 16) for r in waiting]
        if now in times:
            assert min(needed) <= free
            assert len(running) < 6
        elif waiting and len(running) < 6 and len(running) + len(waiting) >= 2:
            assert min(needed) > free


def test_interval_asks_no_more_often_than_that():
    times = asked("interval", SCENARIO, interval=0.25)
    assert np.diff(times).min() >= 0.25
    assert len(times) > 5


def reasons(env):
    return int(env._desk.triggers["reasons"][0])


def test_the_observation_says_why():
    env = make("slots", scenario=SCENARIO)
    neutral = np.zeros(9, int)
    env.reset(seed=0)
    found = set()
    for observation, *_, info in play(env, lambda env, info: neutral):
        names = [feature.name for feature in env.seen["cluster"]]
        bits = {n: observation["cluster"][names.index(n)] for n in
                ("arrived", "finished", "pressure", "dry")}  # fmt: skip
        found |= {name for name, bit in bits.items() if bit}
        if info["time"] < 5.0:
            assert any(bits.values())
    assert found == {"arrived", "finished", "pressure", "dry"}


def quiet(num_waiting):
    """An engine with one running request, and triggers that have seen all of it."""
    simulator = Simulator(toy(workload__rate=200.0, engine__max_num_seqs=2, slo__classes=[
        {"token_time": 10.0}]), seed=0)  # fmt: skip
    state = simulator.state
    triggers = trigger.fresh_triggers("event", 0.0, 1, 0.0)
    while state.instances["num_waiting"][0] < num_waiting:
        engine.iterate(state)
        while engine.advance(state) == ROUTE:
            engine.route(state, 0)
    trigger.is_due(state, triggers, 0)
    trigger.note_batch(state.instances[0], triggers[0])
    trigger.note_decision(triggers[0], state.cluster[0]["clock"])
    return state, triggers


def test_an_edge_is_told_once():
    state, triggers = quiet(3)
    assert not trigger.is_due(state, triggers, 0)
    state.instances["num_preempted"] = 0
    triggers["num_waiting"] -= 1  # as if one had come
    assert trigger.is_due(state, triggers, 0)
    assert triggers["reasons"][0] == trigger.ARRIVAL
    trigger.note_batch(state.instances[0], triggers[0])
    trigger.note_decision(triggers[0], 0.0)
    assert not trigger.is_due(state, triggers, 0)


def test_a_waiting_reader_who_is_about_to_run_dry_is_told_of():
    state, triggers = quiet(3)
    waiting = InstanceView(state, 0).waiting[-1]
    state.cluster["clock"] = waiting.due - trigger.DRY_LEAD - 0.01
    trigger.is_due(state, triggers, 0)
    trigger.note_decision(triggers[0], state.cluster[0]["clock"])
    state.cluster["clock"] = waiting.due - trigger.DRY_LEAD
    assert trigger.is_due(state, triggers, 0)
    assert triggers["reasons"][0] == trigger.DRY


@pytest.mark.parametrize(
    ("look", "slo"),
    [
        (trigger.look_in_heap, {}),
        (trigger.look_in_heap, {"slo__origin": "first_token"}),
        (trigger.waiting_runs_dry, {"slo__clamp": False}),  # chooses the walk there
    ],
)
@pytest.mark.parametrize("instances", [1, 3])
def test_the_heap_of_dry_times_tells_of_the_same_readers_as_a_walk_along_the_queue(
    instances, look, slo
):
    env = make("slots", decision="iteration", scenario=toy(
        cluster__instances=instances, workload__rate=20.0, **slo))  # fmt: skip
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    told, looks, over = 0, 0, False
    while not over:
        state, triggers = env._simulator.state, env._desk.triggers
        now, unheaped = env._simulator.now, state._replace(cluster=state.cluster.copy())
        unheaped.cluster["track"] = 0
        for i in range(instances):
            for looked in np.linspace(now - 0.9 * trigger.DRY_LEAD, now, 4)[1:]:
                walk, heap = triggers[i].copy(), triggers[i].copy()
                walk["looked"] = heap["looked"] = looked
                found = trigger.waiting_runs_dry(unheaped, walk, i, now)
                assert look(state, heap, i, now) == found
                assert heap["next_dry"] == walk["next_dry"]
                told, looks = told + found, looks + 1
        _, _, terminated, truncated, info = env.step(env.action_space.sample(info["action_mask"]))
        over = terminated or truncated
    assert 0 < told < looks


SWAP = {"engine": SPLIT["engine"] | {"preemption_mode": "swap"}}
RUNNING_DRY = {
    "one instance": lambda: make("slots", decision="iteration"),
    "due from the first token": lambda: make("slots", scenario=toy(slo__origin="first_token")),
    "batches ahead": lambda: make("slots", scenario=toy(engine__async_scheduling=True)),
    "all of a cluster": CLUSTERS["slots, all"],
    "swapping": lambda: make_split("slots", scenario=SPLIT | SWAP),
}


@pytest.mark.parametrize("kind", RUNNING_DRY)
def test_no_running_reader_runs_dry_before_the_time_that_is_kept_for_its_instance(kind):
    env = RUNNING_DRY[kind]()
    waits = []

    def look(env, info):
        state = env._simulator.state
        for i, instance in enumerate(state.instances):
            running = state.requests[state.running[i, : instance["num_running"]]]
            waits.extend(metric.dry_time(request) - instance["next_dry"] for request in running)
            now = state.cluster["clock"][0]
            count = sum(trigger.endangered_from(request) <= now for request in running)
            assert trigger.num_endangered(state, instance, i, now) == count
        return sampled(env, info)

    for seed in range(3):
        play(env, look, seed)
    assert min(waits) == 0.0


def test_short_memory_is_told_of_when_it_becomes_short():
    state, triggers = quiet(3)
    state.instances["free_blocks"] = 0
    assert trigger.is_due(state, triggers, 0)
    assert triggers["reasons"][0] == trigger.PRESSURE
    trigger.note_decision(triggers[0], 0.0)
    assert not trigger.is_due(state, triggers, 0)


@pytest.mark.parametrize("instances", [1, 3])
def test_every_decision_is_of_an_instance_with_a_choice(instances):
    env = make("slots", decision="event", scenario=toy(
        cluster__instances=instances, workload__rate=20.0))  # fmt: skip
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    who = set()
    while int(env._simulator.state.cluster[0]["decision"]) != DONE:
        who.add(i := int(env._simulator.state.cluster[0]["instance"]))
        record = env._simulator.state.instances[i]
        assert record["num_running"] + record["num_waiting"] >= 2
        info = env.step(env.action_space.sample(mask=info["action_mask"]))[4]
    assert who == set(range(instances))


def test_admission_is_never_due_where_all_sequences_run():
    state, triggers = quiet(3)
    triggers["kind"] = trigger.ADMISSION
    assert trigger.is_due(state, triggers, 0)
    state.engines["max_num_seqs"] = state.instances["num_running"]
    assert not trigger.is_due(state, triggers, 0)


def test_admission_counts_what_orca_would_reserve():
    scenario = toy(policy__name="orca", engine__max_num_batched_tokens=256, workload__rate=50.0)
    env = make(decision="admission", scenario=scenario)
    env.reset(seed=0)
    over = False
    while not over:
        busy = int(env._simulator.state.instances["num_running"][0])
        assert busy == 0  # one longest sequence fills the memory
        over = env.step(0)[3]
