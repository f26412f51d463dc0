r"""Compare heuristics, learned models and exported bundles, paired by seed, with a bound.

    python -m agents.evaluate --zoo                      # every entry, on held-out workloads
    python -m agents.evaluate --zoo --long --seeds 8     # far longer windows, as entries name them
    python -m agents.evaluate --zoo azure_14b --duration 1800 --rates 5,6 --seeds 4
    python -m agents.evaluate llama8b-a100-azure --policies vllm,spf,zoo:azure_14b \
        --rates 6,8 --seeds 16 [--trace FILE] --out results

The first kind compares each policy of the zoo with every tuned heuristic of its entry, at both
rates of the entry, on seeds that neither training nor tuning nor validation has seen, and on the
second half of the entry's trace. Tables, a CSV with all metrics, and a figure are written; what
was played is kept in `runs`, and an interrupted comparison goes on from there.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pandas as pd

import sgym
from agents.contenders import BOUND, LOOK_AHEAD, Cell, Contender, play_cell
from agents.entry import ZOO, Entry, load_entry
from agents.progress import progress
from agents.report import HELD_OUT_SEEDS, entry_rows, print_rows, write_report
from agents.search import HELD_OUT, write_whole
from agents.tuning import Tuned
from sgym.errors import SgymError
from sgym.export import load_bundle
from sgym.profiles import ProfileWarning
from sgym.workload import read_trace


def traces_folder() -> Path | None:
    """Where public traces lie: $SGYM_DATA/traces or ../shared/data/traces, if they are there."""
    given = os.environ.get("SGYM_DATA")
    places = [Path(given)] if given else []
    places.append(Path(__file__).parents[2] / "shared" / "data")
    found = [place / "traces" for place in places if (place / "traces").is_dir()]
    return found[0] if found else None


def second_half(file: Path) -> dict[str, Any]:
    """Overrides that replay the second half of a trace, each seed from another moment of it."""
    times = read_trace(str(file)).table["arrival"]
    first, last = float(times.min()), float(times.max())
    middle = (last - first) / 2.0
    return {"workload.trace": str(file), "workload.window": [middle, last - first]}


def contenders_of(name: str, entry: Entry, folder: Path) -> list[Contender]:
    """The tuned heuristics of an entry, its policy, the bound, and look-ahead as a reference."""
    kept = json.loads((folder / "heuristics.json").read_text("utf-8"))
    found: list[Contender] = []
    for label in entry.heuristics:
        tuned = Tuned(**kept[label])
        changes = {k: v for k, v in tuned.overrides.items() if k != "policy"}
        changes |= {f"policy.{key}": value for key, value in tuned.parameters.items()}
        found.append(Contender(label, tuned.policy, {"policy.name": tuned.policy, **changes}))
    found.append(Contender(f"zoo:{name}", f"bundle:{folder}", kind="learned"))
    found.append(Contender(BOUND, "", kind=BOUND))
    if entry.env == "sgym/Colocated-v0":
        found.append(Contender(LOOK_AHEAD, "", kind=LOOK_AHEAD))
    return found


def cells_of_entry(name: str, entry: Entry, chosen: argparse.Namespace) -> list[Cell]:
    """All that is played for an entry: its own rates and windows unless others were typed."""
    folder = ZOO / name
    rates: Sequence[float] = chosen.rates or entry.rates
    seconds = chosen.duration or entry.overrides.get("episode.duration")
    contenders = contenders_of(name, entry, folder)
    workloads: dict[str, dict[str, Any]] = {HELD_OUT_SEEDS: {}}
    if chosen.long:
        if entry.long is None:
            return []
        rates, seconds = entry.long.rates, entry.long.duration
        contenders = [one for one in contenders if one.kind in ("heuristic", "learned")]
    elif entry.trace is not None:
        folder_of_traces = traces_folder()
        if folder_of_traces is None or not (folder_of_traces / entry.trace).is_file():
            print(f"{name}: {entry.trace} is not there ($SGYM_DATA), so its half is left out")
        else:
            workloads["second half of the trace"] = second_half(folder_of_traces / entry.trace)
    seeds = tuple(range(HELD_OUT, HELD_OUT + chosen.seeds))
    cells: list[Cell] = []
    for workload, changes in workloads.items():
        for rate in rates:
            overrides = {**entry.overrides, **changes, "workload.rate": rate}
            if seconds is not None:
                overrides["episode.duration"] = seconds
            labels = {"entry": name, "workload": workload, "rate": rate, "seconds": seconds}
            cells += [Cell(labels, one, entry.scenario, overrides, seeds) for one in contenders]
    return cells


def cells_of_scenario(scenario: str, chosen: argparse.Namespace) -> list[Cell]:
    """All that is played for a scenario and policies that a person names."""
    own = sgym.load_scenario(scenario)
    rates = chosen.rates or ([own.workload.rate] if own.workload.rate else [])
    if not rates:
        raise SgymError("the scenario has no workload.rate: give --rates")
    changes: dict[str, Any] = {} if chosen.trace is None else {"workload.trace": chosen.trace}
    if chosen.duration is not None:
        changes["episode.duration"] = chosen.duration
    contenders = [_named(name) for name in chosen.policies.split(",")]
    if chosen.bound:
        contenders.append(Contender(BOUND, "", kind=BOUND))
    seconds = chosen.duration or own.episode.duration
    return [
        Cell(
            {
                "entry": own.name,
                "workload": chosen.trace or "generated",
                "rate": rate,
                "seconds": seconds,
            },
            contender,
            scenario,
            {**changes, "workload.rate": rate},
            tuple(range(HELD_OUT, HELD_OUT + chosen.seeds)),
        )
        for rate in rates
        for contender in contenders
    ]


def _named(name: str) -> Contender:
    bundle = name.startswith(("zoo:", "bundle:"))
    learned = bundle or Path(name).exists()
    return Contender(name, name, kind="learned" if learned else "heuristic")


def played(cells: Sequence[Cell], kept: Path, jobs: int) -> pd.DataFrame:
    """The rows of all cells, in their order; those in `kept` are only read."""
    files = [kept / f"{_digest(cell)}.csv" for cell in cells]
    todo = [(cell, file) for cell, file in zip(cells, files, strict=True) if not file.is_file()]
    with progress("playing", len(cells), len(cells) - len(todo)) as advance:
        if jobs == 1:
            for cell, file in todo:
                _play_and_keep(cell, file)
                advance("")
        elif todo:
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(jobs, spawn) as pool:
                futures = [pool.submit(_play_and_keep, *one) for one in todo]
                for future in as_completed(futures):
                    future.result()
                    advance("")
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True)


def _play_and_keep(cell: Cell, file: Path) -> None:
    warnings.simplefilter("ignore", ProfileWarning)
    started = time.process_time()
    rows = pd.DataFrame(play_cell(cell))
    rows["cpu_s"] = (time.process_time() - started) / len(rows)
    write_whole(file, rows.to_csv(index=False).encode())


def _digest(cell: Cell) -> str:
    """Differs if what is played does: the cell, the policy's file, the code."""
    policy = cell.contender.policy
    bundle = policy.startswith(("zoo:", "bundle:"))
    scenario = cell.loaded().model_dump_json()
    basis = [repr(cell), scenario, load_bundle(policy).digest if bundle else "", sgym.__version__]
    basis += [_sources(Path(sgym.__file__).parent), _sources(Path(__file__).parent)]
    return hashlib.sha256("\n".join(basis).encode()).hexdigest()[:20]


def _sources(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def arguments(given: Iterable[str] | None = None) -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="entries of the zoo (none = all), or a scenario")
    parser.add_argument("--zoo", action="store_true", help="entries of the zoo")
    parser.add_argument("--policies", default="vllm,spf", help="names, zoo:NAME, bundle:FOLDER")
    parser.add_argument("--rates", type=_numbers, help="requests per second, comma-separated")
    parser.add_argument("--trace", help="file or name of a trace to replay")
    parser.add_argument("--seeds", type=int, default=24, help="workloads for each rate")
    parser.add_argument("--duration", type=float, help="seconds of an episode")
    parser.add_argument(
        "--long", action="store_true", help="long windows of the zoo, without bound and look-ahead"
    )
    parser.add_argument("--bound", action="store_true", help="also the upper bound")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, help="folder of tables and figure")
    chosen = parser.parse_args(None if given is None else list(given))
    if not chosen.zoo and len(chosen.names) != 1:
        parser.error("name one scenario, or give --zoo")
    if chosen.long and (not chosen.zoo or chosen.rates or chosen.duration):
        parser.error("--long is for --zoo, and has rates and durations of its own")
    if chosen.seeds < 2:
        parser.error(f"--seeds must be at least 2, got {chosen.seeds}: intervals need two")
    if chosen.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {chosen.jobs}")
    return chosen


def main(given: Iterable[str] | None = None) -> None:
    """The command."""
    chosen = arguments(given)
    warnings.simplefilter("ignore", ProfileWarning)
    try:
        if chosen.zoo:
            out, kept = chosen.out or ZOO, Path("runs") / "zoo"
            names = chosen.names or sorted(p.parent.name for p in ZOO.glob("*/bundle.json"))
            cells: list[Cell] = []
            for name in names:
                found, entry = load_entry(name)
                cells += cells_of_entry(found, entry, chosen)
            if not cells:
                raise SgymError("none of these entries has long windows")
        else:
            out = chosen.out or Path("sgym-results")
            kept = out / "runs"
            cells = cells_of_scenario(chosen.names[0], chosen)
        rows = played(cells, kept, chosen.jobs)
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on from here") from None
    except SgymError as error:
        sys.exit(f"error: {error}")
    table = entry_rows(rows)
    print_rows(table, rows)
    suffix = "" if chosen.duration is None else f"_{chosen.duration:g}s"
    if chosen.long:
        suffix = "_long"
    write_report(out, rows, table, suffix)
    print(f"written to {out}")


if __name__ == "__main__":
    main()
