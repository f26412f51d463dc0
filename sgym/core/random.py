"""Random numbers inside kernels: a counter in the CLUSTER record, hashed; snapshots include it.

The hash is Wellons' 32-bit mixer of low bias (nullprogram.com, 2018; constants 21f0aaad, 735a2d97).
Its products stay below 2**63: compiled signed integers may not overflow (numba tells LLVM that they
do not), and plain Python must give the same numbers.
"""

import math

from sgym._jit import kernel

WORD = 0xFFFFFFFF
FIRST = 0x21F0AAAD
SECOND = 0x735A2D97
OTHER = 0x5BD1E995  # tells a second stream from the first


@kernel
def mix(word: int) -> int:
    """A well spread number in [0, 2**32) for a number in it."""
    x = ((word ^ (word >> 16)) * FIRST) & WORD
    x = ((x ^ (x >> 15)) * SECOND) & WORD
    return x ^ (x >> 15)


@kernel
def integer(counter: int) -> int:
    """A number in [0, 2**32) for a counter in [0, 2**63)."""
    return mix((counter & WORD) ^ mix(counter >> 32))


@kernel
def uniform(counter: int) -> float:
    """A number in [0, 1) with 53 random bits."""
    high = integer(counter)
    low = mix(high ^ OTHER)
    return ((high >> 5) * 67108864.0 + (low >> 6)) * (1.0 / 9007199254740992.0)


@kernel
def normal(counter: int) -> float:
    """A standard normal number from two uniform ones (Box and Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(counter)))
    return radius * math.cos(2.0 * math.pi * uniform(counter ^ (OTHER << 20)))
