"""Random numbers inside kernels: a counter in the CLUSTER record, hashed; snapshots include it.

The mixing function is SplitMix64's (Steele, Lea, Flood, OOPSLA 2014) on 63 bits, so that signed
integers give the same numbers compiled and in plain Python.
"""

import math

from sgym._jit import kernel

MASK = (1 << 63) - 1
GOLDEN = 0x1E3779B97F4A7C15
FIRST = 0x3F58476D1CE4E5B9
SECOND = 0x14D049BB133111EB


@kernel
def mix(value: int) -> int:
    """A well spread number in [0, 2**63) for any integer."""
    x = (value + GOLDEN) & MASK
    x = ((x ^ (x >> 30)) * FIRST) & MASK
    x = ((x ^ (x >> 27)) * SECOND) & MASK
    return x ^ (x >> 31)


@kernel
def uniform(counter: int) -> float:
    """A number in [0, 1) that depends on nothing but the counter."""
    return (mix(counter) >> 10) * (1.0 / (1 << 53))


@kernel
def normal(counter: int) -> float:
    """A standard normal number from two uniform ones (Box and Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(counter)))
    return radius * math.cos(2.0 * math.pi * uniform(mix(counter) ^ GOLDEN))
