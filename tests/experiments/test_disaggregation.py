"""The disaggregation experiment on settings small enough for a test."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture(scope="module")
def run(request):
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location(
        "disaggregation_run", FOLDER / "disaggregation" / "run.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def test_a_seed_has_no_say_in_the_rate_at_which_it_is_counted(run):
    earned = np.array([[1.0, 9.0, 2.0], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    # without the first the third rate is best; without another, the second one is
    assert run.held_out_peak(earned).tolist() == [2.0, 2.0, 2.0]


def test_the_rate_of_a_share_is_found_between_two_rates(run):
    shares = np.array([[1.0, 0.95, 0.85], [1.0, 1.0, 1.0], [0.5, 0.4, 0.3]])
    rates = np.array([1.0, 2.0, 3.0])
    assert run.rate_of_share(shares, rates).tolist() == pytest.approx([2.5, 3.0, 0.0])


def test_pools_of_an_uneven_split(run):
    assert run.pools("1P3D", 4) == [
        {"role": "prefill", "instances": 1},
        {"role": "decode", "instances": 3},
    ]


def test_finished_cells_are_read_again_and_not_simulated(run, tmp_path, monkeypatch):
    size = {"duration": 5.0, "fractions": (0.5, 1.2), "seeds": 2}
    cells = [
        run.cell("Llama-3.1-8B", "documents", "strict", 2, name, **size)
        for name in ("colocated", "1P1D")
    ]
    rows = run.cells.run_all(cells, run.keep, tmp_path, jobs=1)
    assert len(rows) == 8
    assert len(list(tmp_path.glob("*.csv"))) == 2
    monkeypatch.setattr(run.cells, "run_cell", None)
    again = run.cells.run_all(cells, run.keep, tmp_path, jobs=1)
    assert again.equals(rows)
    verdicts = run.verdicts(run.with_fractions(rows))
    assert verdicts["arrangement"].tolist() == ["colocated", "1P1D"]
    assert verdicts["peak_gain"][0] == 0.0
