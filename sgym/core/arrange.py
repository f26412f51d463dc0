"""Putting the whole waiting queue into order at once, where one by one would take longer."""

from sgym._jit import kernel
from sgym.core import queue
from sgym.core.layout import NONE


@kernel
def arrange(requests, instance) -> None:
    """Restore the order of the queue after scores and ranks were written in place."""
    plant(requests, instance, sort(requests, unroll(requests, instance)))


@kernel
def unroll(requests, instance):
    """Make a list of the tree, linked through `left`, in the order of the tree; returns its head.

    Nothing that is still to be visited is reached through the left side of what was visited.
    """
    head = queue.first(requests, instance)
    r = head
    while r != NONE:
        behind = queue.following(requests, r)
        requests[r]["left"] = behind
        r = behind
    return head


@kernel
def sort(requests, head):
    """Sort a list linked through `left`; returns its head.

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
                    r, a = a, requests[a]["left"]
                else:
                    r, b = b, requests[b]["left"]
                if tail == NONE:
                    head = r
                else:
                    requests[tail]["left"] = r
                tail = r
    return head


@kernel
def cut(requests, head):
    """Let a list end behind its first run in order; returns the rest of it."""
    r, behind = head, requests[head]["left"]
    while behind != NONE and queue.before(requests, r, behind):
        r, behind = behind, requests[behind]["left"]
    requests[r]["left"] = NONE
    return behind


@kernel
def plant(requests, instance, head) -> None:
    """Make the tree of a sorted list linked through `left`; each joins at the right end, O(n)."""
    instance["waiting_root"] = NONE
    node, end = head, NONE
    while node != NONE:
        behind = requests[node]["left"]
        priority = queue.hashed(node)
        below, above = NONE, end
        while above != NONE and queue.hashed(above) < priority:
            below, above = above, requests[above]["parent"]
        requests[node]["left"] = below
        requests[node]["right"] = NONE
        requests[node]["parent"] = above
        if below != NONE:
            requests[below]["parent"] = node
        if above == NONE:
            instance["waiting_root"] = node
        else:
            requests[above]["right"] = node
        node, end = behind, node
