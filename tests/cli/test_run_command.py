"""`sgym run`."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

import sgym

SHORT = ("--duration", 3)


def test_a_run_is_summed_up_and_written(sgym_command, tmp_path):
    result = sgym_command("run", "tiny", "--policy", "spf", "--seed", 3, *SHORT, "--out", "one")
    assert result.exit_code == 0, result.output
    assert "tiny under spf, seed 3" in result.output
    assert "smooth_goodput" in result.output
    written = json.loads((tmp_path / "one" / "summary.json").read_text())
    alone = sgym.simulate(sgym.load_scenario("tiny", {"episode.duration": 3.0}), "spf", seed=3)
    assert written["summary"]["smooth_goodput"] == alone.summary["smooth_goodput"]
    assert written["policy"] == "spf"
    assert written["seed"] == 3
    assert written["window_s"] == [0.0, 3.0]
    assert sgym.load_scenario(written["scenario"]) == alone.scenario
    table = pd.read_parquet(tmp_path / "one" / "requests.parquet")
    pd.testing.assert_frame_equal(table, alone.requests)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["requests.parquet", "summary.json"]


def test_what_nobody_knows_is_null_in_the_summary(sgym_command, tmp_path):
    options = ("--set", "workload.lengths.0.prompt=2000", "--set", "workload.max_prompt=null")
    result = sgym_command("run", "tiny", *options, *SHORT, "--out", "none")
    assert result.exit_code == 0, result.output
    assert "can never be served" in result.output
    summary = json.loads((tmp_path / "none" / "summary.json").read_text())["summary"]
    assert summary["num_refused"] > 0


def test_classes_have_columns_of_their_own(sgym_command):
    result = sgym_command("run", "llama8b-a100-mixed", *SHORT)
    assert result.exit_code == 0, result.output
    assert "smooth_goodput.agent" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("tinny",), "no scenario 'tinny'"),
        (("tiny", "--policy", "fifo"), "no policy 'fifo'; known: stock"),
        (("tiny", "--policy", "nowhere:Mine"), "cannot load policy 'nowhere:Mine'"),
        (
            ("tiny", "--set", "engine.max_num_seqs=0"),
            "engine.max_num_seqs: Input should be greater",
        ),
        (("tiny", "--set", "rate"), "--set must be key=value, such as workload.rate=6, got 'rate'"),
        (("llama8b-a100-azure", "--set", "latency.profile=none"), "no latency profile 'none'"),
        (("tiny", "--set", "workload.rate=[1"), "--set workload.rate: '[1' is not valid YAML"),
        (("tiny", "--seed", -1), "--seed must be at least 0, got -1"),
        (("tiny", "--trace", "no.csv"), "no trace 'no.csv'"),
        (("tiny", "--duration", 0), "episode.duration: Input should be greater than 0, got 0.0"),
    ],
)
def test_a_mistake_is_one_message_with_field_value_and_rule(sgym_command, options, message):
    result = sgym_command("run", *options)
    assert result.exit_code == 2
    assert "Error:" in result.output
    assert "Traceback" not in result.output
    assert message in " ".join(result.output.split())


def test_a_folder_that_cannot_be_made_is_one_message_before_the_run(sgym_command, tmp_path):
    (tmp_path / "taken").write_text("a file")
    result = sgym_command("run", "tiny", *SHORT, "--out", "taken")
    assert result.exit_code == 2
    assert "cannot make the folder 'taken' for the results (File exists)" in result.output
    assert "smooth_goodput" not in result.output


def test_a_terminal_without_unicode_shows_question_marks(tmp_path):
    (tmp_path / "snow.yaml").write_text("name: \u2603\nworkload: {rate: 4}\n", encoding="utf-8")
    found = os.pathsep.join(path for path in sys.path if path)
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": found}
    command = [sys.executable, "-c", "from sgym.cli import app; app()", "check", "snow.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=ascii_only, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("name: ?")
