"""Time of one call, as the median over replays of a CUDA graph (or of plain calls on a CPU)."""

import statistics
import time
from itertools import pairwise

import torch
from kernels import MAX_COPIES, Call, Variants, in_turn

WARM_UP = 3
REPLAYS = 11
GRAPH_SECONDS = 2e-3  # a graph holds as many calls as take about this long, and all memory once
STEADY_SECONDS = 0.1  # of work before a measurement: large products meet the GPU's power limit


def fastest(variants: Variants, device: torch.device) -> tuple[float, str]:
    """Milliseconds of one call of the fastest variant, and its name: an engine chooses it, too."""
    if device.type == "cpu":
        return min((1e3 * _plain(calls[0]), name) for name, calls in variants.items())
    graphs = {name: Graph(calls, device) for name, calls in variants.items()}
    best = next(iter(graphs))
    if len(graphs) > 1:
        best = min(graphs, key=lambda name: graphs[name].milliseconds())
    graphs[best].run(STEADY_SECONDS)
    return graphs[best].milliseconds(), best


class Graph:
    """Calls as a CUDA graph, which an engine replays, too."""

    def __init__(self, calls: list[Call], device: torch.device) -> None:
        self._device = device
        in_turn(calls, WARM_UP)()
        self._count = _calls_per_graph(calls, device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            in_turn(calls, self._count)()
        self.run(0.0)

    def run(self, seconds: float) -> None:
        """Replay it for so long, once at least."""
        start = time.perf_counter()
        while True:
            self._graph.replay()
            torch.cuda.synchronize(self._device)
            if time.perf_counter() - start >= seconds:
                return

    def milliseconds(self) -> float:
        """Median time of one call; all replays are queued at once, without host time between."""
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(REPLAYS + 1)]
        marks[0].record()
        for mark in marks[1:]:
            self._graph.replay()
            mark.record()
        torch.cuda.synchronize(self._device)
        samples = [begin.elapsed_time(end) for begin, end in pairwise(marks)]
        return statistics.median(samples) / self._count


def host_milliseconds(call: Call, device: torch.device) -> float:
    """Median wall time of a call that ends with a result on the host, in milliseconds."""
    in_turn([call], WARM_UP)()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * _plain(call)


def _plain(call: Call) -> float:
    samples = []
    for _ in range(REPLAYS):
        start = time.perf_counter()
        call()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def _calls_per_graph(calls: list[Call], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    calls[0]()
    torch.cuda.synchronize(device)
    wanted = int(GRAPH_SECONDS / (time.perf_counter() - start))
    return max(len(calls), min(MAX_COPIES, wanted))
