"""Arrival processes: when requests come, as sorted seconds in [0, duration).

Every process draws gaps of mean 1, lays them out on the axis of expected arrivals and maps them to
time through the inverse of the cumulative rate, which is exact for piecewise constant rates. `rate`
is the mean of the process in the long run: a window that holds part of a cycle may have another.
"""

from collections.abc import Callable

import numpy as np

from sgym.config import Arrivals
from sgym.errors import ScenarioError
from sgym.workload.streams import Purpose, stream

DIURNAL_POINTS = 512  # of the cumulative rate, per cycle
MAX_ARRIVALS = 50_000_000  # in one episode; about 15 GB of simulated requests
MAX_POINTS = 20_000_000  # of the cumulative rate

Draw = Callable[[int], np.ndarray]


def arrival_times(
    arrivals: Arrivals,
    rate: float,
    duration: float,
    seed: int,
    limit: int | None = None,
    before: float = 0.0,
) -> np.ndarray:
    """Times of all arrivals.

    Args:
        arrivals: the process and its parameters.
        rate: mean requests per second.
        duration: seconds.
        seed: of the random streams.
        limit: at most that many arrivals.
        before: seconds by which the process has begun earlier.

    Returns:
        float64 (n,), seconds, sorted, each in [-before, duration).
    """
    duration += before
    expected_count = rate * duration if limit is None else min(rate * duration, limit)
    if expected_count > MAX_ARRIVALS:
        raise ScenarioError(
            f"workload.rate {rate:g} over {duration:g} s gives {expected_count:.3g} requests, must "
            f"be at most {MAX_ARRIVALS}: lower workload.rate, workload.num_requests or "
            "episode.duration"
        )
    if arrivals.process == "constant":
        count = _at_most(int(np.ceil(rate * duration)), limit)
        times = np.arange(count) / rate
    else:
        clock, expected = _cumulative(arrivals, rate, duration, seed, before)
        marks = _marks(_gaps(arrivals, seed), float(expected[-1]), limit)
        times = np.interp(marks, expected, clock)
    return times[times < duration] - before


def _at_most(count: int, limit: int | None) -> int:
    return count if limit is None else min(count, limit)


def _gaps(arrivals: Arrivals, seed: int) -> Draw:
    """Drawer of gaps with mean 1; the first call's first value is the wait from time 0."""
    random = stream(seed, Purpose.GAPS)
    if arrivals.process != "gamma":
        return random.standard_exponential
    shape = 1.0 / arrivals.cv**2
    # From an arbitrary moment to the next arrival: the gap that covers a moment is length-biased
    # (gamma with shape + 1), and the moment lies uniformly in it. Starting with a plain gap instead
    # would put (cv^2 - 1) / 2 extra requests at the start of every window.
    first = random.standard_gamma(shape + 1.0) / shape * random.random()
    waiting = [first]

    def draw(count: int) -> np.ndarray:
        gaps = random.standard_gamma(shape, count) / shape
        return np.concatenate(([waiting.pop()], gaps)) if waiting else gaps

    return draw


def _marks(draw: Draw, total: float, limit: int | None) -> np.ndarray:
    """Running sums of gaps up to `total`; float64 (n,)."""
    batch = int(total + 4.0 * np.sqrt(total)) + 16
    batch = _at_most(batch, None if limit is None else limit + 1)
    parts, reached, count = [], 0.0, 0
    while reached < total and (limit is None or count < limit):
        sums = reached + np.cumsum(draw(batch))
        parts.append(sums)
        reached, count = float(sums[-1]), count + len(sums)
    marks = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0), *parts])
    return marks[: np.searchsorted(marks, total)][:limit]


def _points(count: float, name: str, each: int = 1) -> int:
    """`count`, rounded up; a ScenarioError if an array of so many (times `each`) is too large."""
    if count * each > MAX_POINTS:
        raise ScenarioError(
            f"workload.arrivals.{name} is too short for the episode: it changes {count:.3g} times, "
            f"must be at most {MAX_POINTS // each}"
        )
    return int(np.ceil(count))


def _cumulative(
    arrivals: Arrivals, rate: float, duration: float, seed: int, before: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points of time and the arrivals expected up to each; both float64 (n,), from 0.

    The cycles of periodic processes begin at `before`.
    """
    if arrivals.process == "diurnal":
        return _diurnal(arrivals, rate, duration, before)
    if arrivals.process == "mmpp":
        levels, dwells = _markov_levels(arrivals, duration, seed)
    elif arrivals.process == "piecewise":
        cycle = sum(arrivals.durations)
        skipped = -before % cycle
        cycles = _points((skipped + duration) / cycle, "durations", len(arrivals.levels))
        levels, dwells = _later(
            np.tile(arrivals.levels, cycles), np.tile(arrivals.durations, cycles), skipped
        )
    else:
        return np.array([0.0, duration]), np.array([0.0, rate * duration])
    relative = np.asarray(arrivals.levels), np.asarray(arrivals.durations)
    mean = float(relative[0] @ relative[1]) / float(relative[1].sum())
    clock = np.concatenate(([0.0], np.cumsum(dwells)))
    expected = np.concatenate(([0.0], np.cumsum(levels * dwells * (rate / mean))))
    end = np.searchsorted(clock, duration)
    last = np.interp(duration, clock, expected)
    return np.append(clock[:end], duration), np.append(expected[:end], last)


def _later(levels: np.ndarray, dwells: np.ndarray, skipped: float) -> tuple[np.ndarray, np.ndarray]:
    """The same levels from `skipped` seconds on."""
    ends = np.cumsum(dwells)
    first = int(np.searchsorted(ends, skipped, side="right"))
    left = dwells[first:].copy()
    if skipped > 0.0:
        left[0] = ends[first] - skipped
    return levels[first:], left


def _markov_levels(arrivals: Arrivals, duration: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels and seconds in each, until `duration` is covered; starts in equilibrium.

    The next level is any other one with equal chance, so the long-run share of a level is
    proportional to its mean duration.
    """
    choice, random = stream(seed, Purpose.LEVELS), stream(seed, Purpose.DWELLS)
    mean = np.asarray(arrivals.durations)
    num = len(mean)
    state = int(choice.choice(num, p=mean / mean.sum()))
    batch = _points(2.0 * duration / mean.min(), "durations") + 16
    states: list[np.ndarray] = []
    dwells: list[np.ndarray] = []
    covered = 0.0
    while covered < duration:
        steps = choice.integers(1, num, batch) if num > 1 else np.zeros(batch, np.int64)
        path = (state + np.concatenate(([0], np.cumsum(steps)))) % num
        states.append(path[:-1])
        dwells.append(random.standard_exponential(batch) * mean[path[:-1]])
        state, covered = int(path[-1]), covered + float(dwells[-1].sum())
    return np.asarray(arrivals.levels)[np.concatenate(states)], np.concatenate(dwells)


def _diurnal(
    arrivals: Arrivals, rate: float, duration: float, before: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rate * (1 + amplitude * sin(2 pi (t + phase - before) / period)), integrated."""
    points = _points(DIURNAL_POINTS * duration / arrivals.period, "period") + DIURNAL_POINTS
    clock = np.linspace(0.0, duration, points)
    omega = 2.0 * np.pi / arrivals.period
    start = omega * (arrivals.phase - before)
    swing = arrivals.amplitude / omega * (np.cos(start) - np.cos(omega * clock + start))
    return clock, rate * (clock + swing)
