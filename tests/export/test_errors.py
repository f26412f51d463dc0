"""A bundle that is damaged, or of another sgym, says where, what, why and what to do."""

import hashlib
import json

import numpy as np
import pytest
from graphs import linear
from playing import TOY, make, make_split, toy

from agents.onnx_files import constant_action
from sgym.errors import PolicyError
from sgym.export import describe, load_bundle, write_bundle


def edited(folder, *names, value):
    """bundle.json with one nested value replaced."""
    path = folder / "bundle.json"
    content = inner = json.loads(path.read_text(encoding="utf-8"))
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def with_model(folder, model):
    (folder / "policy.onnx").write_bytes(model)
    return edited(folder, "sha256", value=hashlib.sha256(model).hexdigest())


FIRST = ("observation", "requests", 0)


@pytest.mark.parametrize(
    ("names", "value", "message"),
    [
        (["sha256"], "0" * 64, r"policy\.onnx: sha256 is [0-9a-f]{64}, but bundle\.json says 0000"),
        (["sha256"], "short", r"bundle\.json: sha256: .*pattern.*got 'short': export it again"),
        (["schema_version"], 3, r"bundle\.json: schema_version must be 1 or 2, got 3: .*sgym that"),
        (["schema_version"], None, "schema_version must be 1 or 2, got None"),
        (
            ["kind"],
            "magic",
            r"bundle\.json: kind must be one of onnx, builtin, got 'magic': export",
        ),
        (["colour"], "red", r"bundle\.json: colour is no known key; known: schema_version, name"),
        (["environment", "acton"], 1, r"environment\.acton is no known key.* mean 'action'\?"),
        (["environment", "num_slots"], "x", r"environment\.num_slots: .*got 'x'"),
        (["environment", "num_slots"], 1, "environment: num_slots must be at least 2, got 1"),
        (["environment", "action"], "dance", r"json: environment: action must be one of slots"),
        (["environment", "id"], "sgym/X-v0", r"environment\.id must be one of sgym/Coloc.*X-v0'"),
        (["environment", "overrides"], {"workload.rate": 2}, r"overrides has 'workload\.rate'"),
        (["name"], "../up", r"bundle\.json: name: .*got '\.\./up'"),
        (["mask"], "some", r"mask: .*'none' or 'allowed_is_1', got 'some'"),
        ([*FIRST, "name"], "aura", r"observation\.requests: feature 'aura' is unknown to this"),
        ([*FIRST, "scale"], 7.0, r"feature 'present' has scale 7\.0, but 1\.0 in this sgym"),
        ([*FIRST, "unit"], "s", "feature 'present' has unit 's', but '0 or 1' in this sgym"),
    ],
)
def test_a_bundle_that_says_something_wrong_is_not_loaded(zeros, names, value, message):
    with pytest.raises(PolicyError, match=message):
        load_bundle(edited(zeros, *names, value=value))


@pytest.mark.parametrize(
    ("names", "value", "message"),
    [
        (["mask"], "allowed_is_1", "mask is 'allowed_is_1', but must be 'none'"),
        (["action", "constants"], {"gain": 2.0}, r"action\.constants is \{'gain': 2.0\}, but must"),
        (["environment", "action"], "scores", r"action\.meaning is "),
        (["environment", "length_hint"], "oracle", r"observation\.requests is \[.*but must be"),
    ],
)
def test_a_bundle_of_another_environment_is_not_played(zeros, names, value, message):
    bundle = load_bundle(edited(zeros, *names, value=value))
    with pytest.raises(PolicyError, match=message):
        bundle.simulate(TOY)


def test_features_in_another_order_are_refused(zeros):
    rows = json.loads((zeros / "bundle.json").read_text())["observation"]["requests"]
    bundle = load_bundle(edited(zeros, "observation", "requests", value=rows[::-1]))
    with pytest.raises(PolicyError, match=r"observation\.requests is \['priority', .* sgym that"):
        bundle.simulate(TOY)


def test_an_argument_that_the_environment_has_not_is_refused(zeros):
    edited(zeros, "environment", "id", value="sgym/Router-v0")
    edited(zeros, "environment", "controls", value=["route"])
    edited(zeros, "environment", "action", value="route")
    bundle = load_bundle(zeros)
    scenario = toy(cluster__instances=2)
    with pytest.raises(PolicyError, match=r"environment\.base is 'fcfs', but must be 'spf'"):
        bundle.simulate(scenario)


def test_files_that_are_missing_or_no_such_files(zeros, tmp_path):
    with pytest.raises(PolicyError, match=r"no bundle 'nowhere': 'nowhere' is no folder"):
        load_bundle("nowhere")
    with pytest.raises(PolicyError, match=r"no policy 'zoo:x'; the zoo has "):
        load_bundle("zoo:x")
    with pytest.raises(PolicyError, match=r"cannot read .*bundle\.json \(No such file"):
        load_bundle(tmp_path)
    model = (zeros / "policy.onnx").read_bytes()
    (zeros / "policy.onnx").unlink()
    with pytest.raises(PolicyError, match=r"cannot read .*policy\.onnx \(No such file.*again"):
        load_bundle(zeros)
    with_model(zeros, model[:100])
    with pytest.raises(PolicyError, match=r"policy\.onnx is no ONNX graph that onnxruntime"):
        load_bundle(zeros)
    (zeros / "bundle.json").write_bytes(b"\xff{")
    with pytest.raises(PolicyError, match=r"bundle\.json is not valid JSON .*export"):
        load_bundle(zeros)
    (zeros / "bundle.json").write_text("[1]")
    with pytest.raises(PolicyError, match=r"bundle\.json must hold an object, got list"):
        load_bundle(zeros)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (linear(np.ones((3, 4)), source="obs", output="action"), "input 'obs' is unknown, inputs"),
        (linear(np.ones((3, 4)), output="action", mask="bool"), "input 'mask' is unknown"),
        (linear(np.ones((3, 4)), output="logits"), "one output, 'action', got 'logits'"),
        (linear(np.ones((3, 4)), output="action", kind="double"), r"'cluster' must be a tensor\(f"),
    ],
)
def test_a_graph_with_other_inputs_or_outputs_is_refused(zeros, model, message):
    with pytest.raises(PolicyError, match=f"policy\\.onnx: .*{message}"):
        load_bundle(with_model(zeros, model))


def test_a_graph_for_another_number_of_instances_is_refused(tmp_path):
    env = make_split("index")
    model = constant_action(np.zeros(env.action_space.shape[0]))
    bundle = load_bundle(write_bundle(tmp_path / "b", model, describe(env, "b")))
    assert bundle.simulate(env.scenario).summary["num_requests"] > 0
    more = env.scenario.model_dump(mode="json", exclude_unset=True)
    more["cluster"]["pools"][1]["instances"] = 4
    with pytest.raises(
        PolicyError, match=r"'action' has 47 numbers, but .* with 5 instances has 49: run"
    ):
        bundle.simulate(more)


def test_a_name_must_be_one_of_a_folder():
    with pytest.raises(ValueError, match="name"):
        describe(make("index"), "a/b")
