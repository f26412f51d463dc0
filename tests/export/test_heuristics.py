"""Schedulers that come with sgym, exported: scores and reserve are those of the kernels."""

import json

import numpy as np
import pytest
from playing import TOY, make, sampled, toy

import sgym
from experiments.export_runtime.states import views
from sgym.errors import PolicyError
from sgym.export import (
    BuiltinBundle,
    BuiltinManifest,
    EngineLimits,
    EngineView,
    PolicyRuntime,
    load_bundle,
    load_stored,
    resolve,
    write_builtin,
)
from sgym.export.heuristics import EXPORTABLE
from sgym.export.view import REQUEST_ROW
from sgym.policies import orders
from sgym.policies.registry import POLICIES, policy_record

CROWDED = toy(workload__rate=25.0, engine__max_num_seqs=8)
SET = {"reservation": 0.3, "expected_output": 45.0, "aging": 3.0, "prefill_time": 2e-4}
SCORED = [name for name in EXPORTABLE if name != "vllm-priority"]


def about(policy, **changes):
    parameters = {name: SET.get(name, 0.7) for name in POLICIES[policy].parameters}
    given = {"name": policy, "policy": policy, "parameters": parameters, "scenario": "any"}
    return BuiltinManifest(**{**given, "provenance": {}, "card": f"{policy}!", **changes})


def test_every_parameter_is_exported():
    for name, parameters in EXPORTABLE.items():
        assert set(parameters) == set(POLICIES[name].parameters)


@pytest.mark.parametrize("policy", SCORED)
def test_an_exported_scheduler_says_what_its_kernels_say(policy, tmp_path):
    given = about(policy)
    runtime = PolicyRuntime(write_builtin(tmp_path / "b", given))
    record = policy_record(policy, "round_robin", given.parameters)
    env = make("slots", scenario=CROWDED, length_hint="noisy", decision="iteration")
    env.action_space.seed(0)
    reserves = set()
    for view, _ in views(env, lambda seen, mask: sampled(env, env._info()), 150):
        found, state = runtime.decide(view), env._simulator.state
        for row, r in enumerate(view.ids):
            request = state.requests[r]
            waiting = orders.waiting_score(record[0], state.cluster[0], request)
            assert found.waiting_score[row] == waiting
            assert found.running_score[row] == orders.running_score(record[0], request)
        snapshot = env.snapshot()
        orders.reserve(state, record[0], 0)
        assert found.reserve == state.instances[0]["reserve"]
        env.restore(snapshot)
        reserves.add(found.reserve)
    assert len(reserves) > 1 or "reservation" not in given.parameters


def test_priorities_order_admission_and_victims(tmp_path):
    runtime = PolicyRuntime(write_builtin(tmp_path / "b", about("vllm-priority")))
    rows = np.zeros(5, REQUEST_ROW)
    rows["priority"], rows["arrival"] = [1, 0, 2, 0, 1], [0, 1, 2, 3, 4]
    view = EngineView(9.0, EngineLimits(8, 64, 100), rows, 2, 50)
    steering = runtime.decide(view)
    assert steering.running_order(2).tolist() == [1, 0]
    assert steering.waiting_order(2).tolist() == [3, 4, 2]


def test_a_builtin_bundle_is_simulated_as_the_scheduler_is(tmp_path):
    folder = write_builtin(tmp_path / "b", about("llf"))
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.json", "card.md"]
    name, stored = f"bundle:{folder}", load_stored(folder)

    result = sgym.simulate(TOY, name, seed=3)

    parameters = {f"policy.{key}": value for key, value in about("llf").parameters.items()}
    scenario = sgym.load_scenario(TOY, {"policy.name": "llf", **parameters})
    assert result.policy == name
    assert result.summary == sgym.simulate(scenario, seed=3).summary
    assert isinstance(resolve(name), BuiltinBundle)
    assert repr(stored) == f"<BuiltinBundle {name}: llf>"
    assert len(stored.digest) == 64
    assert repr(PolicyRuntime(stored)) == "<PolicyRuntime llf: builtin, asked by iteration>"
    with pytest.raises(PolicyError, match="kind is 'builtin', but a network is needed"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("policy", "andes", r"bundle\.json: policy 'andes' cannot be exported; these can: stock"),
        ("parameters", {"reservation": 0.0}, r"parameters of 'llf' must be expected_output, pref"),
        ("policy", 3, r"policy.*got 3"),
    ],
)
def test_a_builtin_bundle_that_says_something_wrong_is_not_loaded(tmp_path, field, value, message):
    folder = write_builtin(tmp_path / "b", about("llf"))
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    for load in (load_stored, PolicyRuntime):
        with pytest.raises(PolicyError, match=message):
            load(folder)
    path.write_text(path.read_text().replace('"prefill_time": 0.0002', '"prefill_time": -1.0'))
    with pytest.raises(PolicyError, match=r"parameter|policy"):
        PolicyRuntime(folder)
