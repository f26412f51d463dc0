"""Putting the whole waiting queue into order at once, where one by one would take longer."""

from sgym._jit import kernel
from sgym.core import queue
from sgym.core.layout import NONE


@kernel
def arrange(requests, instance) -> None:
    """Restore the order of the queue after scores and ranks were written in place.

    Costs O(n) where the order is still right, else O(n log n) with little beside the comparisons.
    """
    if not is_sorted(requests, instance):
        plant(requests, instance, sort(requests, unroll(requests, instance)))


@kernel
def is_sorted(requests, instance):
    """Whether each waiting request is ahead of the one that stands behind it."""
    r = queue.first(requests, instance)
    while r != NONE:
        behind = queue.following(requests, r)
        if behind != NONE and queue.before(requests, behind, r):
            return False
        r = behind
    return True


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
    """Sort a list linked through `left`, by merging ever longer runs; returns its head."""
    length = 1
    while True:
        rest, head, tail, merges = head, NONE, NONE, 0
        while rest != NONE:
            merges += 1
            a, b, num_a, num_b = rest, rest, 0, length
            while num_a < length and b != NONE:
                b = requests[b]["left"]
                num_a += 1
            while num_a > 0 or (num_b > 0 and b != NONE):
                if num_b == 0 or b == NONE or (num_a > 0 and queue.before(requests, a, b)):
                    r, a, num_a = a, requests[a]["left"], num_a - 1
                else:
                    r, b, num_b = b, requests[b]["left"], num_b - 1
                if tail == NONE:
                    head = r
                else:
                    requests[tail]["left"] = r
                tail = r
            rest = b
        if tail != NONE:
            requests[tail]["left"] = NONE
        if merges <= 1:
            return head
        length *= 2


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
