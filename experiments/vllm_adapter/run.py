"""Compare sgym's scheduler class inside of the real vLLM 0.33.0 with sgym, iteration by iteration.

    sh experiments/vllm_adapter/setup.sh          # once: the environment with the real scheduler
    python experiments/vllm_adapter/run.py        # in sgym's environment

Exit code 1 if any decision differs.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "vllm_fuzz"))

import simulated  # noqa: E402
from compare import differences  # noqa: E402
from networks import ACTIONS, TRIGGERS, write_random  # noqa: E402
from process import RealScheduler  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from traces import TRACES, fuzzed_case, trace_case  # noqa: E402

from sgym.export import BuiltinManifest, write_builtin  # noqa: E402
from sgym.policies.registry import builtin  # noqa: E402

ZOO = (
    "assistants_14b",
    "assistants_a100_14b",
    "assistants_bursts_8b",
    "tiers_8b",
    "azure_14b",
    "chat_8b",
)
HEURISTICS = ("llf", "spf")
KINDS = ("sync", "async", "prefix", "both")
LINEAR = {"iteration": 0.02, "prefill_token": 1e-4, "decode_seq": 5e-5, "context_token": 2e-8}
"""Seconds; of async traces, because there `sgym` knows durations that an engine does not."""
GROUPS = ("neutral", "drawn", "heuristics", "zoo", "zoo-fuzz", "networks")


def cases_of(group: str, options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Labels and cases of a group."""
    seconds, count = options.seconds, options.cases
    bundles = {name: f"bundle:{ROOT / 'agents' / 'zoo' / name}" for name in ZOO}
    if group in ("neutral", "drawn"):
        for name in TRACES:
            for ahead in (False, True):
                more = {
                    "engine.async_scheduling": ahead,
                    "latency.linear": LINEAR if ahead else None,
                }
                label = f"{name}, async" if ahead else name
                yield label, trace_case(name, group, seconds, 1, **more)
        for kind in KINDS:
            for seed in range(count):
                yield f"fuzz {kind}", fuzzed_case(seed, group, kind)
    elif group == "zoo":
        for policy, bundle in bundles.items():
            for name in TRACES:
                yield f"{policy} {name}", trace_case(name, bundle, seconds, 2)
    elif group == "zoo-fuzz":
        for number, bundle in enumerate(bundles.values()):
            for kind in KINDS:
                for seed in range(number, count, len(bundles)):
                    yield kind, fuzzed_case(seed, bundle, kind, told=True)
            for seed in range(number, count, len(bundles)):
                yield "async, durations measured", fuzzed_case(seed, bundle, "async")
    elif group == "networks":
        for seed in range(count):
            bundle = f"bundle:{write_random(options.out, seed)}"
            label = f"{ACTIONS[seed % 4]}, {TRIGGERS[seed // 4 % 4]}"
            yield label, fuzzed_case(seed, bundle, KINDS[seed // 16 % 4], told=True, horizon=20.0)
    else:
        for heuristic in HEURISTICS:
            bundle = f"bundle:{write_heuristic(options.out, heuristic)}"
            for name in TRACES:
                more = {"heuristic": heuristic}
                yield f"{heuristic} {name}", trace_case(name, bundle, seconds, 3, **more)
            for seed in range(count):
                yield f"{heuristic} fuzz", fuzzed_case(seed, bundle, heuristic=heuristic)


def write_heuristic(folder: Path, name: str) -> Path:
    """Export a built-in scheduler with its defaults."""
    about = BuiltinManifest(
        name=name,
        policy=name,
        parameters=builtin(name).parameters,
        scenario="any",
        provenance={},
        card=f"{name}, with the parameters that sgym has by default.",
    )
    return write_builtin(folder / name, about)


def main() -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=60, help="random configurations of each kind")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each trace")
    parser.add_argument("--only", choices=GROUPS, help="one group of cases")
    parser.add_argument(
        "--python", type=Path, default=HERE / ".venv/bin/python", help="of setup.sh"
    )
    parser.add_argument("--out", type=Path, default=HERE / "out", help="of exported heuristics")
    options = parser.parse_args()
    console, server = Console(), RealScheduler(options.python, HERE / "serve.py", ROOT)
    rows: dict[str, list[int]] = {}
    added: dict[str, list[list[float]]] = {}  # microseconds: median and 99th percentile
    for group in GROUPS:
        if options.only not in (None, group):
            continue
        for label, case in cases_of(group, options):
            real, ours = server.ask(case), simulated.run(case)
            lines = differences(real, ours)
            row = rows.setdefault(f"{group}: {label}", [0, 0, 0, 0, 0])
            added.setdefault(f"{group}: {label}", []).append(real["added"])
            numbers = (1, len(real["iterations"]), real["decisions"], sum(real["preemptions"]))
            for place, number in enumerate((*numbers, len(lines) > 0)):
                row[place] += number
            if lines and row[4] <= 2:
                console.print(f"[red]{group}: {label}, case {case['seed']}[/]", case["config"])
                console.print("\n".join(lines[:8]), markup=False)
    server.close()
    names = ("cases", "iterations", "asked", "preemptions", "differ", "us added", "p99")
    table = Table("policy and cases", *names)
    for label, row in rows.items():
        spent = (f"{statistics.median(column):.0f}" for column in zip(*added[label], strict=True))
        table.add_row(label, *(f"{number:,}" for number in row), *spent)
    console.print(table)
    total, differing = (sum(row[place] for row in rows.values()) for place in (1, 4))
    console.print(f"{differing} cases differ, of {total:,} iterations")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
