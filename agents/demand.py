"""What every request still needs from the machines, and what these charge for it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.charges import MACHINE, Charges, charges_of
from agents.plans import DEMAND
from sgym.core import layout
from sgym.core.layout import NEVER, Role
from sgym.simulator import Simulator

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

GONE = (layout.FINISHED, layout.REJECTED, layout.REFUSED)
ROUNDING = 1e-9  # seconds, of times that are compared


@dataclass(frozen=True, slots=True)
class Fleet:
    """Equal instances are a pool.

    Attributes:
        sizes: instances of each pool, (pools,).
        charges: of each pool.
        serves: (pools, 2), whether its instances may prefill, and decode.
    """

    sizes: Floats
    charges: tuple[Charges, ...]
    serves: NDArray[np.int8]

    @property
    def machines(self) -> np.ndarray:
        """MACHINE (pools,)."""
        return np.array([pool.machine[0] for pool in self.charges], MACHINE)

    @property
    def rules(self) -> Floats:
        """(pools, charges, 4), filled up with rules that charge nothing."""
        longest = max(len(pool.rules) for pool in self.charges)
        filled = [
            np.pad(pool.rules, ((0, longest - len(pool.rules)), (0, 0))) for pool in self.charges
        ]
        return np.array(filled)

    def fastest(self, phase: int, seconds: list[Floats]) -> Floats:
        """Least of the seconds on each pool, over those that serve this phase."""
        served = [row for row, serves in zip(seconds, self.serves[:, phase], strict=True) if serves]
        return np.min(served, axis=0)


def fleet_of(simulator: Simulator, rows: np.ndarray, fixed_roles: bool) -> Fleet:
    """The pools of a simulation, with charges that are high for requests like DEMAND `rows`."""
    state = simulator.state
    size = max(len(rows), 1)
    prompt = float(rows["compute"].sum()) / size
    context = float((rows["context"] + rows["tokens"] / 2).sum()) / size
    keys = [engine.tobytes() for engine in state.engines]
    pools = sorted(set(keys), key=keys.index)
    places = [keys.index(key) for key in pools]
    tables: list[Any] = [state.latency[place] for place in state.engines["latency"]]
    roles = state.engines["role"][places]
    serves = np.ones((len(pools), 2), np.int8)
    if fixed_roles:
        serves = np.stack([roles != Role.DECODE, roles != Role.PREFILL], axis=1).astype(np.int8)
    return Fleet(
        sizes=np.array([keys.count(key) for key in pools], float),
        charges=tuple(charges_of(state.engines[i], tables[i], prompt, context) for i in places),
        serves=serves,
    )


def demands_of(simulator: Simulator) -> np.ndarray:
    """DEMAND of all requests that have arrived by the end; times on machines are filled in later.

    `given` counts tokens delivered so far; requests that are gone have no tokens left.
    """
    state, end = simulator.state, simulator.window[1]
    now = simulator.now
    requests = state.requests[state.requests["arrival"] <= end]
    rows = np.zeros(len(requests), DEMAND)
    gone = np.isin(requests["phase"], GONE)
    for name in ("token_time", "weight", "alpha", "lateness"):
        rows[name] = requests[name]
    rows["given"] = requests["generated"]
    rows["due"] = np.where(requests["due"] >= NEVER, end, requests["due"])
    finished = requests["phase"] == layout.FINISHED
    rows["due"][finished] = end - np.maximum(requests["lateness"][finished], 0.0)
    rows["start"] = np.maximum(requests["arrival"], now)
    rows["tokens"] = np.where(gone, 0, requests["output"] - requests["generated"])
    known = requests["prompt"] + requests["generated"]
    rows["context"] = known
    rows["compute"] = known - (requests["computed"] - requests["scheduled"])
    unknown = requests["phase"] != layout.PENDING
    if state.engines["prefix_caching"].any():
        shared = requests["num_hashes"] * int(state.cluster[0]["hash_block"])
        rows["shared"] = np.minimum(shared, requests["prompt"])
        rows["compute"] = np.where(unknown, 1, rows["compute"] - rows["shared"])
    if state.engines["async_scheduling"].any():
        rows["compute"][unknown] = 1
    rows["compute"] = np.maximum(rows["compute"], 1)
    compute, context = rows["compute"].astype(float), rows["context"].astype(float)
    pairs = compute * (context - compute) + compute * compute / 2
    rows["pairs"] = np.where((rows["compute"] == 1) & (rows["given"] > 0), 0.0, pairs)
    rows["first"] = np.where(requests["scheduled"] + requests["in_flight"] > 0, 0.0, np.nan)
    return rows


def limit_to_machines(rows: np.ndarray, fleet: Fleet, end: float) -> None:
    """Fill in how fast an idle machine is, and what lateness and end follow for DEMAND `rows`."""
    compute, context = rows["compute"].astype(float), rows["context"].astype(float)
    firsts = [pool.first_seconds(compute, rows["pairs"], context) for pool in fleet.charges]
    steps = [pool.decode_seconds(context) for pool in fleet.charges]
    step, first = fleet.fastest(1, steps), fleet.fastest(0, firsts)
    first = np.where(rows["pairs"] > 0, first, step)
    rows["first"] = np.where(np.isnan(rows["first"]), first, rows["first"])
    rows["step"] = step
    left = rows["tokens"]
    spare = end - rows["start"] - rows["first"] + ROUNDING
    fit = np.where(spare < 0, 0, np.floor(np.maximum(spare, 0.0) / step) + 1)
    tokens = np.minimum(fit, left).astype(np.int32)
    next_due = rows["due"] + rows["token_time"] * tokens
    cut_short = tokens < left
    served = tokens > 0
    forced = rows["start"] + rows["first"] - rows["due"]
    late = np.where(cut_short, np.maximum(rows["lateness"], end - next_due), rows["lateness"])
    rows["lateness"] = np.where(served, np.maximum(late, forced), late)
    rows["tokens"] = tokens
