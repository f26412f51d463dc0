"""Fuzz sgym's vllm_v1 against the real vLLM 0.33.0 scheduler, decision for decision.

    sh experiments/vllm_fuzz/setup.sh          # once: the environment with the real scheduler
    python experiments/vllm_fuzz/run.py        # in sgym's environment

Answers of the real scheduler are kept in `out/`, so an interrupted run goes on where it stopped and
a change of sgym is checked again in seconds. Exit code 1 if any decision differs.
"""

import argparse
import gzip
import hashlib
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cases import (
    RECORDED,
    modern_case,
    random_case,
    read_recorded,
    recorded_answer,
    recorded_case,
)
from compare import differences
from ours import run as run_ours
from process import RealScheduler
from rich.console import Console
from rich.progress import track
from rich.table import Table

HERE = Path(__file__).parent
REFERENCE = HERE.parents[1] / "tests" / "data" / "vllm_reference"
MODERN = {"prefix": (True, False), "async": (False, True), "both": (True, True)}
"""Groups of cases with prefix caching, with async scheduling, and with both as vLLM's defaults."""
GROUPS = ("recorded", "stock", "steered", *MODERN)


class KeptScheduler(RealScheduler):
    """The real scheduler, whose answers are kept."""

    def __init__(self, python: Path, kept: Path) -> None:
        super().__init__(python, HERE / "drive.py")
        self.kept = kept
        self.kept.mkdir(parents=True, exist_ok=True)

    def answer(self, group: str, case: dict[str, Any]) -> dict[str, Any]:
        """What the real scheduler decides in a case; from `out/` if it was asked before."""
        file = self.kept / f"{group}-{case['seed']}-{digest(case)}.json.gz"
        if not file.exists():
            answer = self.ask(case)
            part = file.with_suffix(".part")
            with gzip.open(part, "wt") as stream:
                json.dump(answer, stream)
            os.replace(part, file)
        with gzip.open(file, "rt") as stream:
            return json.load(stream)


def digest(case: dict[str, Any]) -> str:
    """Names an answer by all that decides it: the case and the code that drives the scheduler."""
    files = ("drive.py", "steering.py") if "steer" in case else ("drive.py",)
    code = b"".join((HERE / name).read_bytes() for name in files)
    return hashlib.sha256(json.dumps(case).encode() + code).hexdigest()[:12]


@dataclass
class Tally:
    """Counts over the cases of a group."""

    cases: int = 0
    iterations: int = 0
    tokens: int = 0
    preemptions: int = 0
    differing: list[str] = field(default_factory=list)

    def add(self, label: str, real: dict[str, Any], ours: dict[str, Any]) -> list[str]:
        """Count one case; returns what differs in it."""
        self.cases += 1
        self.iterations += len(real["iterations"])
        self.tokens += sum(map(len, real["tokens"]))
        self.preemptions += sum(real["preemptions"])
        lines = differences(real, ours)
        if lines:
            self.differing.append(label)
        return lines


def cases_of(group: str, count: int, first: int) -> list[dict[str, Any]]:
    """The cases of a group; recorded runs are always all of them."""
    if group == "recorded":
        return [recorded_case(name, read_recorded(REFERENCE, name)) for name in RECORDED]
    if group in MODERN:
        return [modern_case(seed, *MODERN[group]) for seed in range(first, first + count)]
    return [random_case(seed, group == "steered") for seed in range(first, first + count)]


def main() -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=300, help="random cases of each kind")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first one")
    parser.add_argument("--only", choices=GROUPS, help="one group of cases")
    parser.add_argument(
        "--python", type=Path, default=HERE / ".venv/bin/python", help="of setup.sh"
    )
    parser.add_argument("--out", type=Path, default=HERE / "out", help="where answers are kept")
    options = parser.parse_args()
    console = Console()
    scheduler = KeptScheduler(options.python, options.out)
    tallies = {group: Tally() for group in GROUPS if options.only in (None, group)}
    for group, tally in tallies.items():
        cases = cases_of(group, options.cases, options.first_seed)
        for case in track(cases, f"{group:9}", console=console):
            real = scheduler.answer(group, case)
            check_recording(group, case, real)
            lines = tally.add(f"{group} {case['seed']}", real, run_ours(case))
            if lines and len(tally.differing) <= 3:
                console.print(f"[red]{group} case {case['seed']}[/]", case["config"])
                console.print("\n".join(lines), markup=False)
    scheduler.close()
    console.print(table_of(tallies))
    differing = [label for tally in tallies.values() for label in tally.differing]
    total = sum(tally.iterations for tally in tallies.values())
    console.print(f"{len(differing)} differing decisions in {total:,} iterations")
    if differing:
        console.print("cases that differ:", ", ".join(differing))
    return 1 if differing else 0


def check_recording(group: str, case: dict[str, Any], real: dict[str, Any]) -> None:
    """The driver itself must repeat the recorded runs."""
    if group != "recorded":
        return
    lines = differences(recorded_answer(read_recorded(REFERENCE, case["seed"])), real)
    if lines:
        sys.exit(f"drive.py does not repeat the recorded run {case['seed']}:\n" + "\n".join(lines))


def table_of(tallies: dict[str, Tally]) -> Table:
    """One row per group of cases."""
    table = Table("cases", "number", "iterations", "tokens", "preemptions", "cases that differ")
    for group, tally in tallies.items():
        counts = (tally.cases, tally.iterations, tally.tokens, tally.preemptions)
        table.add_row(group, *(f"{n:,}" for n in counts), str(len(tally.differing)))
    return table


if __name__ == "__main__":
    sys.exit(main())
