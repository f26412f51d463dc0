"""What an engine would be told is what the environment's kernels do, on recorded states."""

import numpy as np
import pytest
from graphs import linear
from playing import make, toy

from agents.onnx_files import linear_action
from experiments.export_runtime.states import carried_out, differences, views
from sgym.envs import orderings as kernels
from sgym.envs.actions import GAIN, KNOBS, LIMITS, ORDERINGS, VERBS, reservation_of
from sgym.envs.features import TABLES
from sgym.errors import PolicyError
from sgym.export import (
    EngineView,
    PolicyRuntime,
    describe,
    load_bundle,
    onnx_policy,
    orderings,
    write_bundle,
    zoo_bundles,
)
from sgym.export.moment import SUPPLIED
from sgym.export.slots import VERBS_OF
from sgym.policies import Steering

ENGINES = [name for name in zoo_bundles() if not name.startswith(("router", "disaggregated"))]
CROWDED = toy(workload__rate=25.0, engine__max_num_seqs=8)
"""Slots do not show all requests, and memory is short."""


def written(env, folder, seed=0, source="requests"):
    """A bundle of a random policy for the environment."""
    random = np.random.default_rng(seed)
    width = env.observation_space[source].shape[0]
    if env.plan.layout.mask_length:
        weights = random.normal(size=(width, env.plan.layout.mask_length))
        model = linear(weights, source, mask="bool" if seed % 2 else "")
    else:
        numbers = env.action_space.shape[0]
        weights = random.normal(size=(numbers, width)) * 0.5
        model = linear_action(weights, random.normal(size=numbers) * 0.5, {source: width})
    return write_bundle(folder / "b", model, describe(env, "random"))


def compare(env, folder, count, seed=0):
    """Play under a bundle; assert that its runtime says the same. Returns the views."""
    bundle, runtime = load_bundle(folder), PolicyRuntime(folder)
    seen = []
    for view, action in views(env, bundle.policy.act, count, seed):
        expected, order = carried_out(env, action, view)
        found = runtime.decide(view)
        assert differences(expected, found) == []
        assert found.waiting_order(view.num_running).tolist() == order
        seen.append((view, found))
    return seen


@pytest.mark.parametrize("name", ENGINES)
def test_policies_of_the_zoo_say_in_an_engine_what_they_say_in_the_environment(name):
    folder = zoo_bundles()[name]
    bundle = load_bundle(folder)
    seen = compare(bundle.environment(bundle.about.scenario), folder, 200)
    assert max(len(view.rows) for view, _ in seen) > 20


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("source", ["requests", "instances", "cluster"])
def test_knobs(tmp_path, seed, source):
    env = make("knobs", scenario=CROWDED, expected_output=40.0, aging=3.0, decision="iteration")
    seen = compare(env, written(env, tmp_path, seed, source), 250, seed)
    assert len({steering.reserve for _, steering in seen}) > 1


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("num_slots", [2, 7, 8, 64])
def test_slots(tmp_path, seed, num_slots):
    env = make("slots", scenario=CROWDED, num_slots=num_slots)
    seen = compare(env, written(env, tmp_path, seed), 150, seed)
    assert any(steering.preempt.any() for _, steering in seen)
    held = any(np.isinf(steering.waiting_score).any() for _, steering in seen)
    assert held or num_slots == 2


@pytest.mark.parametrize("num_slots", [3, 8, 64])
def test_scores(tmp_path, num_slots):
    env = make("scores", scenario=CROWDED, num_slots=num_slots)
    seen = compare(env, written(env, tmp_path), 200)
    assert any((steering.running_score != 0).any() for _, steering in seen)


@pytest.mark.parametrize("base", ORDERINGS)
def test_index_from_every_base_and_with_a_length_hint(tmp_path, base):
    env = make("index", scenario=CROWDED, base=base, length_hint="noisy", aging=7.0)
    compare(env, written(env, tmp_path, 2, "cluster"), 200)


@pytest.mark.parametrize(
    "changes",
    [
        {"slo__penalty": "capped", "slo__penalty_cap": 0.4},
        {"slo__scale_by_tokens": True},
        {"slo__clamp": False},
        {"engine__enable_chunked_prefill": False, "engine__max_num_batched_tokens": 256},
    ],
)
def test_other_metrics_and_engines(tmp_path, changes):
    env = make("knobs", scenario=toy(workload__rate=25.0, **changes))
    compare(env, written(env, tmp_path, 0, "cluster"), 200)
    env = make("slots", scenario=toy(workload__rate=25.0, **changes))
    compare(env, written(env, tmp_path), 200)


def test_one_request_alone_is_scored_too(tmp_path):
    env = make("index", scenario=CROWDED)
    folder = written(env, tmp_path, 0, "cluster")
    view = compare(env, folder, 30)[-1][0]
    runtime = PolicyRuntime(folder)
    several = runtime.decide(view)
    alone = EngineView(view.now, view.limits, view.rows[:1], 1, view.free_blocks)
    assert np.isfinite(runtime.decide(alone).running_score).all()
    assert several.running_score[0] != 0.0
    assert runtime.decide(EngineView(1.0, view.limits, view.rows[:0], 0, 5)).reserve == 0


def test_what_an_engine_is_told_is_a_steering(tmp_path):
    env = make("slots", scenario=CROWDED)
    view, steering = compare(env, written(env, tmp_path), 100)[-1]
    told = Steering(**steering.named(view.ids.tolist()))
    assert told.token_budget == steering.token_budget
    assert set(told.waiting_score) | set(told.preempt) <= set(view.ids.tolist())
    assert [view.ids[row] for row in np.flatnonzero(steering.preempt)] == told.preempt


def test_what_engines_and_environments_have_in_common_is_the_same():
    """An engine cannot import what has numba, so these stand twice."""
    assert orderings.ORDERINGS == ORDERINGS
    assert orderings.LIMITS == LIMITS
    assert (orderings.FIRST, orderings.PREFILL_TIME) == (kernels.FIRST, kernels.PREFILL_TIME)
    assert (orderings.TOKENS, kernels.SECONDS) == (kernels.TOKENS, 1.0)
    for name in ORDERINGS:
        assert orderings.RESERVATION_OF.get(name, 0.0) == reservation_of(name)
    assert tuple(TABLES) == onnx_policy.TABLES
    assert set(VERBS_OF[0] + VERBS_OF[1] + VERBS_OF[2]) | {"reject"} == set(VERBS)
    assert GAIN == 4.0
    assert KNOBS[4].name == "fcfs+0.2+closed"
    for table, rows in TABLES.items():
        colocated = {row.name for row in rows if row.when in ("always", "schedule", "hint")}
        assert SUPPLIED[table] == colocated


@pytest.mark.parametrize("name", ["router_8b", "disaggregated_8b"])
def test_policies_that_choose_instances_are_refused(name):
    with pytest.raises(PolicyError, match=r"bundle\.json: environment\.id is .*into a router"):
        PolicyRuntime(f"zoo:{name}")


def test_readers_of_refused_requests_count_if_the_engine_says_so(tmp_path):
    env = make("index", scenario=toy(engine__num_gpu_blocks=7))
    seen = compare(env, written(env, tmp_path, 3, "cluster"), 200)
    assert any(view.overdue is not None for view, _ in seen)
    assert any(view.overdue is None for view, _ in seen)
