"""The script that measures a user's own GPU, run on a toy model on the CPU."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from sgym.profiles import load
from sgym.profiles.calibrate import calibrate

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "profile_gpu"


@pytest.fixture(scope="module")
def measure():
    sys.path.insert(0, str(SCRIPT))
    try:
        import measure
    finally:
        sys.path.remove(str(SCRIPT))
    return measure


@pytest.fixture(scope="module")
def tables(measure, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    measure.main(["--device", "cpu", "--tiny", "--out", str(folder), "--gpu", "Toy"])
    return folder


def test_a_tiny_run_writes_tables_that_calibrate_reads(measure, tables, tmp_path):
    profile = calibrate(tables, measure.TINY)
    assert profile.name == "tiny_toy_tp1"
    assert profile.tokens.at == (1.0, 2.0, 4.0, 8.0, 16.0)
    assert profile.prefill.columns == (0.0, 128.0, 512.0, 2048.0, 8192.0)
    assert profile.decode.rows == (1.0, 2.0, 4.0, 8.0, 16.0)
    assert profile.overhead > 0
    assert profile.provenance.overhead_fit == "measured host time"
    assert load(profile.save(tmp_path)).name == profile.name


def test_a_real_model_ends_with_a_command_to_paste(measure):
    llama = measure.MODELS["Llama-3.1-8B"]
    assert measure.next_step(Path("my tables"), llama, 2) == (
        "tables in my tables; next:\nsgym calibrate 'my tables' --model Llama-3.1-8B --tp 2"
    )


def test_a_toy_model_ends_without_a_command_and_refuses_another_model(measure, tables, capsys):
    options = ["--device", "cpu", "--tiny", "--out", str(tables), "--gpu", "Toy"]
    measure.main(options)
    output = capsys.readouterr().out
    assert "of a toy model" in output
    assert "sgym calibrate" not in output
    with pytest.raises(SystemExit):
        measure.main([*options, "--model", "Llama-3.1-8B"])
    assert "leave out --model or --tiny" in capsys.readouterr().err


def test_a_second_run_measures_nothing_again(measure, tables):
    before = {path.name: path.read_bytes() for path in tables.glob("*_perf.csv")}
    measure.main(["--device", "cpu", "--tiny", "--out", str(tables), "--gpu", "Toy"])
    assert {path.name: path.read_bytes() for path in tables.glob("*_perf.csv")} == before


def test_an_interrupted_run_continues_with_the_missing_points(measure, tables, tmp_path):
    for path in [*tables.glob("*_perf.csv"), tables / "gpu.json"]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    gemms = pd.read_csv(tables / "gemm_perf.csv")
    gemms.iloc[:-3].to_csv(tmp_path / "gemm_perf.csv", index=False)
    measure.main(["--device", "cpu", "--tiny", "--out", str(tmp_path)])
    again = pd.read_csv(tmp_path / "gemm_perf.csv")
    assert len(again) == len(gemms)
    assert (again["latency"].iloc[:-3] == gemms["latency"].iloc[:-3]).all()
    assert json.loads((tmp_path / "gpu.json").read_text())["name"] == "CPU"


def test_without_a_gpu_the_error_says_what_to_do(measure, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"no CUDA GPU.*--device cpu --tiny"):
        measure.main(["--out", str(tmp_path)])


def test_the_kernels_compute_attention_and_products(measure):
    kernels = sys.modules["kernels"]
    device = torch.device("cpu")
    assert kernels.gemm(3, 5, 7, device)[0]().shape == (3, 5)
    assert kernels.prefill(4, 6, 4, 2, 16, device)[0]().shape == (1, 4, 4, 16)
    assert kernels.decode(3, 9, 4, 2, 16, device)[0]().shape == (3, 2, 2, 16)


def test_a_point_that_does_not_fit_is_left_out_and_said(measure, tmp_path, monkeypatch):
    def full(_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    console, device = measure.Console(record=True), torch.device("cpu")
    results = measure.Results(tmp_path, "CPU")
    measure.measure(measure.Point("gemm_perf", {"m": 1}, full), results, device, console)
    assert "left out gemm_perf {'m': 1}" in console.export_text()
    assert not (tmp_path / "gemm_perf.csv").exists()
