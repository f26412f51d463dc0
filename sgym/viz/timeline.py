"""A run as a trace that opens in ui.perfetto.dev: batches, memory, queues, transfers.

The file is in the Trace Event Format. Each instance is a process with a track of batches, one of
events and as many of transfers as there are at a time. Times are whole microseconds, so that
slices that touch do not overlap. An arrow (flow) leads from the last batch of a request on its old
instance, over its transfer, to its first batch on the new one.

Source of the format: "Trace Event Format", nduca and dsinclair, Google, 2016; how Perfetto reads
it: google/perfetto, src/trace_processor/importers/json (names of threads go by tid alone, and a
flow binds to the slice that began last on its track).
"""

import gzip
import io
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sgym.core.layout import NONE, Move, Role
from sgym.errors import SgymError
from sgym.viz.cluster_log import TRAVEL, ClusterLog, cluster_log, lanes
from sgym.viz.cluster_use import use_of

if TYPE_CHECKING:
    from sgym.simulator import Result

SUFFIXES = (".json", ".json.gz")
TRACKS = 1000  # tracks of a process; their numbers must differ between processes too
BATCHES, EVENTS, TRANSFERS = 1, 10, 11  # numbers of tracks
RANKS = "CXistf"  # order at the same time: a flow binds to a slice that is there already

Event = dict[str, Any]


class Written(NamedTuple):
    """A file that was written."""

    path: Path
    events: int
    size: int  # bytes


def write_timeline(
    result: "Result", path: Path, start: float | None = None, end: float | None = None
) -> Written:
    """Write the trace of a run in one piece.

    Args:
        result: of `simulate(..., log=LOGS)`.
        path: ends in .json or .json.gz.
        start: seconds; what ended before is left out. None = the start of the window.
        end: seconds; what begins then or later is left out. None = the end of the window.

    Raises:
        SgymError: another suffix, something was not logged, or the span is empty.
    """
    check_name(path)
    log = cluster_log(result, start, end)
    lines = [_line(event) for event in trace_events(log)]
    head = {"displayTimeUnit": "ms", "otherData": _about(result, log)}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    with draft.open("wb") as raw, _packed(raw, path) as file:
        file.write(json.dumps(head)[:-1] + ', "traceEvents": [\n')
        file.write(",\n".join(lines))
        file.write("\n]}\n")
    os.replace(draft, path)
    return Written(path, len(lines), path.stat().st_size)


def check_name(path: Path) -> None:
    """Refuse a file that Perfetto would not take for a trace.

    Raises:
        SgymError: another suffix than those of SUFFIXES.
    """
    if not path.name.endswith(SUFFIXES):
        raise SgymError(f"timeline {path.name!r} must end in {' or '.join(SUFFIXES)}")


def _packed(raw: Any, path: Path) -> io.TextIOWrapper:
    """Text into a binary file, compressed if its name says so; the same text gives same bytes."""
    if path.suffix != ".gz":
        return io.TextIOWrapper(raw, encoding="utf-8")
    # without name and time of writing in the header
    return io.TextIOWrapper(gzip.GzipFile("", "wb", fileobj=raw, mtime=0), encoding="utf-8")


def _line(event: Event) -> str:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


def _about(result: "Result", log: ClusterLog) -> dict[str, str]:
    version = sys.modules["sgym"].__version__  # an import would lead up, not down
    return {
        "scenario": result.scenario.name,
        "policy": result.policy,
        "seed": str(result.seed),
        "from_s": f"{log.start:g}",
        "to_s": f"{log.end:g}",
        "simulator": f"sgym {version}",
    }


def trace_events(log: ClusterLog) -> list[Event]:
    """All events: names first, the others by time."""
    names: list[Event] = []
    timed: list[Event] = []
    flows, seen = itertools.count(1), log.seen_moves
    travels = seen[np.isin(seen["kind"], TRAVEL)]
    tracks = [_batch_tracks(log, index) for index in range(len(log.names))]
    track_of = {row: track for found in tracks for row, track in found.items()}
    for index, name in enumerate(log.names):
        moves = travels[travels["source"] == index]
        lane = lanes(_stamps(moves["start"]), _stamps(moves["end"]))
        last = max((track["tid"] for track in tracks[index].values()), default=0)
        names += _names(index, name, last, 1 + max(lane, default=NONE))
        timed += _batches(log, tracks[index])
        timed += _counters(log, index)
        for move, place in zip(moves, lane, strict=True):
            track = _track(index, TRANSFERS + place)
            timed += _transfer(log, move, track, track_of, next(flows))
    timed += [_instant(move) for move in seen if int(move["kind"]) not in TRAVEL]
    timed.sort(key=lambda event: (event["ts"], RANKS.index(event["ph"])))
    return names + timed


def microseconds(seconds: float) -> int:
    """A time stamp of the trace."""
    return round(float(seconds) * 1e6)


def _stamps(seconds: np.ndarray) -> np.ndarray:
    return np.rint(seconds * 1e6)


def _track(instance: int, number: int) -> Event:
    return {"pid": instance + 1, "tid": (instance + 1) * TRACKS + number}  # pid 0 is special


def _batch_tracks(log: ClusterLog, instance: int) -> dict[int, Event]:
    """Row of `log.iterations` -> its track; a second one only where iterations overlap."""
    rows = log.seen_rows_of(instance)
    entries = log.iterations[rows]
    lane = lanes(_stamps(entries["start"]), _stamps(entries["start"] + entries["duration"]))
    return {
        row: _track(instance, BATCHES + place)
        for row, place in zip(rows.tolist(), lane, strict=True)
    }


def _names(instance: int, name: str, last: int, transfers: int) -> Iterator[Event]:
    tracks = {number: f"batches {number}" for number in range(BATCHES + 1, last % TRACKS + 1)}
    tracks |= {BATCHES: "batches", EVENTS: "events"}
    tracks |= {TRANSFERS + lane: f"transfers {lane + 1}" for lane in range(transfers)}
    process = _track(instance, BATCHES) | {"ph": "M"}
    yield process | {"name": "process_name", "args": {"name": name}}
    yield process | {"name": "process_sort_index", "args": {"sort_index": instance}}
    for number, title in tracks.items():
        track = _track(instance, number) | {"ph": "M"}
        yield track | {"name": "thread_name", "args": {"name": title}}
        yield track | {"name": "thread_sort_index", "args": {"sort_index": number}}


def _batches(log: ClusterLog, tracks: dict[int, Event]) -> Iterator[Event]:
    for row, track in tracks.items():
        entry = log.iterations[row]
        yield {
            **_slice(entry["start"], entry["start"] + entry["duration"]),
            **track,
            "cat": "batch",
            "name": batch_name(int(entry["prefill_tokens"]), int(entry["decode_seqs"])),
            "args": {
                "iteration": row,
                "prefill tokens": int(entry["prefill_tokens"]),
                "decodes": int(entry["decode_seqs"]),
                "running": int(entry["num_running"]),
                "waiting": int(entry["num_waiting"]),
                "free blocks": int(entry["free_blocks"]),
                "blocks": int(log.num_blocks[entry["instance"]]),
                "KV tokens": int(entry["kv_tokens"]),
                "requests": " ".join(map(str, log.requests_in(row).tolist())),
            },
        }


def _slice(start: float, end: float) -> Event:
    return {"ph": "X", "ts": microseconds(start), "dur": microseconds(end) - microseconds(start)}


def batch_name(prefill_tokens: int, decodes: int) -> str:
    """What a batch consists of; Perfetto gives names that differ in numbers the same colour."""
    parts = [f"prefill {prefill_tokens}"] if prefill_tokens else []
    parts += [f"{decodes} decode{'s' * (decodes > 1)}"] if decodes else []
    return " + ".join(parts)


def _counters(log: ClusterLog, instance: int) -> Iterator[Event]:
    """Each value when it changes; Perfetto names a counter by its event and its argument."""
    use = use_of(log, instance)
    counters = (
        ("KV blocks", "used", use.used),
        ("KV blocks held", "by transfers", use.held),
        ("running", "requests", use.running),
        ("waiting", "requests", use.waiting),
    )
    for name, unit, values in counters:
        if name == "KV blocks held" and not values.any():
            continue
        changed = np.flatnonzero(np.diff(values, prepend=NONE))
        for time, value in zip(use.time[changed].tolist(), values[changed].tolist(), strict=True):
            yield {
                "ph": "C",
                "ts": microseconds(time),
                **_track(instance, BATCHES),
                "name": name,
                "args": {unit: value},
            }


def _transfer(
    log: ClusterLog, move: Any, track: Event, track_of: dict[int, Event], flow: int
) -> Iterator[Event]:
    """A slice on the source, and a flow over it from batch to batch."""
    kind, request = Move(int(move["kind"])), int(move["request"])
    source, target = int(move["source"]), int(move["target"])
    word = "hand-off" if kind == Move.HANDOFF else "migration"
    yield {
        **_slice(move["start"], move["end"]),
        **track,
        "cat": "transfer",
        "name": f"{word} to {target}",
        "args": {
            "request": request,
            "source": source,
            "target": target,
            "tokens": int(move["tokens"]),
        },
    }
    ends = [(microseconds(move["start"]), track)]
    before = log.batch_before(request, source, float(move["start"]))
    after = log.batch_after(request, target, float(move["end"]))
    if before in track_of:
        start = microseconds(log.iterations[before]["start"])
        ends.insert(0, (start, track_of[before]))
    if after in track_of:
        start = microseconds(log.iterations[after]["start"])
        ends.append((start, track_of[after]))
    if len(ends) == 1:
        return
    common = {"cat": "transfer", "name": word, "id": flow}
    for place, (time, there) in enumerate(ends):
        phase = "s" if place == 0 else "f" if place == len(ends) - 1 else "t"
        yield {"ph": phase, "ts": time, **there, **common} | ({"bp": "e"} if phase == "f" else {})


def _instant(move: Any) -> Event:
    kind = Move(int(move["kind"]))
    source, target = int(move["source"]), int(move["target"])
    args = {"request": int(move["request"]), "tokens": int(move["tokens"])}
    name = kind.name.lower().replace("_", " ")
    time = move["start"]
    if kind == Move.ROLE:
        name, args = f"role: {Role(int(move['request'])).name.lower()}", {}
    elif kind == Move.ABORT:
        name, time, args = "migration aborted", move["end"], args | {"target": target}
    elif kind in (Move.SWAP_OUT, Move.SWAP_IN):
        args["microseconds"] = microseconds(move["end"]) - microseconds(move["start"])
    return {
        "ph": "i",
        "ts": microseconds(time),
        "s": "t",
        **_track(source if source >= 0 else target, EVENTS),
        "cat": kind.name.lower(),
        "name": name,
        "args": args,
    }
