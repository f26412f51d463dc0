"""The paper's experiment: what it computes from token times, and a small run of all of it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "paper"


@pytest.fixture(scope="module")
def parts():
    paths = [str(FOLDER.parents[1]), str(FOLDER.parent), str(FOLDER)]
    for path in paths:
        sys.path.insert(0, path)
    try:
        import abandoning
        import curves
    finally:
        for path in paths:
            sys.path.remove(path)
    return abandoning, curves


def log(*rows):
    return pd.DataFrame(rows, columns=["request", "arrival", "time", "output"])


def test_held_back_tokens_keep_their_distance_and_none_comes_earlier(parts):
    abandoning, _ = parts
    given = log((0, 0.0, 1.0, 3), (0, 0.0, 1.1, 3), (0, 0.0, 3.0, 3), (1, 0.0, 1.05, 1))
    assert abandoning.held_back(given, 0.5)["time"].tolist() == [1.0, 1.5, 3.0, 1.05]


def test_a_request_is_cut_off_where_it_first_misses_a_deadline(parts):
    abandoning, _ = parts
    given = log((0, 0.0, 0.9, 3), (0, 0.0, 2.5, 3), (0, 0.0, 2.6, 3), (1, 0.0, 1.5, 1))
    cut = abandoning.cut_off(given, token_time=1.0)
    assert cut[cut["request"] == 0]["time"].tolist() == [0.9]
    assert cut[cut["request"] == 1]["time"].isna().tolist() == [True]


def test_a_peak_is_found_and_a_second_one_noticed(parts):
    _, curves = parts
    noise = np.random.default_rng(1).normal(0.0, 0.1, (5, 8))
    one = np.array([1.0, 3.0, 5.0, 4.0, 2.0])[:, None] + noise
    two = np.array([1.0, 5.0, 2.0, 5.0, 2.0])[:, None] + noise
    assert curves.has_one_peak(one)
    assert not curves.has_one_peak(two)
    rate, many = curves.peaks(one, np.arange(5.0))
    assert rate == 2.0
    assert (many == 2.0).all()


@pytest.mark.slow
def test_a_small_run_writes_every_table_and_figure(tmp_path):
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    command = [sys.executable, str(FOLDER / "run.py"), "--quick", "--jobs", "1"]
    subprocess.run([*command, "--out", str(tmp_path)], check=True, env=environment)
    for name in ("peaks", "alpha", "holding", "dropping", "objectives"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    said = (tmp_path / "findings.md").read_text("utf-8")
    for finding in "abcdef":
        assert f"- ({finding}) " in said
    table = pd.read_csv(tmp_path / "objectives.csv")
    own = table[table["optimised_for"] == table["measured_by"]]
    assert own["percent"].tolist() == [0.0] * 5
