"""How long an engine waits for a served policy: round trips of `sgym serve`.

    python experiments/export_serve/run.py [--bundle zoo:assistants_14b] [--times 2000]

A server of its own process is asked over a Unix socket and over a port, one connection that stays
open, with states of 16 to 256 requests. Times are wall time: on a machine with other work the 99th
percentile is that of the machine.
"""

import argparse
import csv
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SIZES = (16, 64, 128, 256)
WARM = 100  # round trips before the clock starts
SERVER = [sys.executable, "-c", "from sgym.cli import app; app()", "serve"]


def state(count: int, seed: int = 0) -> bytes:
    """A state of an engine with so many requests, half of them running."""
    rng = random.Random(seed)
    requests = []
    for place in range(count):
        runs = place < count // 2
        prompt, generated = rng.randint(10, 2000), rng.randint(1, 300) if runs else 0
        requests.append(
            {
                "id": place,
                "arrival": rng.uniform(0.0, 100.0),
                "prompt": prompt,
                "generated": generated,
                "computed": prompt + generated - 1 if runs else 0,
                "blocks": (prompt + generated) // 16 + 1 if runs else 0,
                "token_time": rng.choice((0.0333, 0.1, 0.2)),
                "weight": rng.choice((1.0, 4.0)),
                "lateness": rng.uniform(0.0, 1.0),
            }
        )
    limits = {"max_num_seqs": 256, "max_num_batched_tokens": 2048, "num_blocks": 28_000}
    message = {
        "now": 100.0,
        "limits": limits,
        "running": requests[: count // 2],
        "waiting": requests[count // 2 :],
        "free_blocks": 100,
        "duration": 0.03,
    }
    return json.dumps(message).encode()


def connection(where: str) -> http.client.HTTPConnection:
    """To a port (http://...) or to a Unix socket."""
    if where.startswith("http://"):
        made = http.client.HTTPConnection(where.removeprefix("http://"))
        made.connect()
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    made = http.client.HTTPConnection("localhost")
    made.sock = socket.socket(socket.AF_UNIX)
    made.sock.connect(where)
    return made


def round_trips(where: str, message: bytes, times: int) -> np.ndarray:
    """Milliseconds of each, float64 (times,)."""
    asked, spent = connection(where), np.empty(times)
    for place in range(-WARM, times):
        started = time.perf_counter()
        asked.request("POST", "/decide", message, {"Content-Type": "application/json"})
        answer = asked.getresponse()
        body = answer.read()
        if place >= 0:
            spent[place] = 1e3 * (time.perf_counter() - started)
        if answer.status != 200:
            raise SystemExit(f"the server answered {answer.status}: {body.decode()}")
    asked.close()
    return spent


def measure(bundle: str, times: int) -> list[dict[str, Any]]:
    """A row for each way and size."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        ways = {"socket": ["--socket", f"{folder}/policy.sock"], "port": ["--port", "0"]}
        for way, options in ways.items():
            environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
            command = [*SERVER, bundle, *options]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, env=environment
            ) as server:
                assert server.stdout is not None
                where = server.stdout.readline().split()[-1]
                for count in SIZES:
                    message = state(count)
                    spent = round_trips(where, message, times)
                    p50, p99 = np.percentile(spent, [50, 99])
                    rows.append(
                        {
                            "way": way,
                            "requests": count,
                            "message_kb": round(len(message) / 1e3, 1),
                            "p50_ms": round(float(p50), 3),
                            "p99_ms": round(float(p99), 3),
                            "times": times,
                        }
                    )
                    print(rows[-1])
                server.terminate()
    return rows


def main() -> None:
    """Measure and write table.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="zoo:assistants_14b")
    parser.add_argument("--times", type=int, default=2000, help="round trips of each kind")
    parser.add_argument("--out", type=Path, default=HERE / "table.csv")
    chosen = parser.parse_args()
    rows = measure(chosen.bundle, chosen.times)
    part = chosen.out.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    part.replace(chosen.out)


if __name__ == "__main__":
    main()
