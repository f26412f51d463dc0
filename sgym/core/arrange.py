"""Putting the whole waiting queue into order at once, where one by one would take longer."""

from sgym._jit import kernel
from sgym.core import queue
from sgym.core.layout import NONE

FEW = 16  # waiting requests that are put into order one after the other


@kernel
def arrange(requests, instance) -> None:
    """Restore the order of the queue after scores and ranks were written in place."""
    instance["waiting_root"] = NONE  # the tree is not true any more
    if instance["num_waiting"] <= FEW:
        arrange_few(requests, instance)
        return
    end, node = NONE, sort(requests, queue.first(instance))
    while node != NONE:
        queue.link(requests, instance, end, node)
        node, end = requests[node]["next"], node
    queue.link(requests, instance, end, NONE)


@kernel
def arrange_few(requests, instance) -> None:
    """Let each request go ahead of those that stood ahead of it and come behind it."""
    end, node = NONE, queue.first(instance)
    while node != NONE:
        following, ahead = queue.following(requests, node), end
        while ahead != NONE and queue.before(requests, node, ahead):
            ahead = queue.preceding(requests, ahead)
        if ahead == end:
            queue.link(requests, instance, end, node)
            end = node
        else:
            behind = queue.first(instance)
            if ahead != NONE:
                behind = queue.following(requests, ahead)
            queue.put_between(requests, instance, ahead, node, behind)
        node = following
    queue.link(requests, instance, end, NONE)


@kernel
def sort(requests, head):
    """Sort a list linked through `next`; returns its head.

    A merge sort of the runs that are in order already: O(n) where all are, else O(n log n). Sorted
    runs that wait to be merged hang together through `previous` of their heads, the newest first;
    each time their number is even, two that were made of as many runs become one.
    """
    waiting, count, rest = NONE, 0, head
    while rest != NONE:
        run, rest = rest, cut(requests, rest)
        requests[run]["previous"] = waiting
        waiting = run
        count += 1
        pairs = count
        while pairs % 2 == 0:
            waiting = merge_newest(requests, waiting)
            pairs //= 2
    while requests[waiting]["previous"] != NONE:
        waiting = merge_newest(requests, waiting)
    return waiting


@kernel
def cut(requests, head):
    """Let a list end behind its first run in order; returns the rest of it."""
    r, behind = head, requests[head]["next"]
    while behind != NONE and queue.before(requests, r, behind):
        r, behind = behind, requests[behind]["next"]
    requests[r]["next"] = NONE
    return behind


@kernel
def merge_newest(requests, newest):
    """Merge the two newest runs that wait; returns the head of what they become."""
    older = requests[newest]["previous"]
    before_them = requests[older]["previous"]
    head = merge(requests, older, newest)
    requests[head]["previous"] = before_them
    return head


@kernel
def merge(requests, a, b):
    """Merge two sorted lists that are not empty; returns the head."""
    if queue.before(requests, b, a):
        head, b = b, requests[b]["next"]
    else:
        head, a = a, requests[a]["next"]
    tail = head
    while a != NONE and b != NONE:
        if queue.before(requests, b, a):
            requests[tail]["next"] = b
            tail, b = b, requests[b]["next"]
        else:
            requests[tail]["next"] = a
            tail, a = a, requests[a]["next"]
    requests[tail]["next"] = b if a == NONE else a
    return head
