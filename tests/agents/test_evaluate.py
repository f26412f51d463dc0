"""Evaluation: paired differences, intervals, tables; what it refuses."""

import numpy as np
import pandas as pd
import pytest

from agents import evaluate, evolve
from agents.config import Training
from agents.entry import load_entry
from agents.report import entry_rows
from agents.statistics import bootstrap_mean, bootstrap_ratio
from agents.train import train
from sgym.errors import ScenarioError


def test_an_interval_covers_the_mean_and_is_the_same_each_time():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    first, again = bootstrap_mean(values), bootstrap_mean(values)
    assert first == again
    assert first.low < first.value == 2.5 < first.high
    assert first.is_clear
    assert not bootstrap_mean(np.array([-1.0, 1.0, -2.0, 2.0])).is_clear
    assert bootstrap_mean(np.array([1.0, 1.0])).text() == "+1.0 (+1.0 to +1.0)*"


def test_a_ratio_keeps_pairs_together():
    top, bottom = np.array([1.0, 10.0]), np.array([2.0, 20.0])
    assert bootstrap_ratio(top, bottom) == (0.5, 0.5, 0.5)


def episodes(**earned):
    kinds = {"zoo:x": "learned", "bound": "bound"}
    rows = [
        {"entry": "x", "workload": "w", "rate": 2.0, "seconds": 60.0, "seed": seed}
        | {"policy": name, "kind": kinds.get(name, "heuristic"), "smooth_goodput": value}
        for name, values in earned.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_a_learned_policy_is_compared_with_the_best_heuristic_and_the_bound():
    earned = {"zoo:x": [104.0, 114.0], "bound": [120.0, 130.0]}
    rows = episodes(fcfs=[50.0, 60.0], spf=[100.0, 110.0], **earned)
    row = entry_rows(rows).iloc[0]
    assert row["best_heuristic"] == "spf"
    assert row["gain"] == row["gain_low"] == row["gain_high"] == 4.0
    assert row["gain_percent"] == pytest.approx(100 * 4 / 105)
    assert row["gap_closed_percent"] == pytest.approx(20.0)


def test_a_scenario_is_played_once_and_then_read(tmp_path, capsys):
    typed = ["tiny", "--policies", "vllm,spf", "--rates", "9", "--seeds", "3", "--duration", "4"]
    typed += ["--bound", "--jobs", "1", "--out", str(tmp_path)]
    evaluate.main(typed)
    shown = capsys.readouterr().out
    assert "spf" in shown
    table = pd.read_csv(tmp_path / "metrics_4s.csv").set_index("policy")
    assert table.loc["bound", "smooth_goodput"] >= table.loc["spf", "smooth_goodput"]
    assert {"ttft_p99", "slo_attainment", "cpu_s"} <= set(table.columns)
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").iterdir()}
    assert len(kept) == 3
    evaluate.main(typed)
    assert kept == {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").iterdir()}


def test_a_model_of_agents_train_is_a_contender(tmp_path):
    training = Training.model_validate(
        {"algo": "ppo", "scenario": "tiny", "overrides": {"episode.duration": 4.0}, "n_envs": 2}
        | {"env_kwargs": {"action": "knobs", "num_slots": 4}, "n_steps": 16, "n_timesteps": 32}
        | {"batch_size": 16, "n_epochs": 1, "evaluation": {"seeds": 2, "freq": 1_000}}
    )
    train(training, 0, tmp_path / "model", bar=False)
    typed = ["tiny", "--policies", f"spf,{tmp_path / 'model'}", "--seeds", "2", "--duration", "4"]
    evaluate.main([*typed, "--jobs", "1", "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "table_4s.csv")
    assert table["best_heuristic"].tolist() == ["spf"]
    assert np.isfinite(table["gain_percent"]).all()


def test_a_folder_that_holds_no_model_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match=r"is no folder of `python -m agents\.train`"):
        evaluate.main(["tiny", "--policies", str(tmp_path), "--jobs", "1", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ([], "name one scenario, or give --zoo"),
        (["tiny", "--seeds", "1"], "--seeds must be at least 2, got 1"),
        (["tiny", "--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["tiny", "--long"], "--long is for --zoo, and has rates and durations of its own"),
    ],
)
def test_what_is_typed_wrongly_is_named(typed, message, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(typed)
    assert message in capsys.readouterr().err


def test_an_entry_is_played_at_other_rates_and_in_its_long_windows():
    name, entry = load_entry("tiers_8b")
    typed = evaluate.arguments(["--zoo", name, "--rates", "3", "--duration", "30", "--seeds", "2"])
    cells = evaluate.cells_of_entry(name, entry, typed)
    assert {cell.labels["rate"] for cell in cells} == {3.0}
    assert {cell.loaded().episode.duration for cell in cells} == {30.0}
    cells = evaluate.cells_of_entry(name, entry, evaluate.arguments(["--zoo", "--long"]))
    assert entry.long is not None
    assert {cell.labels["rate"] for cell in cells} == set(entry.long.rates)
    assert {cell.loaded().episode.duration for cell in cells} == {1800.0}
    assert {cell.contender.kind for cell in cells} == {"heuristic", "learned"}
    assert {cell.labels["workload"] for cell in cells} == {"held-out seeds"}
    name, entry = load_entry("chat_8b")
    assert not evaluate.cells_of_entry(name, entry, evaluate.arguments(["--zoo", "--long"]))


def test_an_unknown_policy_is_an_error_and_no_traceback(tmp_path):
    with pytest.raises(SystemExit, match=r"error: .*no policy 'best'"):
        evaluate.main(["tiny", "--policies", "best", "--jobs", "1", "--out", str(tmp_path)])


def test_entries_say_what_is_wrong_with_them(tmp_path):
    with pytest.raises(ScenarioError, match=r"no entry 'nothing': give a config\.yml, or one of"):
        load_entry("nothing")
    (tmp_path / "config.yml").write_text("scenario: tiny\nrate: [1, 2]\n", "utf-8")
    with pytest.raises(ScenarioError, match=r"config.yml: (.|\n)*rate\n  Extra inputs"):
        load_entry(tmp_path)


def test_training_an_unknown_entry_is_an_error_and_no_traceback():
    with pytest.raises(SystemExit, match=r"error: no entry 'nothing'"):
        evolve.main(["nothing"])
