"""`sgym compare`."""

import sys

import pandas as pd
import pytest
from rich.console import Console

from sgym.cli.common import PIPE_WIDTH
from sgym.cli.compare import print_table, verdict
from sgym.comparison import DEFAULT_POLICIES, Comparison, default_policies, knee
from sgym.comparison.store import FILE
from sgym.comparison.table import BANDS, MEANS
from sgym.loading import load_scenario

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
    folder = tmp_path / "sgym-results" / "tiny-duration_3"
    assert len(pd.read_csv(folder / "runs.csv")) == 8
    assert list(pd.read_csv(folder / "table.csv")["policy"]) == ["vllm", "spf"] * 2
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_without_policies_the_zoo_joins_the_heuristics_where_it_knows_the_engine():
    trained, other = load_scenario("qwen14b-l40s-assistants"), load_scenario("tiny")
    assert default_policies(trained) == (*DEFAULT_POLICIES, "zoo:assistants_14b")
    busier = load_scenario("qwen14b-l40s-assistants", {"workload.rate": 3.0})
    assert default_policies(busier) == default_policies(trained)
    smaller = load_scenario("qwen14b-l40s-assistants", {"engine.max_num_seqs": 8})
    assert default_policies(smaller) == default_policies(other) == DEFAULT_POLICIES


def test_the_first_command_of_all_compares_heuristics_with_a_learned_policy(sgym_command):
    result = sgym_command("compare", "--rates", 2, "--duration", 20, "--seeds", 1, "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert "qwen14b-l40s-assistants: 1 seed of 20 s, starting empty" in result.output
    for policy in (*DEFAULT_POLICIES, "zoo:assistants_14b"):
        assert f" {policy} " in result.output


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
    assert result.output.index(note) < result.output.index("on time")
    assert "trace mine.csv" in result.output
    assert (tmp_path / "here" / "figure.png").exists()


def test_an_interrupted_command_keeps_what_was_finished(sgym_command, tmp_path, monkeypatch):
    own_policies(tmp_path, monkeypatch, "interrupting_policies")
    own = "interrupting_policies:Interrupting"
    result = sgym_command("compare", "tiny", "--policies", f"vllm,{own}", "--rates", 6, *SHORT)
    assert result.exit_code == 130
    assert "Interrupted" in result.output
    assert "the same command continues" in result.output
    folder = tmp_path / "sgym-results" / "tiny-duration_3"
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


def test_a_changed_scenario_has_a_folder_of_its_own_and_titles_that_say_so(sgym_command, tmp_path):
    (tmp_path / "mine.csv").write_text("arrival,prompt,output\n0,20,5\n1,20,5\n2,20,5\n")
    options = ("compare", "tiny", "--policies", "vllm", "--rates", 1, *SHORT)
    changed = (*options, "--trace", "mine.csv", "--set", "engine.max_num_seqs=8")
    assert sgym_command(*options).exit_code == 0
    plain = (tmp_path / "sgym-results" / "tiny-duration_3" / "runs.csv").read_bytes()
    for _ in range(2):  # the second one takes what the first one kept
        result = sgym_command(*changed)
        assert result.exit_code == 0, result.output
        assert "tiny, engine.max_num_seqs=8, trace mine.csv: 2 seeds" in result.output
        folder = tmp_path / "sgym-results" / "tiny-max_num_seqs_8-duration_3-mine.csv"
        assert len((folder / FILE).read_text().splitlines()) == 2
    assert (tmp_path / "sgym-results" / "tiny-duration_3" / "runs.csv").read_bytes() == plain


OWN = "my_schedulers:LongestPromptOfAll"


def wide_comparison(first="vllm", second=OWN):
    rows = []
    for rate in (8.4, 12.0):
        for policy, gain in {first: 0.0, second: 1427.2}.items():
            row = {"rate": rate, "policy": policy, "significant": gain > 0, "difference": gain}
            row |= dict.fromkeys(MEANS, 123.0)
            for name in BANDS:
                row |= {name: 1910.1, f"{name}_low": 1900.0, f"{name}_high": 1927.3}
            row |= {
                "slo_attainment": 0.985,
                "difference_low": gain - 158.9,
                "difference_high": gain + 158.9,
            }
            rows.append(row)
    table = pd.DataFrame(rows)
    names = tuple(table["policy"].unique())
    runs = pd.DataFrame({"seed": [0, 1]})
    return Comparison(load_scenario("tiny"), names, runs, table, 0.95, None)


@pytest.mark.parametrize(
    ("width", "missing"),
    [
        (60, "on time, tok/s, TTFT p99 s, TPOT p99 s, preempt."),
        (80, "TTFT p99 s, TPOT p99 s, preempt."),
        (100, "preempt."),
        (120, None),
        (160, None),
    ],
)
def test_a_narrow_console_leaves_columns_out_and_cuts_none(width, missing):
    screen = Console(width=width, highlight=False)
    with screen.capture() as captured:
        print_table(screen, wide_comparison())
    text = captured.get()
    table, footnote = text[: text.rindex("┘")], " ".join(text[text.rindex("┘") + 1 :].split())
    assert max(map(len, table.splitlines())) <= width
    assert "…" not in text
    for cell in ("8.4", "vllm", "1910.1 ± 17.2", "* +1427.2 ± 158.9"):
        assert f" {cell} " in table
    assert ("share of requests with every token on time" in footnote) == (width >= 80)
    if missing is None:
        assert "table.csv" not in footnote
        assert "preempt." in table
    else:
        assert f"Too narrow for {missing}: table.csv has all columns." in footnote


def test_a_reference_with_a_long_name_takes_no_more_room():
    screen = Console(width=60, highlight=False)
    with screen.capture() as captured:
        print_table(screen, wide_comparison(OWN, "vllm"))
    assert " the first ┃" in captured.get()
    assert "1910.1 ± 17.2 │ * +1427.2 ± 158.9 │" in captured.get()


def test_no_processes_at_all_are_refused(sgym_command):
    result = sgym_command("compare", "tiny", "--rates", 6, "--jobs", 0)
    assert result.exit_code == 2
    assert "jobs must be at least 1, got 0" in result.output
