"""What an engine loads: no simulator, and no bundle that is damaged or not for engines."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import linear
from playing import make

from sgym.envs.actions import AGING
from sgym.errors import PolicyError
from sgym.export import (
    REQUEST_ROW,
    EngineLimits,
    EngineView,
    PolicyRuntime,
    describe,
    load_bundle,
    write_bundle,
)

ROOT = Path(__file__).resolve().parents[2]
ENGINE = """
import sys
for name in ("numba", "gymnasium", "torch", "pydantic", "onnx", "pandas", "yaml", "typer", "rich"):
    sys.modules[name] = None  # importing it now fails
import numpy as np
from sgym.export import REQUEST_ROW, EngineLimits, EngineView, PolicyRuntime, ReaderClock
rows = np.ones(6, REQUEST_ROW)
rows["prompt"] = [30, 20, 50, 10, 40, 60]
view = EngineView(2.0, EngineLimits(8, 512, 100), rows, 2, 50)
for source in sys.argv[1:]:
    runtime = PolicyRuntime(source)
    assert runtime.trigger().is_due(view)
    print(runtime.decide(view).waiting_order(2).tolist())
loaded = {name for name in sys.modules if name.startswith("sgym.")}
assert not {name for name in loaded if not name.startswith(("sgym.export", "sgym.errors"))}, loaded
"""


def test_an_engine_needs_numpy_and_onnxruntime_only():
    done = subprocess.run(
        [sys.executable, "-c", ENGINE, "zoo:azure_14b", "zoo:assistants_14b"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "[3, 4, 2, 5]"


def test_names_of_the_package_are_loaded_when_they_are_asked_for():
    code = (
        "import sys, sgym\n"
        "assert 'numba' not in sys.modules\n"
        "assert set(sgym.__all__) <= set(dir(sgym))\n"
        "assert sgym.config.Scenario is sgym.Scenario\n"
        "assert sgym.simulate.__module__ == 'sgym.export.names'\n"
        "import gymnasium\n"
        "assert 'sgym/Router-v0' in gymnasium.registry\n"
        "for bad in ('sgym.nothing', 'sgym.export.nothing'):\n"
        "    try:\n"
        "        eval(bad)\n"
        "    except AttributeError as error:\n"
        "        assert 'nothing' in str(error)\n"
        "    else:\n"
        "        raise SystemExit(bad)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def knobs(tmp_path):
    env = make("knobs")
    model = linear(np.ones((12, 45)))
    return write_bundle(tmp_path / "knobs", model, describe(env, "knobs"))


def edited(folder, *names, value):
    path = folder / "bundle.json"
    content = inner = json.loads(path.read_text(encoding="utf-8"))
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder


FIRST = ("observation", "requests", 0)
HASH = r"policy\.onnx: sha256 is [0-9a-f]{64}, but bundle\.json says 00.*damaged or replaced"


@pytest.mark.parametrize(
    ("names", "value", "message"),
    [
        (["sha256"], "0" * 64, HASH),
        (["schema_version"], 3, r"bundle\.json: schema_version must be 1 or 2, got 3: export"),
        (
            ["kind"],
            "magic",
            r"bundle\.json: kind must be one of onnx, builtin, got 'magic': export",
        ),
        (["name"], 3, r"name must be of type str, got 3"),
        (["environment"], {}, r"environment\.id is required: export"),
        (
            ["environment", "action"],
            "route",
            r"environment\.action must be one of slots, .*'route'",
        ),
        (["environment", "num_slots"], 1, r"environment\.num_slots must be a number of at least 2"),
        (["environment", "num_slots"], True, r"num_slots must be of type int or float, got True"),
        (["environment", "decision"], "never", r"environment\.decision must be one of event, it"),
        (["environment", "base"], "x", r"environment\.base must be one of fcfs, .*got 'x'"),
        (["environment", "allow_reject"], True, r"allow_reject is true, but no engine lets"),
        (["environment", "controls"], ["schedule", "route"], r"an engine decides only about its"),
        (["environment", "id"], "sgym/Router-v0", r"environment\.id is 'sgym/Router-v0'"),
        (["action", "space"], "Box", r"action\.space must be 'Discrete', got 'Box'"),
        (["action", "meaning"], ["lifo+0+open"], r"action\.meaning must be what this sgym knows"),
        (["action", "meaning"], ["spf+0+open"], r"'logits' has 45 numbers, but an engine, which"),
        ([*FIRST, "name"], "aura", r"requests\[0\]: feature 'aura' is none that an engine suppl"),
        ([*FIRST, "name"], "elsewhere", r"feature 'elsewhere' is none that an engine supplies"),
        ([*FIRST, "scale"], "big", r"requests\[0\]\.scale must be a number, got 'big'"),
        (FIRST, 7, r"observation\.requests\[0\] must be an object, got 7"),
    ],
)
def test_a_bundle_that_says_something_wrong_is_not_loaded(knobs, names, value, message):
    with pytest.raises(PolicyError, match=message):
        PolicyRuntime(edited(knobs, *names, value=value))


def test_features_that_no_engine_has_are_refused(tmp_path):
    env = make("knobs", extra_features=["time_left"])
    model = linear(np.ones((13, 45)))
    folder = write_bundle(tmp_path / "b", model, describe(env, "b"))
    with pytest.raises(PolicyError, match=r"cluster\[12\]: feature 'time_left' is none that"):
        PolicyRuntime(folder)


def test_files_that_are_missing_or_no_such_files(knobs, tmp_path):
    with pytest.raises(PolicyError, match=r"cannot read .*bundle\.json \(No such file"):
        PolicyRuntime(tmp_path)
    with pytest.raises(PolicyError, match="no bundle 'nowhere'"):
        PolicyRuntime("nowhere")
    with pytest.raises(PolicyError, match="no policy 'zoo:x'; the zoo has"):
        PolicyRuntime("zoo:x")
    with pytest.raises(PolicyError, match=r"bundle must be a folder, .* got 3"):
        PolicyRuntime(3)
    model = (knobs / "policy.onnx").read_bytes()
    (knobs / "policy.onnx").write_bytes(model[:90])
    edited(knobs, "sha256", value=hashlib.sha256(model[:90]).hexdigest())
    with pytest.raises(PolicyError, match=r"policy\.onnx is no ONNX graph"):
        PolicyRuntime(knobs)
    (knobs / "policy.onnx").unlink()
    with pytest.raises(PolicyError, match=r"cannot read .*policy\.onnx \(No such file"):
        PolicyRuntime(knobs)
    (knobs / "bundle.json").write_text("{")
    with pytest.raises(PolicyError, match=r"bundle\.json is not valid JSON"):
        PolicyRuntime(knobs)
    (knobs / "bundle.json").write_text("[1]")
    with pytest.raises(PolicyError, match=r"must hold an object, got list"):
        PolicyRuntime(knobs)


def test_bundles_of_the_first_version_are_still_read(knobs):
    path = knobs / "bundle.json"
    content = json.loads(path.read_text())
    del content["kind"], content["environment"]["aging"]  # neither was there
    path.write_text(json.dumps(content | {"schema_version": 1}))
    assert load_bundle(knobs).about.kind == "onnx"
    assert load_bundle(knobs).about.environment.aging == AGING
    assert PolicyRuntime(load_bundle(knobs)).kind == "onnx"


def test_a_policy_that_answers_nan_is_broken(tmp_path):
    env = make("knobs")
    model = linear(np.full((12, 45), np.nan))
    runtime = PolicyRuntime(write_bundle(tmp_path / "b", model, describe(env, "b")))
    view = EngineView(2.0, EngineLimits(8, 512, 100), np.ones(3, REQUEST_ROW), 2, 50)
    with pytest.raises(PolicyError, match="logits has NaN"):
        runtime.decide(view)
