"""The script that measures a user's own GPU, run on a toy model on the CPU."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from sgym import profiles
from sgym.profiles import load
from sgym.profiles.calibrate import Source, calibrate

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
    kernels, device = sys.modules["kernels"], torch.device("cpu")
    assert kernels.gemm(3, 5, 7, device)["linear"][0]().shape == (3, 5)
    assert kernels.prefill(4, 6, 4, 2, 16, device)["flash"][0]().shape == (1, 4, 4, 16)
    assert kernels.decode(3, 9, 4, 2, 16, device)["flash"][0]().shape == (3, 2, 2, 16)


def test_attention_to_prefix_and_chunk_apart_is_attention_to_both(measure):
    attention = sys.modules["attention"]
    query, key, value = (torch.randn(1, 2, tokens, 16) for tokens in (5, 12, 12))

    def part(query, key, value, causal):
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, weight = attend(query, key, value, 0.0, causal)
        return output, weight.reshape(1, 2, 5, 1)

    torch.testing.assert_close(
        attention.in_two(query, key, value, part), attention.default(query, key, value, True)
    )


def test_a_kernel_that_refuses_a_call_is_not_a_choice(measure, monkeypatch):
    attention = sys.modules["attention"]

    def refuses(*_):
        raise RuntimeError("not on this GPU")

    query, key, value = (torch.randn(1, 2, 5, 16) for _ in range(3))
    monkeypatch.setattr(attention, "FUSED", {"refuses": refuses, "works": attention.default})
    assert [*attention.runs(query, key, value, True)] == ["works"]
    monkeypatch.setattr(attention, "FUSED", {"refuses": refuses})
    assert [*attention.runs(query, key, value, True)] == ["default"]


def test_rotary_embedding_turns_queries_and_keys_but_not_values(measure):
    kernels = sys.modules["kernels"]
    heads = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    cosine, sine = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[-10.0, 10.0]]])
    assert kernels.rotate(heads, cosine, sine, 1).tolist() == [[[-19.5, 11.0], [3.0, 4.0]]]


def test_keys_and_values_land_in_their_slots(measure):
    kernels = sys.modules["kernels"]
    cache, qkv = torch.zeros(2, 6, 1, 1), torch.tensor([[[1.0], [2.0], [3.0]]])
    kernels.write_kv(cache, torch.tensor([4]), qkv, 1)
    key, value = kernels.keys_and_values(cache, 2)
    assert key.flatten().tolist() == [0, 0, 0, 0, 2, 0]
    assert value.flatten().tolist() == [0, 0, 0, 0, 3, 0]


def test_a_coarser_grid_keeps_the_ends(measure):
    grid = sys.modules["grid"]
    coarse = [*grid.points(measure.TINY, 1, False, every=6)]
    chunks = {point.key["isl"] for point in coarse if point.file == "context_attention_perf"}
    assert chunks == {16, 512, 4096, 16384}
    with pytest.raises(SystemExit):
        measure.main(["--every", "0", "--out", "unused"])


def test_a_whole_step_is_measured_once(measure, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT))
    import whole

    monkeypatch.setattr(whole, "PROMPTS", (32,))
    monkeypatch.setattr(whole, "DECODES", (1, 3))
    options = ["--device", "cpu", "--tiny", "--out", str(tmp_path)]
    whole.main(options)
    first = pd.read_csv(tmp_path / "whole_step_perf.csv")
    assert first[["batch_size", "tokens", "context"]].to_numpy().tolist() == [
        [1, 32, 32],
        [1, 1, 1024],
        [3, 1, 1024],
    ]
    whole.main(options)
    assert pd.read_csv(tmp_path / "whole_step_perf.csv").equals(first)


def test_a_compiler_that_is_missing_leaves_a_point_out_and_is_said(measure, tmp_path):
    def broken(_):
        raise TorchDynamoException("no C compiler\nand many more lines")

    console = measure.Console(record=True, width=200)
    point = measure.Point("elementwise_perf", {"m": 1}, broken)
    results = measure.Results(tmp_path, "CPU")
    measure.measure(point, results, torch.device("cpu"), console)
    text = console.export_text()
    assert "left out elementwise_perf {'m': 1}: torch.compile does not work here" in text
    assert "no C compiler" in text
    assert "many more" not in text


def test_a_point_that_does_not_fit_is_left_out_and_said(measure, tmp_path, monkeypatch):
    def full(_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    console, device = measure.Console(record=True), torch.device("cpu")
    results = measure.Results(tmp_path, "CPU")
    measure.measure(measure.Point("gemm_perf", {"m": 1}, full), results, device, console)
    assert "left out gemm_perf {'m': 1}" in console.export_text()
    assert not (tmp_path / "gemm_perf.csv").exists()


@pytest.mark.parametrize("model", ["Llama-3.1-8B", "Qwen2.5-14B"])
def test_the_shipped_profile_of_the_h200_comes_from_the_tables_here(model, tmp_path):
    shipped = profiles.load(f"{model}_h200-torch_tp1")
    origin = shipped.provenance
    source = Source(origin.source, licence=origin.licence)
    again = calibrate(SCRIPT / "h200" / model.lower(), model, source=source)
    assert again.save(tmp_path).read_text() == (profiles.DATA / f"{again.name}.json").read_text()


@pytest.mark.parametrize("model", ["Llama-3.1-8B", "Qwen2.5-14B"])
def test_the_sum_of_operations_is_within_six_per_cent_of_a_whole_step(model, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT))
    import compare

    steps = compare.steps(SCRIPT / "h200" / model.lower(), model)
    assert len(steps) == 8
    assert (steps["ours/measured"] - 1).abs().max() < 0.06


def test_the_h200_of_a_scenario_stays_that_of_the_public_tables():
    name = profiles.profile_name("Llama-3.1-8B", "H200", 1)
    assert "aiconfigurator" in profiles.load(name).provenance.source
