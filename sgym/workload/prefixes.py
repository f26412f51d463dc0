"""What prompts share: lists of hash ids per prompt become chained numbers from 0.

An entry stands for `block` tokens of a prompt, the k-th for tokens [k * block, (k + 1) * block).
Entries are chained: two prompts have the same number at k only if they are equal up to the end of
block k (or of the shorter prompt). So shared entries always lead, and what no other prompt of the
table has is left out: it shares nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from sgym.errors import TraceError


@dataclass(frozen=True, slots=True, eq=False)
class Prefixes:
    """Chained hashes of the rows of a table; equal rows may point to the same entries."""

    first: np.ndarray  # int64 (n,): index into hashes
    count: np.ndarray  # int32 (n,): entries from there on; 0 = shares nothing
    hashes: np.ndarray  # int64: numbers from 0 without gaps
    block: int  # tokens per entry


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """The requests of one episode."""

    arrivals: np.ndarray  # ARRIVAL (n,), sorted by arrival
    hashes: np.ndarray  # int64, what ARRIVAL.first_hash points into; may hold more than is used
    hash_block: int  # prompt tokens per entry of `hashes`

    def __len__(self) -> int:
        """Number of requests."""
        return len(self.arrivals)

    @property
    def hit_share(self) -> float:
        """Share of all prompt tokens that a cache which forgets nothing would hold already."""
        rows = self.arrivals
        count = rows["num_hashes"]
        return hit_share(
            rows["prompt"], Prefixes(rows["first_hash"], count, self.hashes, self.hash_block)
        )


def unshared(arrivals: np.ndarray) -> Requests:
    """Requests whose prompts share nothing."""
    return Requests(arrivals, np.zeros(0, np.int64), 1)


def with_prefixes(arrivals: np.ndarray, prefixes: Prefixes, rows: np.ndarray) -> Requests:
    """Write what `rows` of a table share into ARRIVAL (n,), in place; the hashes are not copied."""
    arrivals["first_hash"], arrivals["num_hashes"] = prefixes.first[rows], prefixes.count[rows]
    return Requests(arrivals, prefixes.hashes, prefixes.block)


def chained(lists: Sequence[Any], prompt: np.ndarray, block: int) -> Prefixes:
    """Chain lists of hash ids, whether their ids are chained already or not.

    Args:
        lists: for each row a list of whole numbers or strings, or anything else for none.
        prompt: tokens of each row (n,). Entries beyond the prompt's last block are ignored.
        block: tokens per entry.
    """
    own = [ids if isinstance(ids, list) else [] for ids in lists]
    blocks = -(-prompt.astype(np.int64) // block)
    counts = np.minimum(np.fromiter(map(len, own), np.int64, len(own)), blocks)
    flat = _numbers([ids[:count] for ids, count in zip(own, counts, strict=True)])
    ids = _numbered(_running(flat, counts))
    several = np.bincount(ids) > 1
    shared = several[ids]
    counts = np.bincount(_owners(counts)[shared], minlength=len(own))
    return Prefixes(
        first=np.cumsum(counts) - counts,
        count=counts.astype(np.int32),
        hashes=(np.cumsum(several) - 1)[ids[shared]],
        block=block,
    )


def misfits(lists: Sequence[Any], prompt: np.ndarray, block: int) -> tuple[int, int]:
    """Rows whose hash ids are too many for their prompt, and too few (those without any apart)."""
    lengths = (len(ids) if isinstance(ids, list) else 0 for ids in lists)
    counts = np.fromiter(lengths, np.int64, len(lists))
    too_many = np.count_nonzero(counts > -(-prompt // block))
    too_few = np.count_nonzero((counts > 0) & (counts < prompt // block))
    return int(too_many), int(too_few)


def fitting_block(lists: Sequence[Any], prompt: np.ndarray, usual: int) -> int:
    """Tokens per hash id: `usual`, unless most rows do not fit it but another power of 2 exactly.

    A row fits exactly if it has an id for each block that it begins.
    """
    lengths = (len(ids) if isinstance(ids, list) else 0 for ids in lists)
    counts = np.fromiter(lengths, np.int64, len(lists))
    counts, tokens = counts[counts > 0], prompt[counts > 0]
    blocks = [usual, *(2**power for power in range(13))]
    fits = [int(np.count_nonzero(-(-tokens // block) == counts)) for block in blocks]
    best = int(np.argmax(fits))  # of equals the first, so that `usual` goes before
    return blocks[best] if fits[0] <= len(counts) / 2 < fits[best] else usual


def hit_share(prompt: np.ndarray, prefixes: Prefixes) -> float:
    """Share of all prompt tokens that a cache which forgets nothing would hold already.

    Args:
        prompt: tokens (n,), in order of arrival.
        prefixes: of the same rows.
    """
    counts = prefixes.count.astype(np.int64)
    rows = _owners(counts)
    entries = np.repeat(prefixes.first, counts) + places(counts)
    ids = prefixes.hashes[entries]
    first_row = np.empty(int(ids.max(initial=-1)) + 1, np.int64)
    first_row[ids[::-1]] = rows[::-1]  # of several rows, the last one written stays
    known = np.bincount(rows[first_row[ids] < rows], minlength=len(counts))
    tokens = prompt.astype(np.int64)
    return float(np.minimum(known * prefixes.block, tokens).sum() / max(tokens.sum(), 1))


def places(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... count - 1 for each count, one after the other; int64."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _owners(counts: np.ndarray) -> np.ndarray:
    """The row of each entry, if row r has counts[r] of them; int64."""
    return np.repeat(np.arange(len(counts)), counts)


def _numbers(lists: list[list[Any]]) -> np.ndarray:
    """All ids of all lists as int64: numbers as they are, anything else numbered."""
    values = list(chain.from_iterable(lists))
    kinds = {type(value) for value in values}
    if all(issubclass(kind, int | np.integer) for kind in kinds):
        try:
            return np.array(values, np.int64)
        except OverflowError:  # hashes of 64 bits without sign, or longer
            pass
    for kind in kinds:
        if not issubclass(kind, int | np.integer | str):
            odd = next(value for value in values if type(value) is kind)
            raise TraceError(f"hash_ids hold {odd!r:.60}, must be whole numbers or strings")
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def _running(flat: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """For each entry a fingerprint of its row up to it; uint64.

    Sums of well mixed (id, place) pairs: that two different beginnings among ten million have
    the same sum has a chance of about 3e-6.
    """
    mixed = _mixed(flat.astype(np.uint64) + _mixed(places(counts).astype(np.uint64)))
    sums = np.cumsum(mixed)
    before = np.concatenate((np.zeros(1, np.uint64), sums))[np.cumsum(counts) - counts]
    return sums - np.repeat(before, counts)


def _mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014) of uint64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _numbered(values: np.ndarray) -> np.ndarray:
    """Numbers from 0, in order of appearance; int64."""
    import pandas as pd

    return pd.factorize(values)[0].astype(np.int64, copy=False)
