"""What an agent sees of a cluster, against the state."""

import numpy as np
import pytest
from playing import ALL, SPLIT, make, make_router, make_split, toy

from sgym.core.layout import HANDOFF, RUNNING, SCHEDULE, WAITING
from sgym.envs.features import TABLES

NEW = ["role_mixed", "role_prefill", "role_decode", "draining", "loading", "leaving", "sends",
       "receives", "swapped", "outstanding", "prefill_time", "cached", "in_flight"]  # fmt: skip


def rows(env, observation, table):
    """A dict of numbers before scaling, for each row of a table."""
    chosen = env.seen[table]
    found = []
    for at in range(0, len(observation[table]), len(chosen)):
        row = observation[table][at : at + len(chosen)]
        found.append({f.name: unscaled(f, float(x)) for f, x in zip(chosen, row, strict=True)})
    return found


def unscaled(feature, x):
    return feature.scale * x / (1 - abs(x)) if feature.squash else x


def moments(env, wanted, seed=0):
    """(observation, state) of every decision of a kind, under random actions."""
    env.action_space.seed(seed)
    observation, info = env.reset(seed=seed)
    over = False
    while not over:
        state = env._simulator.state
        if int(state.cluster[0]["decision"]) == wanted:
            yield observation, state
        observation, _, _, over, info = env.step(env.action_space.sample(info.get("action_mask")))


def test_the_instances_of_a_cluster():
    scenario = SPLIT | {"engine": SPLIT["engine"] | {"preemption_mode": "swap"}}
    env = make_split("slots", scenario=scenario, controls=ALL, decision="iteration")
    largest = dict.fromkeys(NEW, 0.0)
    for observation, state in moments(env, SCHEDULE):
        for i, row in enumerate(rows(env, observation, "instances")):
            instance = state.instances[i]
            used = 20 - int(instance["free_blocks"])
            expected = {
                "role_mixed": 0,
                "role_prefill": i == 0,
                "role_decode": i > 0,
                "draining": 0,
                "loading": instance["num_loading"] / 6,
                "leaving": instance["num_leaving"],
                "sends": instance["num_out"],
                "receives": instance["num_in"],
                "swapped": instance["num_swapped"],
                "outstanding": instance["waiting_tokens"] + 16 * used,
                # a chunk of 64 tokens: 10 ms, 0.1 ms and 1 us of context for each token
                "prefill_time": instance["waiting_tokens"] * (0.01 / 64 + 1e-4 + 1e-6),
                "cached": 0,
                "in_flight": instance["num_running"]
                + instance["num_waiting"]
                + instance["num_loading"],
            }
            for name, value in expected.items():
                assert row[name] == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
                largest[name] = max(largest[name], row[name])
    never = {"role_mixed", "draining", "cached"}
    assert {name for name, value in largest.items() if value == 0} == never


def test_draining_and_mixed_roles_are_seen():
    env = make_router(scenario=toy(cluster__instances=3))
    env.reset(seed=0)
    for _ in range(5):
        env.step(1)
    env._simulator.set_role(1, "prefill", drain=True)
    observation, _ = env.restore(env.snapshot())
    found = rows(env, observation, "instances")
    assert [row["draining"] for row in found] == [0, 1, 0]
    assert [row["role_mixed"] for row in found] == [1, 1, 1]


def test_what_prefix_caches_hold_of_an_arrival_is_seen():
    scenario = toy(
        cluster__instances=2,
        engine__enable_prefix_caching=True,
        workload__prefixes={"system": {"count": 1, "tokens": 64}},
        engine__num_gpu_blocks=201,
    )
    env = make_router(scenario=scenario)
    env.reset(seed=0)
    for _ in range(20):  # all to the second instance, which thus has the system prompt cached
        observation, *_ = env.step(1)
    request = env._simulator.state.requests[int(env._simulator.state.cluster[0]["request"])]
    found = [row["cached"] for row in rows(env, observation, "instances")]
    assert found == pytest.approx([0.0, 64 / request["prompt"]])


KNOWN = ["role_mixed", "role_prefill", "role_decode", "draining", "in_flight"]
"""What whoever places requests knows of an instance without a report, caches apart."""


def seen_of_instances(env, observation):
    """For each instance: what it reports, what is known without, and in how far it asks."""
    found = rows(env, observation, "instances")
    known = [[row.pop(name) for name in KNOWN] for row in found]
    return found, known, [row.pop("asks") for row in found]


def test_a_router_sees_what_instances_last_reported_and_its_own_counts():
    scenario = toy(cluster__instances=2, cluster__staleness=1.0, workload__rate=30.0)
    env = make_router(scenario=scenario)
    observation, info = env.reset(seed=0)
    (last, _, _), second, over, changes, in_flight = seen_of_instances(env, observation), 0, 0, 0, 0
    assert last[0]["free"] == last[1]["free"] == 1
    while not over:
        observation, *_, over, info = env.step(1)
        reported, known, _ = seen_of_instances(env, observation)
        if over:
            break
        if reported != last:  # nothing between the first decisions of two seconds
            assert int(info["time"]) > second
            assert reported[0]["free"] == 1
            assert reported[1]["free"] < 0.5
            changes += 1
        last, second = reported, int(info["time"])
        instance = env._simulator.state.instances[1]
        expected = instance["num_running"] + instance["num_waiting"]
        assert known[1][-1] == pytest.approx(expected, rel=1e-4)
        in_flight = max(in_flight, expected)
    assert changes == 2
    assert in_flight > 20


def test_an_instance_that_forms_a_batch_sees_itself_as_it_is_and_others_as_reported():
    cluster = SPLIT["cluster"] | {"staleness": 100.0}
    env = make_split("slots", scenario=SPLIT | {"cluster": cluster}, decision="iteration")
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    kinds, most, over = set(), 0, False
    while not over:
        state = env._simulator.state
        kind, i = int(state.cluster[0]["decision"]), int(state.cluster[0]["instance"])
        kinds.add(kind)
        found, known, asks = seen_of_instances(env, observation)
        assert asks == [j == i for j in range(3)]
        for j, row in enumerate(found):
            knows = kind == SCHEDULE and j == i
            instance = state.instances[j]
            free, waits = (
                (instance["free_blocks"] / 20, instance["num_waiting"]) if knows else (1, 0)
            )
            assert row["free"] == pytest.approx(free)
            assert row["waiting"] == pytest.approx(waits, rel=1e-4)
            assert known[j][:3] == [0, j == 0, j > 0]
            most = max(most, int(waits))
        observation, *_, over, info = env.step(env.action_space.sample(info["action_mask"]))
    assert kinds == {SCHEDULE, HANDOFF}
    assert most > 3


def test_where_the_kv_of_a_request_is():
    env = make_split("slots", controls=ALL, decision="iteration")
    seen = set()
    for observation, state in moments(env, SCHEDULE):
        for r, row in zip(env._desk.slots, rows(env, observation, "requests"), strict=True):
            if r < 0:
                continue
            request = state.requests[r]
            away = request["other"] != -1
            assert row["elsewhere"] == (away and request["phase"] == WAITING)
            assert row["migrating"] == (away and request["phase"] == RUNNING)
            seen |= {name for name in ("elsewhere", "migrating") if row[name]}
    assert seen == {"elsewhere", "migrating"}


def test_a_hand_off_shows_the_request_alone_and_who_has_prefilled_it():
    env = make_split("slots")
    count = 0
    for observation, state in moments(env, HANDOFF):
        count += 1
        cluster = state.cluster[0]
        request = state.requests[int(cluster["request"])]
        first, *others = rows(env, observation, "requests")
        assert first["present"] == 1
        assert first["prompt"] == pytest.approx(request["prompt"], rel=1e-4)
        assert first["generated"] == pytest.approx(request["generated"], rel=1e-4)
        assert first["blocks"] == pytest.approx(request["blocks"] / 20)
        assert all(not any(row.values()) for row in others)
        asks = [row["asks"] for row in rows(env, observation, "instances")]
        assert asks == [i == cluster["instance"] for i in range(3)]
        kinds = rows(env, observation, "cluster")[0]
        names = ("decides_schedule", "decides_route", "decides_handoff")
        assert [kinds[name] for name in names] == [0, 0, 1]
        assert all(
            kinds[name] == 0 for name in ("arrived", "finished", "pressure", "hidden_waiting")
        )
    assert count > 10


def test_an_arrival_is_shown_before_it_has_an_instance():
    env = make_router(length_hint="oracle")
    observation, _ = env.reset(seed=0)
    for _ in range(20):
        request = env._simulator.state.requests[int(env._simulator.state.cluster[0]["request"])]
        (row,) = rows(env, observation, "requests")
        assert row["prompt"] == pytest.approx(request["prompt"], rel=1e-4)
        assert row["predicted"] == pytest.approx(request["output"], rel=1e-4)
        assert row["waited"] == pytest.approx(0.0, abs=1e-6)
        assert row["needs"] == pytest.approx(-(-request["prompt"] // 16) / 20)
        assert rows(env, observation, "cluster")[0]["decides_route"] == 1
        observation, *_ = env.step(0)


def test_the_time_since_the_last_placement_is_seen():
    env = make_router()
    env.reset(seed=0)
    for _ in range(5):
        observation, *_, info = env.step(0)
        assert rows(env, observation, "cluster")[0]["since_decision"] == pytest.approx(
            info["dt"], rel=1e-3, abs=1e-6
        )


def test_what_only_a_cluster_has_is_absent_from_colocated():
    names = [feature.name for feature in make().seen["instances"]]
    assert len(names) == 15
    assert not set(names) & set(NEW)
    assert [feature.name for feature in make_router().seen["instances"]][15:] == NEW
    assert [f.name for f in make_split().seen["requests"]][-2:] == ["elsewhere", "migrating"]
    router = [feature.name for feature in make_router().seen["cluster"]]
    assert router == ["decides_schedule", "decides_route", "since_decision", "overdue", "loss",
                      "decides_handoff"]  # fmt: skip


def test_slots_beyond_the_first_stay_empty_in_a_router():
    env = make_router(num_slots=3)
    observation, _ = env.reset(seed=0)
    width = len(TABLES["requests"]) - 1  # without the prediction
    assert observation["requests"].shape == (3 * width,)
    assert observation["requests"][:width].any()
    assert not observation["requests"][width:].any()
    assert np.array_equal(
        env._desk.slots, [int(env._simulator.state.cluster[0]["request"]), -1, -1]
    )
