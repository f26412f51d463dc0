"""The experiment on round trips runs, and a served policy answers at each size."""

import csv
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "experiments" / "export_serve" / "run.py"


def test_round_trips_over_both_ways_are_measured(tmp_path):
    table = tmp_path / "table.csv"
    command = [sys.executable, str(SCRIPT), "--times", "5", "--out", str(table)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["way"], row["requests"]) for row in rows] == [
        (way, count) for way in ("socket", "port") for count in ("16", "64", "128", "256")
    ]
    assert all(0.0 < float(row["p50_ms"]) <= float(row["p99_ms"]) for row in rows)
