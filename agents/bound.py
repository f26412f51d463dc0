"""An upper bound on the smooth goodput that any scheduler can reach, a clairvoyant one included.

Claim. Let prices x[v, k] >= 0 be given for each charge v (see `charges`) and bucket k of time, and
let X(t) = sum over v of x[v, k(t)]. Then, with B the sum of benefits,

    B(end) <= integral of X over the machines' time  +  sum over r of max over plans of r of
              (benefit - sum over its tokens of the least price in the token's window).

Proof. Take any schedule. An iteration from s to e pays the integral of X from s to e. Iterations of
an instance do not overlap, so all of them pay at most the first term (time before the present
moment, of iterations under way, is added to the first bucket). For each v, the charges of an
iteration's tokens sum up to e - s at most, so the tokens can share what it pays such that one with
charges c_v pays at most the mean over s..e of sum over v of x[v, k] c_v, which is at least its
minimum over the buckets that s..e touches. A token of r lies in an iteration that starts after r's
arrival, and after the least time that its earlier tokens take on an idle machine; it ends before
the token's due time plus r's lateness l. All tokens due before end - l are delivered, or the
lateness would be above l. So what r pays is at least what the cheapest plan with its l pays, and
its benefit less its payments at most the maximum. Sum over r. QED

A request has at most one place in an iteration, so an iteration's fixed time may be shared among
its requests in any way that adds up to 1 over all requests of a bucket. What would get the most
tokens then pays the most, and requests cannot all hurry at once: this is what makes the bound fall
where many decode at a time. The shares are searched for along with the prices.

Everything else is left out, which keeps the bound valid and makes it loose: KV held between the
tokens of a request, recomputation, whole tokens and whole iterations, transfers, and that decodes
come after their prefill. The first of these is the worst: a request that is prefilled in time may
put its decodes off without holding memory. Windows end at a bucket's end. Prices are found by
descent along a subgradient, so they are good but not the best. Deadlines that count from the first
token are dropped.
"""

from dataclasses import dataclass

import numpy as np

from agents.demand import Fleet, Floats, demands_of, fleet_of, limit_to_machines
from agents.plans import GRID, GROUP, best_plans
from sgym.errors import ScenarioError
from sgym.simulator import Simulator, Source

RATE = 0.03
"""Longest step of the search for prices, in units of worth per second of machine time."""
BLUR = 0.05
"""Share of its worth by which a token's place may be dearer than the cheapest one and still get
some of it in the slope: slopes of exact plans jump from bucket to bucket."""
SHIFT = 1.0
"""Longest step of the search for shares, of their logarithms."""
START = (0.05, 0.15, 0.4, 1.0, 2.5, 6.0)
"""Prices at which the search may start, in the same units."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound on smooth goodput, weighted tokens/s.

    Attributes:
        bound: no schedule exceeds it.
        trivial: with every request alone on an idle machine.
        prices: (buckets, pools), weighted tokens per second of machine time.
        bucket: seconds of a bucket.
        history: the bound at each step of the search for prices.
    """

    bound: float
    trivial: float
    prices: Floats
    bucket: float
    history: Floats


def upper_bound(
    scenario: Source,
    seed: int = 0,
    policy: str | None = None,
    num_buckets: int = 60,
    num_steps: int = 120,
    fixed_roles: bool = False,
) -> Bound:
    """Bound the smooth goodput of a scenario's window.

    Args:
        scenario: name, path, dict or Scenario.
        seed: of the workload.
        policy: whose engine it is, and who serves the warm start; None = the scenario's.
        num_buckets: buckets of time with prices of their own.
        num_steps: steps of the search for prices and shares.
        fixed_roles: prefill and decode instances keep their roles, and requests decode only where
            they are sent; False also covers schedulers that change that.

    Raises:
        ScenarioError: iteration times are random, so that there is no sure bound.
    """
    return bound_from(Simulator(scenario, seed, policy), num_buckets, num_steps, fixed_roles)


def bound_from(
    simulator: Simulator, num_buckets: int = 60, num_steps: int = 120, fixed_roles: bool = False
) -> Bound:
    """Bound what an episode under way can come to, whatever is decided from now on; see above."""
    if simulator.scenario.latency.noise > 0:
        raise ScenarioError(
            f"latency.noise is {simulator.scenario.latency.noise}, but a bound needs iteration "
            "times that are certain: set it to 0"
        )
    start, end = simulator.window
    rows = demands_of(simulator)
    fleet = fleet_of(simulator, rows, fixed_roles)
    limit_to_machines(rows, fleet, end)
    baseline = simulator.result().baseline
    before = float(baseline.benefit.sum()) if baseline else 0.0
    market = _Market(simulator, rows, fleet, num_buckets)
    seconds = end - start
    trivial = market.value(np.zeros(market.shape))
    best, prices, history = market.descend(num_steps, trivial)
    return Bound(
        bound=(best - before) / seconds,
        trivial=(trivial - before) / seconds,
        prices=prices.sum(axis=2),
        bucket=float(market.grid["bucket"]),
        history=(history - before) / seconds,
    )


class _Market:
    """The dual function over prices, (buckets, pools, charges), and shares of iterations."""

    def __init__(
        self, simulator: Simulator, rows: np.ndarray, fleet: Fleet, num_buckets: int
    ) -> None:
        state, end = simulator.state, simulator.window[1]
        now = min(simulator.now, end)
        self.rows, self.rules = rows, fleet.rules
        self.grid = np.zeros(1, GRID)[0]
        self.grid["begin"] = now
        self.grid["bucket"] = max(end - now, 1e-6) / num_buckets
        self.grid["buckets"] = num_buckets
        self.cluster = state.cluster[0]
        longest = int(rows["tokens"].max(initial=0)) + 1
        self.groups = np.zeros(longest, GROUP)
        self.machines, self.serves = fleet.machines, fleet.serves
        self.shape = (num_buckets, len(fleet.sizes), self.rules.shape[1])
        self.usage = np.zeros((*self.shape[:2], 5))
        self.used = np.zeros((len(rows), num_buckets))
        self.shares = self.equal_shares()
        self.capacity = np.tile(fleet.sizes * self.grid["bucket"], (num_buckets, 1))
        busy = state.instances["busy"] > 0
        elapsed = float((now - state.instances["start"])[busy].sum())
        self.capacity[0] += max(elapsed, 0.0)

    def value(self, prices: Floats) -> float:
        """The bound on the sum of benefits under these prices; leaves what is used in `usage`."""
        per_unit = np.empty((*self.shape[:2], 5))
        per_unit[..., :4] = np.einsum("kgv,gvc->kgc", prices, self.rules)
        per_unit[..., 4] = prices.sum(axis=2)
        floors = np.minimum.accumulate(per_unit[::-1], axis=0)[::-1]
        floors = np.concatenate([floors, floors[-1:]])
        market = (self.machines, per_unit, self.serves, floors)
        use = (self.shares, self.usage, self.used)
        gained = best_plans(self.rows, self.groups, market, *use, self.cluster, self.grid)
        return float(gained + (prices.sum(axis=2) * self.capacity).sum())

    def slope(self) -> Floats:
        """The subgradient where `value` was last computed."""
        charged = np.einsum("kgc,gvc->kgv", self.usage[..., :4], self.rules)
        return self.capacity[..., None] - charged - self.usage[..., 4:]

    def equal_shares(self) -> Floats:
        """Of an iteration, for all requests that can have arrived by then, (requests, buckets)."""
        ends = self.grid["begin"] + self.grid["bucket"] * np.arange(1, self.shape[0] + 1)
        here = (self.rows["start"][:, None] < ends) & (self.rows["tokens"] > 0)[:, None]
        return here / np.maximum(here.sum(axis=0), 1)

    def share_anew(self, rate: float) -> None:
        """Shift the shares of iterations to the requests that use more of them than others."""
        most = np.maximum(self.used.max(axis=0, initial=0.0), 1e-12)
        self.shares *= np.exp(rate * (self.used / most - 1.0))
        self.shares /= np.maximum(self.shares.sum(axis=0), 1e-300)

    def descend(self, num_steps: int, trivial: float) -> tuple[float, Floats, Floats]:
        """Search for prices with a low bound, by Adam's steps along the subgradient.

        Returns:
            the lowest value, its prices, and the values along the way.
        """
        scale = max(float((self.rows["weight"] * self.rows["tokens"]).sum()), 1e-9)
        scale /= float(self.capacity.sum())
        best, prices, history = trivial, np.zeros(self.shape), [trivial]
        for rule in range(self.shape[2]):
            before = np.inf
            for factor in START:
                tried = np.zeros(self.shape)
                tried[..., rule] = scale * factor
                value = self.value(tried)
                history.append(value)
                if value < best:
                    best, prices = value, tried
                if value > before:
                    break  # the bound is convex in the factor
                before = value
        current = prices.copy()
        scale = max(scale, 2 * float(current.sum(axis=2).max()))
        mean, square = np.zeros(self.shape), np.zeros(self.shape)
        for step in range(1, num_steps + 1):
            self.grid["blur"] = BLUR * (1 - step / num_steps)
            value = self.value(current)
            history.append(value)
            if value < best:
                best, prices = value, current.copy()
            slope = self.slope()
            self.share_anew(SHIFT * (1 - step / num_steps))
            mean = 0.8 * mean + 0.2 * slope
            square = 0.95 * square + 0.05 * slope * slope
            root = np.sqrt(square / (1 - 0.95**step)) + 1e-12
            rate = RATE * scale * (1 - 0.95 * step / num_steps)
            current = np.maximum(current - rate * mean / (1 - 0.8**step) / root, 0.0)
        return best, prices, np.array(history)
