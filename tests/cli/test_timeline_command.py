"""`sgym timeline` and `sgym plot timeline`."""

import json

import pytest

from sgym.cli import timeline

SHORT = ("--duration", 3)


def test_a_trace_is_written_with_its_size(sgym_command, tmp_path):
    options = ("--policy", "spf", "--seed", 3, *SHORT, "-o", "new/trace.json")
    result = sgym_command("timeline", "tiny", *options)
    assert result.exit_code == 0, result.output
    path = tmp_path / "new" / "trace.json"
    trace = json.loads(path.read_text())
    assert trace["otherData"]["policy"] == "spf"
    assert trace["otherData"]["seed"] == "3"
    size = timeline.megabytes(path.stat().st_size)
    assert (
        f"Written: new/trace.json ({size}, {len(trace['traceEvents']):,} events)" in result.output
    )
    assert "https://ui.perfetto.dev" in result.output


def test_a_part_of_a_run_is_written(sgym_command, tmp_path):
    result = sgym_command("timeline", "tiny", *SHORT, "--from", 1, "--to", 1.5)
    assert result.exit_code == 0, result.output
    about = json.loads((tmp_path / "timeline.json").read_text())["otherData"]
    assert (about["from_s"], about["to_s"]) == ("1", "1.5")


def test_a_trace_too_large_for_a_browser_says_what_to_do(sgym_command, monkeypatch):
    monkeypatch.setattr(timeline, "HEAVY", 100)
    result = sgym_command("timeline", "tiny", *SHORT)
    assert "write less of it with --from and --to" in result.output


def test_a_picture_is_drawn(sgym_command, tmp_path):
    options = ("--set", "cluster.instances=2", *SHORT, "--to", 2, "-o", "two.png")
    result = sgym_command("plot", "timeline", "tiny", *options)
    assert result.exit_code == 0, result.output
    assert "Written: two.png" in result.output
    assert (tmp_path / "two.png").stat().st_size > 10_000


def test_sizes_are_for_people():
    assert timeline.megabytes(1_234_567) == "1.2 MB"
    assert timeline.megabytes(12_340) == "12.3 kB"


@pytest.mark.parametrize("command", [("timeline",), ("plot", "timeline")])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "trace.txt"), "'trace.txt' must end in"),
        (("--policy", "fifo"), "no policy 'fifo'"),
        (("--seed", -1), "--seed must be at least 0, got -1"),
        (("--set", "rate"), "--set must be key=value"),
        ((*SHORT, "--from", 2, "--to", 1), "a timeline must end after it starts, got 2 to 1 s"),
    ],
)
def test_a_mistake_is_one_message(sgym_command, command, options, message):
    result = sgym_command(*command, "tiny", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
