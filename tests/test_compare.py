"""`sgym.compare`: the same table however it is computed, and nothing lost by an interruption."""

import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import sgym
from sgym.comparison import knee as knee_search
from sgym.comparison.changes import changes, folder_name
from sgym.comparison.knee import FIRST_SEED, find_knee, rounded
from sgym.comparison.runner import Runner
from sgym.comparison.runs import Task
from sgym.comparison.store import FILE, Store
from sgym.comparison.table import BANDS, MEANS, summary_table
from sgym.errors import PolicyError, ScenarioError, SgymError

SHORT = {"episode.duration": 4.0}


class LongestFirst:
    """A policy of a user's own."""

    def schedule(self, view):
        return sgym.Steering(waiting_score={one.id: float(one.prompt) for one in view.waiting})


def compared(**changes):
    options = {"policies": ["vllm", "spf"], "rates": [6.0, 12.0], "seeds": 2, "overrides": SHORT}
    return sgym.compare("tiny", **(options | changes))


def test_there_is_a_row_per_policy_rate_and_seed():
    result = compared()
    assert len(result.rows) == 2 * 2 * 2
    assert list(result.rows.columns[:4]) == ["policy", "rate", "seed", "smooth_goodput"]
    assert list(result.table["policy"]) == ["vllm", "spf", "vllm", "spf"]
    assert list(result.table["rate"]) == [6.0, 6.0, 12.0, 12.0]


def test_a_row_is_what_simulate_says():
    result = compared()
    scenario = sgym.load_scenario("tiny", SHORT | {"workload.rate": 12.0})
    alone = sgym.simulate(scenario, "spf", seed=1).summary
    row = result.rows.query("policy == 'spf' and rate == 12 and seed == 1").iloc[0]
    assert row["smooth_goodput"] == alone["smooth_goodput"]
    assert row["ttft_p99"] == alone["ttft_p99"]


def test_two_processes_give_the_same_table_as_one():
    one, two = compared(jobs=1), compared(jobs=2)
    pd.testing.assert_frame_equal(one.table, two.table, check_exact=True)
    pd.testing.assert_frame_equal(one.rows, two.rows, check_exact=True)


def test_a_policy_of_ones_own_is_compared_as_class_and_as_object():
    result = compared(policies=["vllm", LongestFirst], rates=[12.0])
    again = compared(policies=["vllm", LongestFirst()], rates=[12.0])
    assert result.policies == again.policies == ("vllm", "LongestFirst")
    pd.testing.assert_frame_equal(result.table, again.table, check_exact=True)


def test_a_policy_that_cannot_be_sent_to_a_process_is_refused():
    class Local:
        def schedule(self, view):
            return None

    with pytest.raises(PolicyError, match=r"cannot be sent to another process.*jobs=1"):
        compared(policies=["vllm", Local], jobs=2)


def test_an_interrupted_comparison_continues_and_ends_with_the_same_table(tmp_path):
    def stop(doing, done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compared(out=tmp_path, progress=stop)
    steps = []
    resumed = compared(out=tmp_path, progress=lambda doing, done, total: steps.append(done))
    assert steps == [3, 4, 5, 6, 7, 8]
    pd.testing.assert_frame_equal(resumed.table, compared().table, check_exact=True)


def test_a_line_that_a_crash_cut_short_is_simulated_again(tmp_path):
    expected = compared(out=tmp_path)
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[:-40])
    steps = []
    result = compared(out=tmp_path, progress=lambda doing, done, total: steps.append(done))
    assert steps == [7, 8]
    pd.testing.assert_frame_equal(result.table, expected.table, check_exact=True)
    assert all(json.loads(line)["key"] for line in file.read_text().splitlines())


def test_lines_that_hold_no_run_are_cut_out_of_the_kept_file(tmp_path):
    expected = compared(out=tmp_path)
    file = tmp_path / FILE
    first, *others = file.read_bytes().splitlines(keepends=True)
    broken = json.loads(first) | {"metrics": {"smooth_goodput": "high"}}
    odd = ["no json", "[]", "5", "null", '{"key": "a", "metrics": 5}', json.dumps(broken)]
    file.write_bytes(b"\xff\xfe\n" + "\n".join(odd).encode() + b"\n" + b"".join(others))
    result = compared(out=tmp_path)
    pd.testing.assert_frame_equal(result.table, expected.table, check_exact=True)
    assert len(file.read_text().splitlines()) == 1 + len(others)


def test_a_folder_that_cannot_be_written_is_named_before_the_work(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SgymError, match=r"cannot make the folder .*taken.*: choose another one"):
        compared(out=tmp_path / "taken")
    (tmp_path / FILE).mkdir()
    with pytest.raises(SgymError, match="is a folder, but finished runs are kept in a file"):
        compared(out=tmp_path)


def test_the_processes_of_a_killed_comparison_end_with_it(tmp_path):
    script = tmp_path / "long.py"
    script.write_text(
        "import sgym\n"
        "if __name__ == '__main__':\n"
        "    short = {'episode.duration': 3.0}\n"
        "    sgym.compare('tiny', ['vllm'], [6.0], seeds=10**4, jobs=2, overrides=short, "
        "out='kept')\n"
    )
    found = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, str(script)], cwd=tmp_path, env=found, stdout=subprocess.PIPE
    ) as process:
        while not (tmp_path / "kept" / FILE).exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == b""  # ends when the last process that holds it does


def test_another_scenario_does_not_reuse_what_an_earlier_one_left(tmp_path):
    compared(out=tmp_path)
    steps = []
    compared(
        out=tmp_path,
        overrides=SHORT | {"engine.max_num_seqs": 4},
        progress=lambda doing, done, total: steps.append(done),
    )
    assert steps[0] == 0


def test_an_edited_policy_is_simulated_again(tmp_path, monkeypatch):
    scenario = sgym.load_scenario("tiny")
    module = tmp_path / "edited_policy.py"
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for text in ("# one\n", "# two\n"):
        module.write_text(text)
        store = Store(None, scenario)
        keys.append(store.key(Task("a", "edited_policy:Mine", 1.0, 0)))
    assert keys[0] != keys[1]


def test_the_table_pairs_differences_by_seed():
    rows = pd.DataFrame(
        [
            {"policy": policy, "rate": 1.0, "seed": seed, "smooth_goodput": value}
            for policy, values in {"a": (10.0, 20.0, 30.0), "b": (11.0, 21.0, 31.0)}.items()
            for seed, value in enumerate(values)
        ]
    )
    for name in (*MEANS, *BANDS[1:]):
        rows[name] = [1.0, np.nan, 3.0] * 2
    table = summary_table(rows, ["a", "b"], 0.95).set_index("policy")
    # Student's t with 2 degrees of freedom is 4.303; the deviation of 10, 20, 30 is 10.
    assert table.loc["a", "smooth_goodput"] == 20.0
    assert table.loc["a", "smooth_goodput_high"] == pytest.approx(
        20 + 4.3027 * 10 / 3**0.5, abs=1e-3
    )
    assert table.loc["b", "difference"] == 1.0
    assert table.loc["b", "significant"]
    assert not table.loc["a", "significant"]
    assert table.loc["a", "ttft_p99"] == 2.0  # of the seeds that have one


def test_the_knee_is_where_smooth_goodput_is_highest_among_the_rates_tried(monkeypatch):
    monkeypatch.setattr(knee_search, "FEWEST_SEEDS", 1)
    monkeypatch.setattr(knee_search, "SEARCHED", 4.0)
    result = compared(rates=None, policies=["vllm"], seeds=1, overrides=SHORT)
    knee = result.knee
    assert knee is not None
    assert knee.tried[knee.rate] == max(knee.tried.values())
    assert min(knee.tried) < knee.rate < max(knee.tried)
    assert set(result.rows["rate"]) == set(knee.rates)
    assert min(knee.rates) == pytest.approx(0.7 * knee.rate, rel=0.05)
    assert FIRST_SEED > 1000  # no seed of the search is one of the comparison


def test_short_windows_are_searched_with_more_seeds_up_to_a_limit():
    scenario = sgym.load_scenario("tiny", {"episode.duration": 180.0})
    assert knee_search.seeds_needed(scenario) == 10
    assert knee_search.seeds_needed(sgym.load_scenario(scenario, {"episode.duration": 1.0})) == 24
    assert knee_search.seeds_needed(sgym.load_scenario(scenario, {"episode.duration": 1e4})) == 3


def test_a_load_that_only_loses_has_no_knee(monkeypatch):
    monkeypatch.setattr(knee_search, "FEWEST_SEEDS", 1)
    monkeypatch.setattr(knee_search, "SEARCHED", 4.0)
    hopeless = {"slo.classes.0.token_time": 1e-6, "slo.classes.0.alpha": 1e6}
    with pytest.raises(ScenarioError, match="it still falls at"):
        compared(rates=None, policies=["vllm"], seeds=1, overrides=SHORT | hopeless)


def test_what_a_run_warns_of_is_passed_on_once(tmp_path):
    rows = [f"{number},20,5" for number in range(10)]
    (tmp_path / "short.csv").write_text("\n".join(["arrival,prompt,output", *rows]) + "\n")
    changes = SHORT | {"workload.trace": str(tmp_path / "short.csv")}
    with pytest.warns(UserWarning, match="is sped up") as caught:
        compared(policies=["vllm"], rates=[100.0], overrides=changes)
    assert len(caught) == 1


def test_a_load_that_never_saturates_has_no_knee(monkeypatch):
    monkeypatch.setattr(knee_search, "FEWEST_SEEDS", 1)
    monkeypatch.setattr(knee_search, "SEARCHED", 4.0)
    scenario = sgym.load_scenario("tiny", SHORT | {"workload.num_requests": 1})
    with (
        pytest.raises(ScenarioError, match="it still rises at"),
        Runner(scenario, Store(None, scenario)) as runner,
    ):
        find_knee(runner)


@pytest.mark.parametrize(
    ("rate", "readable"), [(9.4321, 9.4), (12.345, 12.3), (0.4567, 0.46), (187.6, 188.0)]
)
def test_rates_are_rounded_to_what_a_person_can_type(rate, readable):
    assert math.isclose(rounded(rate), readable)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"policies": []}, PolicyError, "policies must be a list of at least one"),
        ({"policies": "vllm"}, PolicyError, "policies must be a list"),
        ({"policies": ["vllm", "vllm"]}, PolicyError, "'vllm' is there twice"),
        ({"policies": ["fastest"]}, PolicyError, "no policy 'fastest'; known: stock"),
        ({"seeds": 0}, ScenarioError, "seeds must be at least 1, got 0"),
        ({"seeds": [1, 1]}, ScenarioError, r"seeds must be different .* got \[1, 1\]"),
        ({"rates": [0.0]}, ScenarioError, "rates must be requests per second above 0"),
        ({"jobs": 0}, ScenarioError, "jobs must be at least 1, got 0"),
        ({"overrides": {"engine.seqs": 1}}, ScenarioError, "engine.seqs is no known key"),
    ],
)
def test_a_wrong_argument_is_named_with_its_rule(options, error, message):
    with pytest.raises(error, match=message):
        compared(**options)


def test_the_files_of_a_comparison_read_back_as_its_tables(tmp_path):
    result = compared()
    runs, table, figure = result.save(tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(runs), result.rows, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_csv(table), result.table, check_dtype=False)
    assert figure.stat().st_size > 10_000
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "figure.png",
        "runs.csv",
        "table.csv",
    ]


@pytest.mark.parametrize(
    ("name", "folder"),
    [("tiny", "tiny"), ("../../elsewhere", "_.._elsewhere"), ("/etc", "_etc"), ("..", "unnamed")],
)
def test_the_name_of_a_scenario_never_leads_out_of_the_folder_of_results(name, folder):
    assert folder_name(name, {}) == folder


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        ({"workload.trace": "azure/Code_conv"}, "tiny-azure_Code_conv"),
        ({"workload.trace": "../of mine/a.csv"}, "tiny-of_mine_a.csv"),
        ({"workload.max_prompt": None}, "tiny-max_prompt_null"),
        ({"slo": "chat", "engine.max_num_seqs": 8}, "tiny-max_num_seqs_8-slo_chat"),
        ({"slo.classes.0.alpha": 2.5}, "tiny-classes.0.alpha_2.5"),
    ],
)
def test_a_folder_says_what_was_changed(overrides, folder):
    assert folder_name("tiny", overrides) == folder


def test_names_of_folders_stay_short_and_differ():
    names = {folder_name("tiny", {"workload.trace": "a" * 300 + end}) for end in "bc"}
    assert len(names) == 2
    assert {len(name) for name in names} == {100}


def test_a_title_says_what_was_changed_unless_it_says_so_anyway():
    overrides = {"workload.trace": "of/mine.csv", "engine.max_num_seqs": 8, "episode.duration": 3}
    assert changes(overrides) == ["engine.max_num_seqs=8", "trace mine.csv"]
    assert compared(rates=[6.0], overrides=SHORT | {"engine.max_num_seqs": 8}).title == (
        "tiny, engine.max_num_seqs=8: 2 seeds of 4 s each, starting empty"
    )
