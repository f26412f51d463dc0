"""`zoo:NAME` and `bundle:FOLDER` wherever a policy is named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playing import TOY

import sgym
from agents.onnx_files import constant_action
from sgym.comparison.runs import Task
from sgym.comparison.store import Store
from sgym.errors import PolicyError
from sgym.export import load_bundle, write_bundle, zoo_bundles

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"episode.duration": 4.0}


@pytest.fixture
def own_zoo(zeros, tmp_path, monkeypatch):
    """A zoo of `nothing`, the bundle of zeros, and of `broken`."""
    place = tmp_path / "zoo"
    shutil.copytree(zeros, place / "nothing")
    shutil.copytree(zeros, place / "broken")
    (place / "broken" / "bundle.json").write_text("{", encoding="utf-8")
    monkeypatch.setattr("sgym.export.zoo.PLACES", (tmp_path / "none", place))
    return place


def test_the_zoo_is_known_by_its_folders(own_zoo):
    assert list(zoo_bundles()) == ["broken", "nothing"]
    assert load_bundle("zoo:nothing").label == "zoo:nothing"
    with pytest.raises(PolicyError, match=r"the zoo has broken, nothing\. Did you mean zoo:nothi"):
        sgym.simulate(TOY, "zoo:nothin")
    (own_zoo / "empty").mkdir()
    with pytest.raises(PolicyError, match=r"cannot read .*empty.bundle\.json"):
        sgym.simulate(TOY, f"bundle:{own_zoo / 'empty'}")


def test_every_bundle_of_the_real_zoo_can_be_loaded():
    for name in zoo_bundles():
        assert load_bundle(f"zoo:{name}").about.name == name


def test_a_policy_of_the_zoo_is_simulated_under_its_name(own_zoo):
    result = sgym.simulate(TOY, "zoo:nothing", seed=4)
    assert result.policy == "zoo:nothing"
    assert result.summary == sgym.simulate(TOY, "vllm", seed=4).summary


def test_bundles_are_compared_by_name_and_as_objects(own_zoo, zeros):
    policies = ["vllm", "zoo:nothing", load_bundle(zeros)]
    result = sgym.compare("tiny", policies, rates=[8.0], seeds=2, overrides=SHORT)
    assert result.policies == ("vllm", "zoo:nothing", f"bundle:{zeros}")
    assert len(set(result.table["smooth_goodput"])) == 1
    assert result.rows["smooth_goodput"].to_numpy().tolist() == [
        sgym.simulate(sgym.load_scenario("tiny", SHORT | {"workload.rate": 8.0}), "vllm", seed)
        .summary["smooth_goodput"]
        for seed in (0, 1)
        for _ in policies
    ]  # fmt: skip


def test_processes_load_bundles_for_themselves(zeros):
    arguments = {"policies": ["vllm", f"bundle:{zeros}"], "rates": [8.0], "seeds": 2}
    one, two = (
        sgym.compare("tiny", **arguments, overrides=SHORT, jobs=jobs).table for jobs in (1, 2)
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_kept_runs_are_those_of_the_same_bundle(zeros):
    name = f"bundle:{zeros}"
    task = Task(name, name, 8.0, 0)
    scenario = sgym.load_scenario("tiny")
    before = Store(None, scenario).key(task)
    assert before == Store(None, scenario).key(task)
    assert not task.is_own

    write_bundle(zeros, constant_action(np.ones(40)), load_bundle(zeros).about)

    assert Store(None, scenario).key(task) != before


def test_the_command_compares_without_torch(zeros, tmp_path):
    code = (
        "import sys; from sgym.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: print('ended', end.code, 'torch' in sys.modules, "
        "'onnx' in sys.modules)"
    )
    command = ["compare", "tiny", "--policies", f"vllm,bundle:{zeros}", "--rates", "8", "--seeds"]
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            code,
            *command,
            "2",
            "--jobs",
            "1",
            "--duration",
            "4",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ended 0 False False" in done.stdout, done.stdout + done.stderr
    assert f"bundle:{zeros}" in (tmp_path / "sgym-results" / "tiny-duration_4" / "table.csv"
                                 ).read_text()  # fmt: skip
