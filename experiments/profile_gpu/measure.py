"""Measure the operation tables of a model on this GPU, for `sgym calibrate`.

Command: python experiments/profile_gpu/measure.py --model Llama-3.1-8B --out my_tables
"""

import argparse
import json
import os
import shlex
from pathlib import Path

import clock
import pandas as pd
import torch
from grid import Point, Row, points
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch._dynamo.exc import TorchDynamoException

from sgym.profiles import MODELS, ModelSpec

DEFAULT = "Llama-3.1-8B"
TINY = ModelSpec(
    name="Tiny", layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=128, vocab=512
)


class Results:
    """Tables in a folder; every point is on disk, in whole files, when `add` returns."""

    def __init__(self, folder: Path, device: str) -> None:
        self._folder = folder
        self._labels = {"framework": "torch", "version": torch.__version__, "device": device}
        self._rows: dict[str, list[Row]] = {}
        for path in folder.glob("*_perf.csv"):
            self._rows[path.stem] = pd.read_csv(path).to_dict("records")

    def has(self, point: Point) -> bool:
        """Whether an earlier run has measured this."""
        rows = self._rows.get(point.file, [])
        return any(all(row.get(name) == value for name, value in point.key.items()) for row in rows)

    def add(self, point: Point, latency: float, kernel: str) -> None:
        """Keep a measurement, in milliseconds."""
        rows = self._rows.setdefault(point.file, [])
        own = {"kernel_source": kernel, **point.key, "latency": latency}
        rows.append({**self._labels, **own})
        path = self._folder / f"{point.file}.csv"
        draft = path.with_suffix(".tmp")
        pd.DataFrame(rows).to_csv(draft, index=False)
        os.replace(draft, path)


def pick_device(name: str) -> torch.device:
    """The device, or an exit that says what is missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "torch sees no CUDA GPU. On a machine with one, install a CUDA build of torch and "
            "check `nvidia-smi`; to try the script without one, add --device cpu --tiny"
        )
    return torch.device(name)


def write_gpu(folder: Path, name: str, device: torch.device) -> None:
    """Write gpu.json: name, memory (bytes) and bandwidth (bytes per second), as measured."""
    memory, size = 8 * 2**30, 2**20
    if device.type == "cuda":
        memory, size = torch.cuda.get_device_properties(device).total_memory, 2**30
    source, target = (torch.ones(size // 4, device=device) for _ in range(2))
    # Not a copy: as a node of a CUDA graph it ran at two thirds of a kernel's speed on an H200.
    negate = {"negate": [lambda: torch.neg(source, out=target)]}
    seconds = 1e-3 * clock.fastest(negate, device)[0]
    text = json.dumps({"name": name, "memory": memory, "bandwidth": 2 * size / seconds})
    draft = folder / "gpu.tmp"
    draft.write_text(text + "\n", encoding="utf-8")
    os.replace(draft, folder / "gpu.json")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=[*MODELS], help=f"default: {DEFAULT}")
    parser.add_argument("--tp", type=int, default=1, help="measure one GPU's share of so many")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--gpu", help="name of the GPU in the profile (default: what CUDA says)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a toy model and few points")
    parser.add_argument(
        "--every", type=int, default=1, help="a coarser grid: every 2nd, 3rd .. point of each axis"
    )
    options = parser.parse_args(arguments)
    if options.every < 1:
        parser.error(f"--every must be at least 1, got {options.every}")
    if options.tiny and options.model:
        parser.error("--tiny measures a toy model: leave out --model or --tiny")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing in the folder."""
    options, console = parse(arguments), Console()
    device = pick_device(options.device)
    real = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    options.out.mkdir(parents=True, exist_ok=True)
    write_gpu(options.out, options.gpu or real.replace(" ", "-"), device)
    spec = TINY if options.tiny else MODELS[options.model or DEFAULT]
    results = Results(options.out, real)
    grid = points(spec, options.tp, options.tiny, options.every)
    todo = [point for point in grid if not results.has(point)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress, torch.no_grad():
        task = progress.add_task("measuring", total=len(todo))
        for point in todo:
            progress.update(task, description=point.file)
            measure(point, results, device, console)
            progress.advance(task)
    console.print(next_step(options.out, spec, options.tp), markup=False, soft_wrap=True)


def next_step(folder: Path, spec: ModelSpec, tp: int) -> str:
    """What to do with the tables: a command to paste, if `sgym calibrate` knows the model."""
    if spec.name not in MODELS:
        return f"tables in {folder}, of a toy model: a real one makes a profile, see --model"
    share = f" --tp {tp}" if tp > 1 else ""
    command = f"sgym calibrate {shlex.quote(str(folder))} --model {spec.name}{share}"
    return f"tables in {folder}; next:\n{command}"


def measure(point: Point, results: Results, device: torch.device, console: Console) -> None:
    """Measure one point, or say why it cannot be measured here."""
    try:
        results.add(point, *point.fastest(device))
    except torch.OutOfMemoryError:
        reason = "GPU memory is full"
    except TorchDynamoException as error:
        reason = f"torch.compile does not work here: {str(error).strip().splitlines()[0]}"
    else:
        return
    console.print(f"left out {point.file} {point.key}: {reason}", markup=False)
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
