"""The paper's experiment on numbers small enough for a test, and a small run of all of it."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sgym import simulate
from sgym.workload import describe

FOLDER = Path(__file__).resolve().parents[2] / "experiments"
SCENARIO = {
    "engine": {"num_gpu_blocks": 40, "max_model_len": 512},
    "latency": {"linear": {"iteration": 0.05}},
    "workload": {"rate": 3.0, "lengths": [{"prompt": 100, "output": 60, "output_sigma": 0.5}]},
    "slo": {"classes": [{"token_time": 0.2, "alpha": 2.5}]},
    "episode": {"duration": 30.0},
}
READER = {"token_time": 0.2, "first_delay": 0.0, "alpha": 2.5}
PATIENT = {"token_time": 100.0, "first_delay": 0.0, "alpha": 2.5}


def module(name):
    path = list(sys.path)
    sys.path[:0] = [str(FOLDER / "paper"), str(FOLDER)]
    try:
        return importlib.import_module(name)
    finally:
        sys.path[:] = path


@pytest.fixture(scope="module")
def effects():
    return module("effects")


@pytest.fixture(scope="module")
def tables():
    return module("tables")


@pytest.fixture(scope="module")
def result():
    return simulate(SCENARIO, "vllm", seed=3, log=("tokens",))


def run_of_tokens(effects, *times, end=10.0):
    """Requests that arrive at 0 and have tokens at these times."""
    return effects.Run(
        arrival=np.zeros(len(times)),
        output=np.array([len(one) for one in times]),
        request=np.repeat(np.arange(len(times)), [len(one) for one in times]),
        number=np.concatenate([np.arange(1, len(one) + 1) for one in times]),
        time=np.concatenate([np.array(one) for one in times]),
        first=np.cumsum([0, *(len(one) for one in times)]),
        end=end,
    )


@pytest.mark.parametrize("workload", ["ShareGPT", "LooGLE-like"])
def test_every_request_fits_the_context(workload):
    settings = module("settings")
    scenario = settings.scenario("Qwen2.5-14B", workload, "chunked", 60_000.0)
    drawn = describe(scenario, seed=1)
    assert drawn["requests"] > 50_000
    assert drawn["sequence_too_long"] == 0


def test_the_metric_from_the_tokens_is_that_of_the_summary(effects, result):
    run = effects.run_of(result)
    earned = effects.benefit(run, READER).sum() / run.end
    assert earned == pytest.approx(result.summary["smooth_goodput"], rel=1e-9)
    met = effects.on_time(run, READER)
    assert met.mean() == pytest.approx(result.summary["slo_attainment"])
    assert run.output[met].sum() / run.end == pytest.approx(result.summary["goodput_tok_s"])


def test_held_back_tokens_come_a_threshold_apart_and_never_early(effects):
    run = run_of_tokens(effects, [1.0, 1.1, 1.2, 3.0], [2.0, 2.1])
    later = effects.delayed(run, 0.5)
    assert later.time.tolist() == pytest.approx([1.0, 1.5, 2.0, 3.0, 2.0, 2.5])
    assert effects.meets_tbt(run, 0.5).tolist() == [False, True]
    assert effects.meets_tbt(effects.delayed(run, 1.0), 1.0).tolist() == [True, True]


def test_tokens_that_are_held_back_beyond_the_end_do_not_count(effects):
    run = run_of_tokens(effects, [1.0, 1.1, 1.2, 1.3], end=2.2)
    later = effects.delayed(run, 0.5)
    assert effects.counts(later).tolist() == [3]
    assert effects.benefit(later, READER).tolist() == pytest.approx([3 - 2.5 * 1.4])


def test_a_dropped_request_keeps_what_came_before_its_first_late_token(effects):
    run = run_of_tokens(effects, [0.1, 0.2, 0.9, 1.0], [0.1, 0.3])
    fewer = effects.dropped(run, READER)
    assert effects.counts(fewer).tolist() == [2, 2]
    # the third token is due at 0.6 and does not come before the end at 10
    assert effects.benefit(fewer, READER).tolist() == pytest.approx([2 - 2.5 * 9.4, 2.0])
    assert effects.benefit(run, READER).tolist() == pytest.approx([4 - 2.5 * 0.3, 2.0])


def test_delay_and_abandonment_raise_nobodys_benefit_and_lower_somebodys(effects, result):
    run = effects.run_of(result)
    for changed in (effects.delayed(run, 0.2), effects.dropped(run, READER)):
        change = effects.benefit(changed, READER) - effects.benefit(run, READER)
        assert change.max() <= 1e-9
        assert change.min() < -1.0


def test_delay_up_to_a_readers_own_pace_costs_him_what_the_end_cuts_off_alone(effects, result):
    run = effects.run_of(result)
    later = effects.delayed(run, READER["token_time"])
    change = effects.benefit(later, READER) - effects.benefit(run, READER)
    fewer = effects.counts(later) - effects.counts(run)
    assert fewer.min() < 0
    assert change.tolist() == pytest.approx(fewer.tolist(), abs=1e-6)


def test_an_engine_that_drops_serves_only_who_is_on_time(effects, result):
    freed = effects.without_missed(result, READER)
    requests = freed.state.requests
    finished = requests[requests["finish"] > 0]
    assert len(finished)
    assert finished["lateness"].max() <= 0
    assert freed.summary["num_rejected"] > 0


def test_an_engine_with_nobody_to_drop_is_the_stock_engine(effects, result):
    same = effects.without_missed(result, PATIENT).state.requests
    assert same["finish"].tobytes() == result.state.requests["finish"].tobytes()


def test_the_peak_is_the_vertex_of_a_parabola(tables):
    rates = np.array([1.0, 2.0, 3.0, 4.0])
    curves = np.array([-((rates - 2.3) ** 2), rates, -rates])
    assert tables.peak_rates(curves, rates).tolist() == pytest.approx([2.3, 4.0, 1.0])


def test_a_step_in_the_wrong_direction_counts_if_it_is_no_chance(tables):
    noise = np.array([[0.0, 0.1, 0.0, 0.1], [0.1, 0.0, 0.1, 0.0]] * 4)
    two = np.array([1.0, 5.0, 3.0, 4.0]) + noise
    assert tables.wrong_steps(two) == 1
    assert tables.wrong_steps(two[:, :3]) == 0
    assert tables.wrong_steps(noise) == 0


def test_a_seed_is_held_out_of_the_choice_of_its_peak(tables):
    values = np.array([[9.0, 1.0, 0.0], [0.0, 2.0, 3.0], [0.0, 2.0, 3.0]])
    # without the first seed the last rate is best, without another one the first rate is
    assert tables.held_out_peak(values).tolist() == [0.0, 0.0, 0.0]


def test_parameters_of_the_optimiser_reach_the_features_that_they_name():
    optimise = module("optimise")
    judge = optimise.Judge("one reader", 5.0)
    parts = judge.scorer.parts(optimise.spread(np.arange(1.0, optimise.SIZE + 1), judge.scorer))
    assert parts["waiting"][judge.scorer.requests.index("slack")] == 1.0
    assert parts["running"][judge.scorer.requests.index("slack")] == 1.0 + len(optimise.WAITING)
    assert parts["limits"][:, 0].tolist() == [13.0, 14.0, 15.0, 16.0]
    assert np.count_nonzero(parts["limits"][:, 1:]) == 0


def test_a_policy_whose_parameters_are_0_is_the_base():
    optimise = module("optimise")
    judge = optimise.Judge("three readers", 20.0)
    own, base = judge.rows(np.zeros(optimise.SIZE), [7, 8]), judge.reference(optimise.BASE, [7, 8])
    other = judge.reference("vllm", [7, 8])
    pd.testing.assert_frame_equal(own, base)
    assert (other["smooth_goodput"] != base["smooth_goodput"]).any()


@pytest.mark.slow
def test_a_small_run_writes_every_table_and_figure(tmp_path):
    command = [sys.executable, str(FOLDER / "paper" / "run.py"), "--quick", "--jobs", "1"]
    subprocess.run([*command, "--out", str(tmp_path)], check=True, env=os.environ)
    figures = {path.stem for path in tmp_path.glob("*.png")}
    assert figures == {path.stem for path in (FOLDER / "paper").glob("*.png")}
    said = (tmp_path / "findings.md").read_text("utf-8")
    for finding in "abcdef":
        assert f"**({finding}) " in said
    cross = pd.read_csv(tmp_path / "cross.csv")
    assert cross.groupby("metric")["share"].max().tolist() == [1.0] * 5
