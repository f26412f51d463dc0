"""The waiting requests of an instance: a treap through REQUEST's left, right and parent.

Ordered by `waiting_score` (highest first), then `rank` (lowest first). Insertion, removal and
finding the first take O(log n); walking on from there costs O(1) a step. The heap priority of a
node is a hash of its index, so equal histories give equal trees. Reference: Seidel and Aragon 1996.
"""

from sgym._jit import kernel
from sgym.core.layout import NONE


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
def insert(requests, instance, node) -> None:
    """Put a request into the order given by its score and rank."""
    requests[node]["left"] = NONE
    requests[node]["right"] = NONE
    requests[node]["parent"] = NONE
    here = instance["waiting_root"]
    if here == NONE:
        instance["waiting_root"] = node
        return
    while True:
        if before(requests, node, here):
            below = requests[here]["left"]
            if below == NONE:
                requests[here]["left"] = node
                break
        else:
            below = requests[here]["right"]
            if below == NONE:
                requests[here]["right"] = node
                break
        here = below
    requests[node]["parent"] = here
    priority = hashed(node)
    while requests[node]["parent"] != NONE and hashed(requests[node]["parent"]) < priority:
        rotate_up(requests, instance, node)


@kernel
def remove(requests, instance, node) -> None:
    """Take a request out."""
    while True:
        left, right = requests[node]["left"], requests[node]["right"]
        if left == NONE or right == NONE:
            break
        rotate_up(requests, instance, left if hashed(left) > hashed(right) else right)
    replace_child(
        requests, instance, requests[node]["parent"], node, right if left == NONE else left
    )
    requests[node]["left"] = NONE
    requests[node]["right"] = NONE
    requests[node]["parent"] = NONE


@kernel
def first(requests, instance) -> int:
    """The request at the head of the queue, or NONE."""
    node = instance["waiting_root"]
    if node == NONE:
        return NONE
    while requests[node]["left"] != NONE:
        node = requests[node]["left"]
    return node


@kernel
def last(requests, instance) -> int:
    """The request at the end of the queue, or NONE."""
    node = instance["waiting_root"]
    if node == NONE:
        return NONE
    while requests[node]["right"] != NONE:
        node = requests[node]["right"]
    return node


@kernel
def following(requests, node) -> int:
    """The request behind this one, or NONE."""
    if requests[node]["right"] != NONE:
        node = requests[node]["right"]
        while requests[node]["left"] != NONE:
            node = requests[node]["left"]
        return node
    parent = requests[node]["parent"]
    while parent != NONE and requests[parent]["right"] == node:
        node = parent
        parent = requests[node]["parent"]
    return parent


@kernel
def preceding(requests, node) -> int:
    """The request ahead of this one, or NONE."""
    if requests[node]["left"] != NONE:
        node = requests[node]["left"]
        while requests[node]["right"] != NONE:
            node = requests[node]["right"]
        return node
    parent = requests[node]["parent"]
    while parent != NONE and requests[parent]["left"] == node:
        node = parent
        parent = requests[node]["parent"]
    return parent
