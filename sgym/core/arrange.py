"""Putting the whole waiting queue into order at once, where one by one would take longer."""

from sgym._jit import kernel
from sgym.core import queue
from sgym.core.layout import NONE

FEW = 16  # waiting requests that are put into order one after the other


@kernel
def arrange(requests, links, instance) -> None:
    """Restore the order of the queue after scores and ranks were written in place."""
    instance["waiting_root"] = NONE  # the tree is not true any more
    if instance["num_waiting"] <= FEW:
        arrange_few(requests, links, instance)
        return
    end, node = NONE, sort(requests, links, queue.first(instance))
    while node != NONE:
        queue.link(links, instance, end, node)
        node, end = links[node]["next"], node
    queue.link(links, instance, end, NONE)


@kernel
def arrange_few(requests, links, instance) -> None:
    """Let each request go ahead of those that stood ahead of it and come behind it."""
    end, node = NONE, queue.first(instance)
    while node != NONE:
        following, ahead = queue.following(links, node), end
        while ahead != NONE and queue.before(requests, node, ahead):
            ahead = queue.preceding(links, ahead)
        if ahead == end:
            queue.link(links, instance, end, node)
            end = node
        else:
            behind = queue.first(instance)
            if ahead != NONE:
                behind = queue.following(links, ahead)
            queue.put_between(links, instance, ahead, node, behind)
        node = following
    queue.link(links, instance, end, NONE)


@kernel
def sort(requests, links, head):
    """Sort a list linked through `next`; returns its head.

    A merge sort of the runs that are in order already: O(n) where all are, else O(n log n). Sorted
    runs that wait to be merged hang together through `previous` of their heads, the newest first;
    each time their number is even, two that were made of as many runs become one.
    """
    waiting, count, rest = NONE, 0, head
    while rest != NONE:
        run, rest = rest, cut(requests, links, rest)
        links[run]["previous"] = waiting
        waiting = run
        count += 1
        pairs = count
        while pairs % 2 == 0:
            waiting = merge_newest(requests, links, waiting)
            pairs //= 2
    while links[waiting]["previous"] != NONE:
        waiting = merge_newest(requests, links, waiting)
    return waiting


@kernel
def cut(requests, links, head):
    """Let a list end behind its first run in order; returns the rest of it."""
    r, behind = head, links[head]["next"]
    while behind != NONE and queue.before(requests, r, behind):
        r, behind = behind, links[behind]["next"]
    links[r]["next"] = NONE
    return behind


@kernel
def merge_newest(requests, links, newest):
    """Merge the two newest runs that wait; returns the head of what they become."""
    older = links[newest]["previous"]
    before_them = links[older]["previous"]
    head = merge(requests, links, older, newest)
    links[head]["previous"] = before_them
    return head


@kernel
def merge(requests, links, a, b):
    """Merge two sorted lists that are not empty; returns the head."""
    if queue.before(requests, b, a):
        head, b = b, links[b]["next"]
    else:
        head, a = a, links[a]["next"]
    tail = head
    while a != NONE and b != NONE:
        if queue.before(requests, b, a):
            links[tail]["next"] = b
            tail, b = b, links[b]["next"]
        else:
            links[tail]["next"] = a
            tail, a = a, links[a]["next"]
    links[tail]["next"] = b if a == NONE else a
    return head
