"""A binary heap of EVENT entries in an array, ordered by time, then kind, then index."""

from sgym._jit import kernel


@kernel
def comes_first(a, b) -> bool:
    """Whether entry `a` is due before entry `b`."""
    if a["time"] != b["time"]:
        return a["time"] < b["time"]
    if a["kind"] != b["kind"]:
        return a["kind"] < b["kind"]
    return a["index"] < b["index"]


@kernel
def put(entry, time, kind, index) -> None:
    """Write one entry."""
    entry["time"] = time
    entry["kind"] = kind
    entry["index"] = index


@kernel
def swap(heap, a, b) -> None:
    """Exchange two entries."""
    time, kind, index = heap[a]["time"], heap[a]["kind"], heap[a]["index"]
    put(heap[a], heap[b]["time"], heap[b]["kind"], heap[b]["index"])
    put(heap[b], time, kind, index)


@kernel
def push(heap, size, time, kind, index) -> int:
    """Add an entry to the first `size` ones; returns the new size."""
    child = size
    put(heap[child], time, kind, index)
    while child > 0:
        parent = (child - 1) // 2
        if not comes_first(heap[child], heap[parent]):
            break
        swap(heap, child, parent)
        child = parent
    return size + 1


@kernel
def sink(heap, size) -> None:
    """Restore the order after the first entry was changed to a later time."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        if child + 1 < size and comes_first(heap[child + 1], heap[child]):
            child += 1
        if not comes_first(heap[child], heap[parent]):
            break
        swap(heap, child, parent)
        parent = child


@kernel
def pop(heap, size) -> int:
    """Remove the first entry; returns the new size."""
    last = size - 1
    put(heap[0], heap[last]["time"], heap[last]["kind"], heap[last]["index"])
    sink(heap, last)
    return last
