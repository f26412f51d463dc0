"""The first difference between two answers to a case."""

from typing import Any

TOLERANCE = 1e-9  # seconds


def differences(real: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Lines that describe the first differing iteration; empty if every decision agrees."""
    pairs = zip(real["iterations"], ours["iterations"], strict=False)
    for number, (expected, found) in enumerate(pairs):
        lines = [
            f"  {name}: vLLM {expected[name]!r}, sgym {found[name]!r}"
            for name in expected
            if not same(expected[name], found[name])
        ]
        if lines:
            return [f"iteration {number} at {expected['t']:.6f} s differs", *lines]
    counts = len(real["iterations"]), len(ours["iterations"])
    if counts[0] != counts[1]:
        return [f"vLLM ran {counts[0]} iterations, sgym {counts[1]}"]
    for r, (expected, found) in enumerate(zip(real["tokens"], ours["tokens"], strict=True)):
        if len(expected) != len(found) or not all(map(same, expected, found)):
            return [f"token times of request {r} differ: vLLM {expected}, sgym {found}"]
    if real["preemptions"] != ours["preemptions"]:
        return [f"preemptions: vLLM {real['preemptions']}, sgym {ours['preemptions']}"]
    return []


def same(a: Any, b: Any) -> bool:
    """Equal; for times, equal within TOLERANCE."""
    if isinstance(a, float):
        return abs(a - b) <= TOLERANCE
    return bool(a == b)
