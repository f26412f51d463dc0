"""Commands take bundles wherever they take a policy."""

import shutil

import numpy as np
import pytest
from playing import make

from agents.onnx_files import constant_action
from sgym.export import describe, write_bundle


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A zoo of one policy, and one that is damaged."""
    place = tmp_path / "zoo"
    about = describe(make("index"), "calm", scenario="tiny", card="Keeps calm.\nAnd carries on.")
    write_bundle(place / "calm", constant_action(np.zeros(40)), about)
    shutil.copytree(place / "calm", place / "odd")
    (place / "odd" / "bundle.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr("sgym.export.zoo.PLACES", (place,))
    return place


def test_run_takes_a_policy_of_the_zoo(sgym_command, shelf):
    done = sgym_command("run", "tiny", "--policy", "zoo:calm", "--duration", 4)
    assert done.exit_code == 0, done.output
    assert "tiny under zoo:calm, seed 0" in done.output


def test_timeline_takes_a_bundle(sgym_command, shelf, tmp_path):
    policy = f"bundle:{shelf / 'calm'}"
    done = sgym_command("timeline", "tiny", "--policy", policy, "--duration", 4, "-o", "a.json")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "a.json").stat().st_size > 1000


def test_list_policies_shows_the_zoo_and_what_is_wrong_with_it(sgym_command, shelf):
    text = sgym_command("list", "policies").output
    row = next(line for line in text.splitlines() if "zoo:calm" in line)
    assert "tiny" in row
    assert "Keeps calm." in row
    assert "carries on" not in text
    assert "zoo:odd" in text
    assert "schema_version must be 1 or 2, got None" in text


def test_an_unknown_bundle_is_one_line(sgym_command, shelf):
    done = sgym_command("run", "tiny", "--policy", "zoo:clam")
    assert done.exit_code == 2
    assert "Did you mean zoo:calm?" in done.output
