"""Traces for Perfetto."""

import gzip
import json
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from cluster_logs import HANDED_OFF, Batch, Unruly, busy_run, log_of

import sgym
from sgym.core.layout import HOST, Move, Role
from sgym.errors import SgymError
from sgym.viz import timeline
from sgym.viz.timeline import trace_events, write_timeline

RUNS = {
    "stock": {},
    "unruly": {"policy": Unruly},
    "swap": {"engine__preemption_mode": "swap"},
    "colocated": {"cluster__pools": [{"instances": 1}], "workload__rate": 20.0},
}


@pytest.fixture(scope="module", params=RUNS)
def run(request, tmp_path_factory):
    """A result, and the trace that was written of it."""
    settings = dict(RUNS[request.param])
    policy = settings.pop("policy", None)
    result = busy_run(policy() if policy else "stock", **settings)
    path = tmp_path_factory.mktemp(request.param) / "trace.json"
    written = write_timeline(result, path)
    trace = json.loads(path.read_text(encoding="utf-8"))
    assert written == (path, len(trace["traceEvents"]), path.stat().st_size)
    return result, trace


def named(events, phase):
    return [event for event in events if event["ph"] == phase]


def test_the_file_says_what_was_simulated(run):
    result, trace = run
    assert trace["displayTimeUnit"] == "ms"
    assert trace["otherData"] == {
        "scenario": "toy",
        "policy": result.policy,
        "seed": "0",
        "from_s": "0",
        "to_s": "3",
        "simulator": f"sgym {sgym.__version__}",
    }


def test_times_are_whole_microseconds_in_order(run):
    _, trace = run
    times = [event["ts"] for event in trace["traceEvents"] if event["ph"] != "M"]
    assert all(type(time) is int for time in times)
    assert times == sorted(times)


def test_the_batches_are_the_iterations(run):
    result, trace = run
    slices = [e for e in named(trace["traceEvents"], "X") if e["cat"] == "batch"]
    slices.sort(key=lambda event: event["args"]["iteration"])
    rows = result.iterations
    assert len(slices) == len(rows) > 100
    assert [e["pid"] - 1 for e in slices] == rows["instance"].tolist()
    assert [e["args"]["prefill tokens"] for e in slices] == rows["prefill_tokens"].tolist()
    assert [e["args"]["decodes"] for e in slices] == rows["decode_seqs"].tolist()
    assert [e["args"]["running"] for e in slices] == rows["num_running"].tolist()
    assert [e["args"]["waiting"] for e in slices] == rows["num_waiting"].tolist()
    assert [e["args"]["free blocks"] for e in slices] == rows["free_blocks"].tolist()
    assert [e["args"]["KV tokens"] for e in slices] == rows["kv_tokens"].tolist()
    np.testing.assert_allclose([e["ts"] for e in slices], 1e6 * rows["start"], atol=0.51)
    np.testing.assert_allclose([e["dur"] for e in slices], 1e6 * rows["duration"], atol=1.01)
    members = result.batches.query("tokens > 0").groupby("iteration")["request"].agg(list)
    assert [list(map(int, e["args"]["requests"].split())) for e in slices] == members.tolist()


def test_slices_of_a_track_do_not_overlap(run):
    _, trace = run
    tracks = defaultdict(list)
    for event in named(trace["traceEvents"], "X"):
        assert event["dur"] >= 0
        tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in tracks.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_every_track_has_a_name_and_a_number_of_its_own(run):
    _, trace = run
    events = trace["traceEvents"]
    names = {e["tid"]: e["pid"] for e in events if e["name"] == "thread_name"}
    assert all(names[event["tid"]] == event["pid"] for event in events)
    processes = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    roles = ["instance 0 (prefill)", "instance 1 (prefill)"]
    roles += ["instance 2 (decode)", "instance 3 (decode)"]
    assert processes in (roles, ["instance 0"])


def test_a_flow_has_both_ends_each_on_a_slice(run):
    result, trace = run
    events = trace["traceEvents"]
    slices = {(e["tid"], e["ts"]) for e in named(events, "X")}
    flows = defaultdict(list)
    for event in events:
        if event["ph"] in ("s", "t", "f"):
            assert (event["tid"], event["ts"]) in slices
            flows[event["id"]].append(event)
    for steps in flows.values():
        assert "".join(step["ph"] for step in steps) in ("stf", "sf")
        assert steps[-1]["bp"] == "e"
    moves = result.moves["kind"].isin(["handoff", "migration"]).sum()
    assert 0.8 * moves <= len(flows) <= moves  # the last ones have not run yet


def test_counters_stay_within_what_there_is(run):
    result, trace = run
    highest = Counter()
    for event in named(trace["traceEvents"], "C"):
        ((unit, value),) = event["args"].items()
        assert value >= 0
        key = f"{event['name']} {unit}"
        highest[key] = max(highest[key], value)
    assert 0 < highest["KV blocks used"] <= 20
    assert highest["KV blocks held by transfers"] <= 20
    assert 0 < highest["running requests"] <= 6
    assert highest["waiting requests"] <= len(result.requests)


def test_events_are_counted_as_the_simulation_counts_them(run):
    result, trace = run
    counts = Counter(event["cat"] for event in named(trace["traceEvents"], "i"))
    cluster, instances = result.state.cluster[0], result.state.instances
    assert counts["preemption"] + counts["swap_out"] == instances["preemptions"].sum() > 0
    assert counts["rejection"] == result.summary["num_rejected"]
    assert counts["abort"] == cluster["aborted"]
    transfers = [e for e in named(trace["traceEvents"], "X") if e["cat"] == "transfer"]
    assert len(transfers) == cluster["handoffs"] + cluster["migrations"]


def test_a_hand_off_leads_from_batch_over_transfer_to_batch():
    events = [e for e in trace_events(HANDED_OFF) if e["ph"] in "Xstf"]
    assert [(e["ph"], e["ts"], e["tid"], e["name"]) for e in events] == [
        ("X", 1_000_000, 1001, "prefill 64"),
        ("s", 1_000_000, 1001, "hand-off"),
        ("X", 2_000_000, 1011, "hand-off to 1"),
        ("t", 2_000_000, 1011, "hand-off"),
        ("X", 2_500_000, 2001, "1 decode"),
        ("f", 2_500_000, 2001, "hand-off"),
    ]
    transfer = events[2]
    assert transfer["dur"] == 250_000
    assert transfer["args"] == {"request": 7, "source": 0, "target": 1, "tokens": 64}


def test_a_transfer_between_batches_that_are_not_drawn_has_no_flow():
    log = log_of([], [(Move.MIGRATION, 7, 0, 1, 64, 2.0, 2.25)], instances=2)
    assert not [e for e in trace_events(log) if e["ph"] in "stf"]
    assert [e["name"] for e in trace_events(log) if e["ph"] == "X"] == ["migration to 1"]


def test_transfers_at_the_same_time_have_tracks_of_their_own():
    moves = [(Move.HANDOFF, r, 0, 1, 16, 2.0, 2.5) for r in (7, 8)]
    events = trace_events(log_of([], moves, instances=2))
    assert [e["tid"] for e in events if e["ph"] == "X"] == [1011, 1012]
    titles = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {"transfers 1", "transfers 2"} <= titles


def test_batches_that_overlap_have_tracks_of_their_own():
    events = trace_events(log_of([Batch(0, 1.0, 0.5), Batch(0, 1.4, 0.5), Batch(0, 1.5, 0.5)]))
    assert [e["tid"] for e in events if e["ph"] == "X"] == [1001, 1002, 1001]
    assert "batches 2" in {e["args"]["name"] for e in events if e["name"] == "thread_name"}


def test_what_is_no_transfer_is_a_mark_on_its_instance():
    moves = [
        (Move.PREEMPTION, 3, 0, 0, 40, 1.0, 1.0),
        (Move.ABORT, 4, 0, 1, 50, 1.5, 2.0),
        (Move.SWAP_OUT, 5, 1, HOST, 60, 3.0, 3.5),
        (Move.SWAP_IN, 5, HOST, 1, 60, 4.0, 4.5),
        (Move.REJECTION, 6, 1, 1, 0, 5.0, 5.0),
        (Move.ROLE, Role.DECODE, 1, 1, 0, 6.0, 6.0),
    ]
    marks = named(trace_events(log_of([], moves, instances=2)), "i")
    assert [(mark["ts"], mark["pid"], mark["name"]) for mark in marks] == [
        (1_000_000, 1, "preemption"),
        (2_000_000, 1, "migration aborted"),
        (3_000_000, 2, "swap out"),
        (4_000_000, 2, "swap in"),
        (5_000_000, 2, "rejection"),
        (6_000_000, 2, "role: decode"),
    ]
    assert {mark["s"] for mark in marks} == {"t"}
    assert marks[0]["args"] == {"request": 3, "tokens": 40}
    assert marks[2]["args"] == {"request": 5, "tokens": 60, "microseconds": 500_000}
    assert marks[5]["args"] == {}


@pytest.mark.parametrize(
    ("tokens", "decodes", "name"),
    [(512, 12, "prefill 512 + 12 decodes"), (512, 0, "prefill 512"), (0, 1, "1 decode")],
)
def test_a_batch_is_named_by_what_it_consists_of(tokens, decodes, name):
    assert timeline.batch_name(tokens, decodes) == name


def test_a_counter_is_written_when_it_changes():
    batches = [
        Batch(0, 0.0, 1.0, free=90),
        Batch(0, 1.0, 1.0, free=90),
        Batch(0, 2.0, 8.0, free=80),
    ]
    counters = [e for e in named(trace_events(log_of(batches)), "C") if e["name"] == "KV blocks"]
    assert [(e["ts"], e["args"]) for e in counters] == [
        (0, {"used": 10}),
        (2_000_000, {"used": 20}),
    ]


def test_a_span_of_a_run_is_a_smaller_file(tmp_path):
    result = busy_run()
    whole = write_timeline(result, tmp_path / "whole.json")
    part = write_timeline(result, tmp_path / "part.json", 1.0, 1.5)
    assert 0 < part.events < 0.4 * whole.events
    events = json.loads((tmp_path / "part.json").read_text())["traceEvents"]
    for event in named(events, "X"):
        assert event["ts"] < 1_500_000
        assert event["ts"] + event["dur"] > 1_000_000


def test_a_compressed_trace_is_the_same_and_its_bytes_repeat(tmp_path):
    result = busy_run()
    write_timeline(result, tmp_path / "plain.json")
    for name in ("one.json.gz", "two.json.gz"):
        write_timeline(result, tmp_path / name)
    packed = (tmp_path / "one.json.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "plain.json").read_bytes()
    assert packed == (tmp_path / "two.json.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "one.json.gz",
        "plain.json",
        "two.json.gz",
    ]


def test_another_kind_of_file_is_refused(tmp_path):
    with pytest.raises(SgymError, match=r"'trace.txt' must end in .json or .json.gz"):
        write_timeline(busy_run(), tmp_path / "trace.txt")
