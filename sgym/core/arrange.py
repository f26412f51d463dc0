"""Putting the whole waiting queue into order at once, where one by one would take longer."""

from sgym._jit import kernel
from sgym.core import queue
from sgym.core.layout import NONE


@kernel
def arrange(requests, instance) -> None:
    """Restore the order of the queue after scores and ranks were written in place."""
    instance["waiting_root"] = NONE  # the tree is not true any more
    if queue.first(instance) == NONE:
        return
    end, node = NONE, sort(requests, queue.first(instance))
    while node != NONE:
        queue.link(requests, instance, end, node)
        node, end = requests[node]["next"], node
    queue.link(requests, instance, end, NONE)


@kernel
def sort(requests, head):
    """Sort a list linked through `next`; returns its head.

    A merge sort of the runs that are in order already: O(n) where all are, else O(n log n).
    """
    num_merged = 2
    while num_merged > 1:
        rest, head, tail, num_merged = head, NONE, NONE, 0
        while rest != NONE:
            a, b = rest, cut(requests, rest)
            rest = cut(requests, b) if b != NONE else NONE
            num_merged += 1
            while a != NONE or b != NONE:
                if b == NONE or (a != NONE and queue.before(requests, a, b)):
                    r, a = a, requests[a]["next"]
                else:
                    r, b = b, requests[b]["next"]
                if tail == NONE:
                    head = r
                else:
                    requests[tail]["next"] = r
                tail = r
    return head


@kernel
def cut(requests, head):
    """Let a list end behind its first run in order; returns the rest of it."""
    r, behind = head, requests[head]["next"]
    while behind != NONE and queue.before(requests, r, behind):
        r, behind = behind, requests[behind]["next"]
    requests[r]["next"] = NONE
    return behind
