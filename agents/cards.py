"""Cards of the zoo: `python -m agents.cards` says in each bundle how good its policy is.

It reads `agents/zoo/table.csv` and `table_long.csv`, which `python -m agents.evaluate --zoo` and
the same with `--long` write, and writes each bundle again in the form of this sgym, with its
numbers in policy.npz. The network stays as it is.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agents.entry import ZOO, Entry, load_entry
from agents.scorers import Scorer
from sgym.envs.plan import Plan
from sgym.export import About, load_bundle, write_bundle

Row = Mapping[str, str]


def main(zoo: Path = ZOO) -> None:
    """Write all bundles of the zoo again."""
    rows = rows_of(zoo)
    for path in sorted(zoo.glob("*/bundle.json")):
        folder = path.parent
        name, entry = load_entry(folder)
        renew(folder, name, entry, [row for row in rows if row["entry"] == name])
        print(folder.name)


def rows_of(zoo: Path) -> list[Row]:
    """What was measured: short windows, then long ones."""
    rows: list[Row] = []
    for table in ("table.csv", "table_long.csv"):
        with (zoo / table).open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    return rows


def renew(folder: Path, name: str, entry: Entry, rows: Sequence[Row]) -> None:
    """Write one bundle again.

    Args:
        folder: of the bundle.
        name: of the entry.
        entry: what it says of itself.
        rows: of the table, this entry's.
    """
    bundle = load_bundle(folder)
    about = bundle.about.model_copy(update={"card": card_of(name, entry, rows)})
    kept = About.model_validate(about.model_dump(exclude={"sha256"}))
    env = entry.environment(entry.loaded(entry.rates[0]))
    numbers = np.array(about.provenance["parameters"], np.float64)
    write_bundle(folder, (folder / "policy.onnx").read_bytes(), kept, weights_of(env.plan, numbers))


def weights_of(plan: Plan, parameters: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of a scorer by group, for policy.npz."""
    return Scorer.of(plan).parts(parameters)


def card_of(name: str, entry: Entry, rows: Sequence[Row]) -> str:
    """What a policy of the zoo is for, how good it is, its limits."""
    first, second = entry.rates
    how = (
        f"Trained by `python -m agents.evolve {name}` on {entry.scenario} at {first:g} and "
        f"{second:g} requests/s, on drawn workloads; see provenance in bundle.json."
    )
    measured = (
        "Smooth goodput in tokens/s on held-out workloads, against the best of the heuristics "
        "tuned as long (agents/zoo/README.md):"
    )
    limits = (
        "Limits: nothing is known of other models, GPUs, loads or kinds of requests. The gain was "
        "measured in the simulator, not on a GPU."
    )
    lines = "\n".join(_line(row) for row in rows)
    return "\n\n".join([entry.about, how, measured, lines, limits])


def _line(row: Row) -> str:
    gain, low, high = (
        float(row[key]) for key in ("gain_percent", "gain_percent_low", "gain_percent_high")
    )
    played = f"{row['workload']}, {float(row['seconds']):g} s, {float(row['rate']):g} requests/s"
    return (
        f"- {played}: {float(row['learned']):.0f}, "
        f"{row['best_heuristic']} {float(row['heuristic']):.0f}: {gain:+.1f} % "
        f"({low:+.1f} to {high:+.1f}), {row['seeds']} seeds"
    )


if __name__ == "__main__":
    main()
