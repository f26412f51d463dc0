"""A moment of the simulation as text, and what it shares with the picture."""

from itertools import islice
from typing import NamedTuple

import numpy as np

from sgym.core.layout import MIXED, MOVING, NONE, Role, State, Transfer
from sgym.policies.view import InstanceView, RequestView, waiting_order

LINES = 3  # rows of text per queue
PER_LINE = 8  # requests in a row of text


class Elsewhere(NamedTuple):
    """KV of each instance that no running or waiting request of its own holds there."""

    held: np.ndarray  # KV blocks: of requests that are leaving, or on their way here
    leaving: np.ndarray  # requests
    loading: np.ndarray  # requests


def elsewhere(state: State) -> Elsewhere:
    """Count what the instances hold for hand-offs and migrations under way."""
    requests, count = state.requests, len(state.instances)
    held, loading = np.zeros(count, np.int64), state.instances["num_loading"]
    away = requests["other"] >= 0
    np.add.at(held, requests["other"][away], requests["other_blocks"][away])
    coming = (requests["phase"] == MOVING) & (requests["transfer"] != NONE)
    np.add.at(held, requests["instance"][coming], requests["blocks"][coming])
    return Elsewhere(held, state.instances["num_leaving"], loading)


def role_of(state: State, index: int) -> str:
    """Such as `prefill`, or `prefill, becomes decode`; empty if it does everything."""
    instance = state.instances[index]
    role, coming = int(instance["role"]), int(instance["next_role"])
    if role == MIXED and coming == NONE:
        return ""
    becomes = "" if coming == NONE else f", becomes {Role(coming).name.lower()}"
    return Role(role).name.lower() + becomes


def kind_of(transfer: np.void) -> str:
    """What a transfer is part of."""
    return "hand-off" if transfer["kind"] == int(Transfer.HANDOFF) else "migration"


def text(state: State, name: str, slots: np.ndarray | None = None) -> str:
    """A panel of text: one block per instance; requests as id:generated/slack in seconds.

    Args:
        state: the simulation.
        name: of the scenario.
        slots: requests that the agent sees, marked with an asterisk.
    """
    cluster, away = state.cluster[0], elsewhere(state)
    lines = [f"{name}  t = {cluster['clock']:.3f} s of {cluster['horizon']:g} s"]
    for index in range(len(state.instances)):
        view, knobs = InstanceView(state, index), state.instances[index]
        used = view.num_blocks - view.free_blocks
        bar = _bar(used, min(int(away.held[index]), used), view.num_blocks)
        role = role_of(state, index)
        asks = " <- decides" if index == cluster["instance"] else ""
        lines.append(
            f"instance {index}{f' ({role})' if role else ''}  "
            f"KV [{bar:<30}] {used}/{view.num_blocks} blocks, "
            f"reserve {knobs['reserve']}, budget {knobs['token_budget']}, "
            f"cap {knobs['active_cap']}{asks}"
        )
        for title, members, count in queues(state, view, LINES * PER_LINE):
            about = traffic(state, index, away) if title == "running" else []
            lines.append(", ".join([f"  {title} {count}", *about]))
            lines += _request_lines(members, count, slots)
    return "\n".join(lines + _transfer_lines(state))


def _bar(used: int, held: int, capacity: int) -> str:
    """Of 30 characters: # for memory in use, + for what is held for hand-offs and migrations."""
    filled, own = round(30 * used / capacity), round(30 * (used - held) / capacity)
    return "#" * own + "+" * (filled - own)


def queues(state: State, view: InstanceView, most: int) -> list[tuple[str, list[RequestView], int]]:
    """For both queues, its title, the first requests in it, and how many there are."""
    heads = [
        state.running[view.index, : min(view.num_running, most)].tolist(),
        list(islice(waiting_order(state, view.index), most)),
    ]
    running, waiting = (
        [RequestView(r, state.requests[r], view.now) for r in indexes] for indexes in heads
    )
    return [("running", running, view.num_running), ("waiting", waiting, view.num_waiting)]


def traffic(state: State, index: int, away: Elsewhere) -> list[str]:
    """What comes, what goes, and what lies in the memory of the host."""
    parts = [
        f"{count[index]} {word}"
        for word, count in (("loading", away.loading), ("leaving", away.leaving))
        if count[index]
    ]
    room = int(state.engines[index]["host_blocks"])
    if state.engines[index]["swap"] and room:
        parts.append(f"host {1 - int(state.instances[index]['free_host_blocks']) / room:.0%}")
    return parts


def _request_lines(shown: list[RequestView], count: int, slots: np.ndarray | None) -> list[str]:
    cells = [
        f"{'*' if slots is not None and r.id in slots else ' '}"
        f"{r.id}:{r.generated}/{_short(r.slack)}"
        for r in shown
    ]
    lines = [
        "    " + " ".join(f"{cell:<13}" for cell in cells[at : at + PER_LINE]).rstrip()
        for at in range(0, len(cells), PER_LINE)
    ]
    return [*lines, f"    and {count - len(shown)} more"] if count > len(shown) else lines


def _short(seconds: float) -> str:
    return f"{seconds:+.1f}" if abs(seconds) < 1e4 else "-"


def _transfer_lines(state: State) -> list[str]:
    """One per transfer of KV that is under way."""
    return [
        f"transfer {entry['source']} -> {entry['target']}: request {entry['request']}, "
        f"{kind_of(entry)}, {entry['remaining'] / 1e6:.1f} MB to go"
        for entry in state.transfers[: int(state.cluster[0]["num_transfers"])]
    ]
