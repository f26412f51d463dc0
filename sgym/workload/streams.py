"""Independent random streams, one per purpose, so that changing one thing changes nothing else.

With the same seed, request i has the same lengths, class and prediction at every request rate, and
two rates see the same arrivals in other units of time.
"""

from enum import IntEnum
from typing import Any

import numpy as np

from sgym.errors import ScenarioError


class Purpose(IntEnum):
    """What a stream of random numbers is for; a number is never reused for another purpose."""

    GAPS = 0
    LEVELS = 1
    DWELLS = 2
    LENGTHS = 3
    COMPONENTS = 4
    CLASSES = 5
    PREDICTIONS = 6
    WINDOW = 7
    JITTER = 8
    TURNS = 9
    THINKING = 10
    SYSTEM_PROMPTS = 11
    SYSTEM_LENGTHS = 12


def stream(seed: int, purpose: Purpose) -> np.random.Generator:
    """The generator of one purpose under one seed."""
    given: Any = seed
    if not isinstance(given, int | np.integer) or given < 0:
        raise ScenarioError(f"seed must be a whole number of at least 0, got {given!r}")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(purpose,))))
