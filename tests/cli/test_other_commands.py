"""`sgym list`, `check`, `schema`, `traces`, `calibrate` and `--version`."""

import hashlib
import json

import pytest
import yaml

import sgym
from sgym import profiles
from sgym.loading import builtin_scenarios
from sgym.policies.registry import POLICIES, ROUTERS
from sgym.workload import datasets, fetch, formats


def test_the_version_is_printed(sgym_command):
    assert sgym_command("--version").output.strip() == f"sgym {sgym.__version__}"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("scenarios", builtin_scenarios()),
        ("policies", POLICIES),
        ("profiles", profiles.names()),
        ("datasets", datasets()),
        ("routers", ROUTERS),
        ("metrics", ["paper_v2", "fast_reader"]),
    ],
)
def test_a_list_names_all_there_is(sgym_command, kind, names):
    result = sgym_command("list", kind)
    assert result.exit_code == 0, result.output
    for name in names:
        assert name in result.output


def test_without_a_kind_everything_is_listed(sgym_command):
    output = sgym_command("list").output
    assert "tiny" in output
    assert "power_of_two" in output
    assert "azure-conv-2023" in output


def test_a_list_of_policies_says_what_is_simplified_and_which_parameters_there_are(sgym_command):
    output = sgym_command("list", "policies").output
    assert "aging=20" in output
    assert "prefix caching and async" in output


def test_a_checked_scenario_is_printed_as_a_scenario_file(sgym_command):
    result = sgym_command("check", "llama8b-a100-azure", "--set", "workload.rate=3")
    assert result.exit_code == 0, result.output
    printed = yaml.safe_load(result.stdout)
    scenario = sgym.load_scenario("llama8b-a100-azure", {"workload.rate": 3.0})
    assert sgym.load_scenario(printed) == scenario
    blocks = profiles.for_scenario(scenario)[1]
    assert f"{blocks} usable KV blocks = {16 * blocks} tokens" in result.stdout


def test_a_check_counts_what_cannot_be_served_and_what_is_cut(sgym_command, tmp_path):
    (tmp_path / "odd.csv").write_text("prompt,output\n2000,5\n1000,90\n10,10\n10,11\n")
    result = sgym_command(
        "check", "tiny", "--trace", "odd.csv", "--set", "workload.max_prompt=null"
    )
    assert result.exit_code == 0, result.output
    assert "1 of 4 requests (25 %) can never be served" in result.stderr
    assert "1 of 4 outputs end early, at max_model_len = 1024 tokens" in result.stderr


def test_a_check_says_where_times_are_extrapolated(sgym_command):
    options = ("--set", "engine.max_num_batched_tokens=262144")
    result = sgym_command("check", "llama8b-a100-azure", *options)
    assert "times beyond are extrapolated linearly" in result.stderr


def test_the_schema_describes_every_section(sgym_command):
    schema = json.loads(sgym_command("schema").output)
    assert {"cluster", "engine", "workload", "slo", "episode"} <= set(schema["properties"])
    assert schema["title"] == "sgym scenario"


def test_traces_and_formats_are_listed(sgym_command):
    assert "azure-conv-2023" in sgym_command("traces", "list").output
    output = sgym_command("traces", "formats").output
    for name in formats():
        assert name in output


def test_a_trace_is_shown_with_what_was_left_out(sgym_command, tmp_path):
    text = "arrival,prompt,output\n0,10,5\n1,20,0\n2,30,7\n6,40,9\n"
    (tmp_path / "mine.csv").write_text(text)
    result = sgym_command("traces", "show", "mine.csv")
    assert result.exit_code == 0, result.output
    assert "3 of 4 rows; dropped 1 without output" in result.output
    assert "0.3333 requests per second" in result.output  # gaps of 2 and 4 seconds
    assert "coefficient of variation is 0.333" in result.output


def test_a_trace_without_time_stamps_is_shown_without_gaps(sgym_command, tmp_path):
    (tmp_path / "lengths.csv").write_text("prompt,output\n10,5\n20,6\n")
    output = sgym_command("traces", "show", "lengths.csv").output
    assert "no time stamps" in output
    assert "between arrivals" not in output


def test_a_trace_is_shown_with_what_its_prompts_share(sgym_command, tmp_path):
    row = '{"timestamp": %d, "input_length": 640, "output_length": 5, "hash_ids": [1, %d]}\n'
    (tmp_path / "mine.jsonl").write_text(row % (0, 2) + row % (9, 3))
    output = " ".join(sgym_command("traces", "show", "mine.jsonl").output.split())
    assert "40 % of the prompt tokens begin like an earlier prompt" in output  # 512 of 1280
    assert "(hash_ids of 512 tokens)" in output


def test_a_trace_is_fetched_into_the_cache(sgym_command, tmp_path, monkeypatch):
    published = tmp_path / "published.csv"
    published.write_text("prompt,output\n1,2\n")
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    trace = fetch.PublicTrace(published.as_uri(), digest, "for a test", "MIT")
    monkeypatch.setitem(fetch.TRACES, "mine", trace)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = sgym_command("traces", "fetch", "mine")
    assert result.exit_code == 0, result.output
    assert "use it as --trace mine" in result.output
    assert "1 of 1 rows" in sgym_command("traces", "show", "mine").output


def test_an_unknown_trace_is_one_message(sgym_command):
    result = sgym_command("traces", "fetch", "azure")
    assert result.exit_code == 2
    assert "no public trace 'azure'" in result.output


def test_measured_tables_become_a_profile(sgym_command, shared_data, tmp_path):
    tables = shared_data / "profiles" / "aiconfigurator" / "h100_sxm"
    options = ("--model", "Llama-3.1-8B", "--gpu", "H100", "--source", "me", "--out", "mine")
    result = sgym_command("calibrate", tables, *options)
    assert result.exit_code == 0, result.output
    path = tmp_path / "mine" / "llama-3.1-8b_h100_tp1.json"
    assert profiles.load(path).provenance.source == "me"
    assert "latency.profile=" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("nowhere",), "no folder of tables 'nowhere'"),
        ((".", "--tp", 0), "--tp must be at least 1, got 0"),
    ],
)
def test_a_calibration_that_cannot_work_is_one_message(sgym_command, options, message):
    result = sgym_command("calibrate", *options, "--model", "Llama-3.1-8B", "--gpu", "H100")
    assert result.exit_code == 2
    assert message in result.output
