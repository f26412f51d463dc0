"""Time of one call, as the median over replays of a CUDA graph (or of plain calls on a CPU)."""

import statistics
import time

import torch
from kernels import Call, in_turn

WARM_UP = 3
REPLAYS = 11
GRAPH_SECONDS = 2e-3  # a graph holds as many calls as take about this long, at most MAX_CALLS
MAX_CALLS = 64


def milliseconds(calls: list[Call], device: torch.device) -> float:
    """Median time of one of the calls, in milliseconds."""
    if device.type == "cpu":
        return 1e3 * _plain(calls)
    for call in calls[:WARM_UP]:
        call()
    torch.cuda.synchronize(device)
    count = _calls_per_graph(calls[0], device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        in_turn(calls, count)()
    for _ in range(WARM_UP):
        graph.replay()
    samples = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) / count)
    del graph
    return statistics.median(samples)


def host_milliseconds(call: Call, device: torch.device) -> float:
    """Median wall time of a call that ends with a result on the host, in milliseconds."""
    for _ in range(WARM_UP):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * _plain([call])


def _plain(calls: list[Call]) -> float:
    samples = []
    for call in [calls[0]] * REPLAYS:
        start = time.perf_counter()
        call()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def _calls_per_graph(call: Call, device: torch.device) -> int:
    start = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    return max(1, min(MAX_CALLS, int(GRAPH_SECONDS / (time.perf_counter() - start))))
