"""`sgym compare`."""

import sys

import pandas as pd
import pytest

from sgym.cli.common import PIPE_WIDTH
from sgym.cli.compare import folder_name, verdict
from sgym.comparison import knee
from sgym.comparison.store import FILE

SHORT = ("--duration", 3, "--seeds", 2, "--jobs", 1)

POLICIES = """
class Longest:
    def schedule(self, view):
        from sgym import Steering
        return Steering(waiting_score={one.id: float(one.prompt) for one in view.waiting})


class Interrupting:
    def schedule(self, view):
        raise KeyboardInterrupt


class Broken:
    def schedule(self, view):
        return view.no_such_thing
"""


def own_policies(folder, monkeypatch, module):
    (folder / f"{module}.py").write_text(POLICIES)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command adds the current folder


def test_a_comparison_prints_a_table_and_writes_tables_and_a_figure(sgym_command, tmp_path):
    result = sgym_command("compare", "tiny", "--policies", "vllm,spf", "--rates", "6,12", *SHORT)
    assert result.exit_code == 0, result.output
    assert "tiny: 2 seeds of 3 s each, starting empty" in result.output
    assert "At 12 requests/s" in result.output
    folder = tmp_path / "sgym-results" / "tiny"
    assert len(pd.read_csv(folder / "runs.csv")) == 8
    assert list(pd.read_csv(folder / "table.csv")["policy"]) == ["vllm", "spf"] * 2
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_without_rates_the_knee_is_found_and_said(sgym_command, monkeypatch):
    monkeypatch.setattr(knee, "FEWEST_SEEDS", 1)
    monkeypatch.setattr(knee, "SEARCHED", 3.0)
    options = ("--policies", "vllm", "--duration", 3, "--seeds", 1, "--jobs", 1)
    result = sgym_command("compare", "tiny", *options)
    assert result.exit_code == 0, result.output
    assert "Smooth goodput under vllm peaks near" in result.output
    assert "0.7 to 1.3 of it" in result.output


def test_a_trace_replaces_the_workload_and_what_cannot_be_served_is_said_first(
    sgym_command, tmp_path
):
    rows = [f"{0.1 * number:.1f},{5000 if number == 7 else 40},20" for number in range(200)]
    (tmp_path / "mine.csv").write_text("\n".join(["arrival,prompt,output", *rows]) + "\n")
    options = ("--trace", "mine.csv", "--policies", "vllm,orca", "--rates", 9, "--out", "here")
    options += ("--set", "workload.max_prompt=null")
    result = sgym_command("compare", "tiny", *options, *SHORT)
    assert result.exit_code == 0, result.output
    note = "1 of 200 requests (0.5 %) can never be served and will be refused"
    assert result.output.index(note) < result.output.index("SLO met")
    assert "trace mine.csv" in result.output
    assert (tmp_path / "here" / "figure.png").exists()


def test_an_interrupted_command_keeps_what_was_finished(sgym_command, tmp_path, monkeypatch):
    own_policies(tmp_path, monkeypatch, "interrupting_policies")
    own = "interrupting_policies:Interrupting"
    result = sgym_command("compare", "tiny", "--policies", f"vllm,{own}", "--rates", 6, *SHORT)
    assert result.exit_code == 130
    assert "Interrupted" in result.output
    assert "the same command continues" in result.output
    folder = tmp_path / "sgym-results" / "tiny"
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert len((folder / FILE).read_text().splitlines()) == 1


def test_a_policy_of_the_current_folder_is_found(sgym_command, tmp_path, monkeypatch):
    own_policies(tmp_path, monkeypatch, "longest_policies")
    own = "longest_policies:Longest"
    result = sgym_command("compare", "tiny", "--policies", f"vllm,{own}", "--rates", 6, *SHORT)
    assert result.exit_code == 0, result.output
    assert own in result.output


def test_an_error_of_ones_own_policy_keeps_its_traceback(sgym_command, tmp_path, monkeypatch):
    own_policies(tmp_path, monkeypatch, "broken_policies")
    result = sgym_command(
        "compare", "tiny", "--policies", "broken_policies:Broken", "--rates", 6, *SHORT
    )
    assert isinstance(result.exception, AttributeError)


def test_rates_that_are_no_numbers_are_one_message(sgym_command):
    result = sgym_command("compare", "tiny", "--rates", "5;6", *SHORT)
    assert result.exit_code == 2
    assert "--rates must be numbers with commas between, got '5;6'" in result.output


def test_what_a_run_warns_of_becomes_a_note(sgym_command, tmp_path):
    rows = [f"{number},20,5" for number in range(10)]
    (tmp_path / "short.csv").write_text("\n".join(["arrival,prompt,output", *rows]) + "\n")
    options = ("--trace", "short.csv", "--policies", "vllm", "--rates", 100)
    result = sgym_command("compare", "tiny", *options, *SHORT)
    assert result.exit_code == 0, result.output
    assert result.output.count("note: trace short.csv is sped up 100 times") == 1


def test_tables_are_wide_where_there_is_no_terminal(sgym_command, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    output = sgym_command("list", "routers").output
    assert "least_outstanding" in output
    output = sgym_command("list", "policies").output
    assert max(map(len, output.splitlines())) == PIPE_WIDTH


def test_the_verdict_says_whether_a_difference_may_be_chance_and_what_goes_with_it():
    base = {"rate": 5.0, "policy": "vllm", "smooth_goodput": 100.0, "difference": 0.0}
    base |= {"significant": False, "idle_latency_mean": 4.0, "ttft_p50": 3.0, "num_preemptions": 9}
    best = base | {"policy": "spf", "smooth_goodput": 120.0, "difference": 20.0}
    best |= {"idle_latency_mean": 1.0, "ttft_p50": 0.5, "num_preemptions": 0}
    text = verdict(pd.DataFrame([base, best]), 5.0, "vllm")
    assert "spf[/] earns most: 20.0 tokens/s (20.0 %) more than vllm, which may be chance" in text
    assert "wait 1.00 s on average for tokens that are due, against 4.00 s" in text
    assert text.endswith("0 against 9 preemptions.")
    sure = verdict(pd.DataFrame([base, best | {"significant": True}]), 5.0, "vllm")
    assert "chance" not in sure
    assert verdict(pd.DataFrame([base]), 5.0, "vllm").endswith("vllm[/] earns most.")


@pytest.mark.parametrize(
    ("name", "folder"),
    [("tiny", "tiny"), ("../../elsewhere", "_.._elsewhere"), ("/etc", "_etc"), ("..", "unnamed")],
)
def test_the_name_of_a_scenario_never_leads_out_of_the_folder_of_results(name, folder):
    assert folder_name(name) == folder


def test_no_processes_at_all_are_refused(sgym_command):
    result = sgym_command("compare", "tiny", "--rates", 6, "--jobs", 0)
    assert result.exit_code == 2
    assert "jobs must be at least 1, got 0" in result.output
