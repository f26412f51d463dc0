"""The waiting requests of an instance: a list through LINK's next and previous, under a treap.

Ordered by `waiting_score` (highest first), then `rank` (lowest first). The ends of the list and a
step along it cost O(1). The treap, through left, right and parent, finds where a request belongs
between others, so that insertion and removal take O(log n); most queues never need it, so it is
planted, in O(n), when a request first belongs far from both ends, and falls when the order of all
changes, or that of so many that planting it again takes no longer. The heap
priority of a node is a hash of its index, so equal histories give equal trees. Reference: Seidel
and Aragon 1996.
"""

from sgym._jit import kernel
from sgym.core.layout import NONE

NEAR = 32  # places from an end of the list that are looked at one by one


@kernel
def before(requests, a, b) -> bool:
    """Whether waiting request `a` is ahead of `b`."""
    first, second = requests[a], requests[b]
    if first["waiting_score"] != second["waiting_score"]:
        return first["waiting_score"] > second["waiting_score"]
    return first["rank"] < second["rank"]


@kernel
def hashed(index: int) -> int:
    """Priority of a node, 31 bits (Knuth's multiplicative hashing)."""
    x = (int(index) * 2654435761) & 0x7FFFFFFF
    return ((x ^ (x >> 15)) * 1103515245) & 0x7FFFFFFF


@kernel
def replace_child(requests, instance, parent, old, new) -> None:
    """Hang `new` (or nothing) below `parent` where `old` was."""
    if parent == NONE:
        instance["waiting_root"] = new
    elif requests[parent]["left"] == old:
        requests[parent]["left"] = new
    else:
        requests[parent]["right"] = new
    if new != NONE:
        requests[new]["parent"] = parent


@kernel
def rotate_up(requests, instance, node) -> None:
    """Exchange a node with its parent, keeping the order."""
    parent = requests[node]["parent"]
    replace_child(requests, instance, requests[parent]["parent"], parent, node)
    if requests[parent]["left"] == node:
        inner = requests[node]["right"]
        requests[parent]["left"] = inner
        requests[node]["right"] = parent
    else:
        inner = requests[node]["left"]
        requests[parent]["right"] = inner
        requests[node]["left"] = parent
    if inner != NONE:
        requests[inner]["parent"] = parent
    requests[parent]["parent"] = node


@kernel
def link(links, instance, ahead, behind) -> None:
    """Let one request follow another in the list; NONE stands for its ends."""
    if ahead == NONE:
        instance["first_waiting"] = behind
    else:
        links[ahead]["next"] = behind
    if behind == NONE:
        instance["last_waiting"] = ahead
    else:
        links[behind]["previous"] = ahead


@kernel
def plant(requests, links, instance) -> None:
    """Make the tree of the list; in it each request joins at the right end, O(n) in all."""
    instance["waiting_root"] = NONE
    node, end = first(instance), NONE
    while node != NONE:
        priority = hashed(node)
        below, above = NONE, end
        while above != NONE and hashed(above) < priority:
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
        node, end = links[node]["next"], node


@kernel
def insert(requests, links, instance, node) -> None:
    """Put a request into the order given by its score and rank."""
    if instance["waiting_root"] == NONE:
        if insert_near_end(requests, links, instance, node):
            return
        plant(requests, links, instance)
    insert_below(requests, links, instance, node)


@kernel
def insert_near_end(requests, links, instance, node) -> bool:
    """Put a request into the list, if it belongs near its head or tail; else False."""
    ahead, behind = last(instance), first(instance)
    if ahead == NONE:
        put_between(links, instance, NONE, node, NONE)
        return True
    for _ in range(NEAR):
        if before(requests, ahead, node):
            put_between(links, instance, ahead, node, following(links, ahead))
            return True
        if before(requests, node, behind):
            put_between(links, instance, preceding(links, behind), node, behind)
            return True
        ahead, behind = preceding(links, ahead), following(links, behind)
    return False


@kernel
def put_between(links, instance, ahead, node, behind) -> None:
    """Let a request follow one and be followed by another; NONE stands for the ends."""
    link(links, instance, ahead, node)
    link(links, instance, node, behind)


@kernel
def insert_below(requests, links, instance, node) -> None:
    """Find the place of a request through the tree."""
    requests[node]["left"] = NONE
    requests[node]["right"] = NONE
    here, ahead, behind = instance["waiting_root"], NONE, NONE
    while True:
        if before(requests, node, here):
            behind = here
            below = requests[here]["left"]
            if below == NONE:
                requests[here]["left"] = node
                break
        else:
            ahead = here
            below = requests[here]["right"]
            if below == NONE:
                requests[here]["right"] = node
                break
        here = below
    put_between(links, instance, ahead, node, behind)
    requests[node]["parent"] = here
    priority = hashed(node)
    while requests[node]["parent"] != NONE and hashed(requests[node]["parent"]) < priority:
        rotate_up(requests, instance, node)


@kernel
def remove(requests, links, instance, node) -> None:
    """Take a request out."""
    link(links, instance, links[node]["previous"], links[node]["next"])
    if instance["waiting_root"] == NONE:
        return
    while True:
        left, right = requests[node]["left"], requests[node]["right"]
        if left == NONE or right == NONE:
            break
        rotate_up(requests, instance, left if hashed(left) > hashed(right) else right)
    replace_child(
        requests, instance, requests[node]["parent"], node, right if left == NONE else left
    )


@kernel
def first(instance) -> int:
    """The request at the head of the queue, or NONE."""
    return instance["first_waiting"]


@kernel
def last(instance) -> int:
    """The request at the end of the queue, or NONE."""
    return instance["last_waiting"]


@kernel
def following(links, node) -> int:
    """The request behind this one, or NONE."""
    return links[node]["next"]


@kernel
def preceding(links, node) -> int:
    """The request ahead of this one, or NONE."""
    return links[node]["previous"]
