"""The simulations behind an environment, one or many, each in its own episode."""

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from gymnasium import spaces

from sgym._jit import addresses
from sgym.core.layout import DONE, FULL
from sgym.envs import decode, fleet, loop
from sgym.envs.desk import Desk
from sgym.envs.features import TABLES
from sgym.envs.plan import Plan
from sgym.envs.start import fresh_desk, restarted
from sgym.errors import PolicyError, SgymError
from sgym.simulator import Simulator


class Lanes:
    """A fleet, and the simulations and desks that it points to.

    Args:
        plan: what all lanes have in common.
        count: how many there are.
        threads: how many share the work of a step; results do not depend on it.
        overwrite: whether an episode is written over the last one of its lane, as
            `Simulator.overwrites` says.
    """

    def __init__(self, plan: Plan, count: int, threads: int = 1, overwrite: bool = False) -> None:
        self.plan, self.count = plan, count
        self.simulators: list[Simulator] = [copy.copy(plan.simulator) for _ in range(count)]
        for simulator in self.simulators:
            simulator.overwrites = overwrite
        self.desks: list[Desk] = [self._fresh_desk(plan.simulator) for _ in range(count)]
        self.fleet = fleet.fresh_fleet(
            plan.simulator.state,
            self.desks[0],
            count,
            {table: int(np.prod(plan.boxes[table].shape)) for table in TABLES},
            int(np.prod(plan.action_space.shape or (1,))),
            plan.layout.mask_length,
        )
        space = plan.action_space
        choices = [space.n] if isinstance(space, spaces.Discrete) else getattr(space, "nvec", [])
        self._choices = np.array(choices, np.int64)  # of each number of an action
        bounds = np.linspace(0, count, min(threads, count) + 1).astype(int)
        self._shards = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
        self._pool = ThreadPoolExecutor(len(self._shards)) if len(self._shards) > 1 else None
        for first, end in self._shards:  # what is used again by the next lane stays in near caches
            for k in range(first, end):
                self.desks[k] = self.desks[k].sharing_work(self.desks[first])

    def _fresh_desk(self, simulator: Simulator) -> Desk:
        plan = self.plan
        return fresh_desk(simulator, plan.options, plan.layout, plan.columns, plan.prefill_times)

    def begin(self, k: int, seed: int) -> None:
        """Give lane `k` the task to begin an episode that serves the workload of this seed."""
        controls, simulator = self.plan.options.controls, self.simulators[k]
        simulator.reset(seed, "route" in controls, "handoff" in controls)
        self.desks[k] = restarted(self.desks[k], simulator)
        self._point(k)
        self.fleet.lanes["task"][k] = fleet.BEGIN

    def _point(self, k: int) -> None:
        self.fleet.states[k] = addresses([self.simulators[k].state])[0]
        self.fleet.desks[k] = addresses([self.desks[k]])[0]

    def run(self) -> bool:
        """Do the tasks of all lanes; returns whether some are over now."""
        if not self._run():
            return False
        lanes = self.fleet.lanes
        while (full := np.flatnonzero(lanes["decision"] == FULL)).size:
            for k in full.tolist():
                self.simulators[k].enlarge()
                self._point(k)
            self._run()
        return bool(self.over.any())

    def _run(self) -> int:
        if self._pool is None:
            return int(loop.run(self.fleet, 0, self.count))
        parts = [self._pool.submit(loop.run, self.fleet, *shard) for shard in self._shards]
        return sum(int(part.result()) for part in parts)

    @property
    def over(self) -> np.ndarray:
        """Whether the episode of each lane is over; bool (N,)."""
        return self.fleet.lanes["decision"] == DONE

    def take(self, action: Any, given: Sequence[int]) -> None:
        """Write the actions that lanes are to carry out.

        Args:
            action: of shape `given`, or of as many entries where it is Discrete.
            given: the shape.

        Raises:
            PolicyError: an action does not lie in the action space.
        """
        space, taken = self.plan.action_space, self.fleet.actions
        try:
            array = np.asarray(action)
            if array.dtype.kind != "i":
                array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise no_action(space, action) from None
        discrete = isinstance(space, spaces.Discrete)
        if array.shape != tuple(given) and not (discrete and array.size == self.count):
            raise no_action(space, action, given)
        array = array.reshape(taken.shape)
        if isinstance(space, spaces.Box):
            np.clip(array, -1.0, 1.0, out=taken, casting="unsafe")
            fine = not np.isnan(taken).any()
        else:
            with np.errstate(invalid="ignore"):  # NaN becomes a number that is not equal to it
                whole = np.ascontiguousarray(array, np.int64)
            fine = whole is array or bool((whole == array).all())
            fine = fine and decode.accept(whole, self._choices, taken)
        if not fine:
            raise no_action(space, action)

    def action_masks(self) -> np.ndarray:
        """Valid choices of each lane; bool (N, entries of the flat mask), factor after factor.

        Raises:
            SgymError: Box actions have no masks.
        """
        masks = self.fleet.masks
        if not masks.size:
            raise SgymError(f"action={self.plan.layout.action!r} is a Box, which has no masks")
        return masks.astype(np.bool_)

    def metrics(self, k: int) -> dict[str, float]:
        """What the `info` of the last step of lane `k` says of its episode."""
        columns = self.simulators[k].result().headline
        return {name: columns[name] for name in self.plan.final}

    def snapshot(self, k: int) -> tuple[Any, ...]:
        """A copy of everything of lane `k` that changes."""
        return self.simulators[k].snapshot(), self.desks[k].copied()

    def restore(self, k: int, snapshot: tuple[Any, ...]) -> None:
        """Return lane `k` to a snapshot, which stays usable; its task is to show what is there."""
        simulation, desk = snapshot
        self.simulators[k].restore(simulation)
        self.desks[k] = desk.copied().sharing_work(self.desks[k])
        self._point(k)
        self.fleet.lanes["task"][k] = fleet.SHOW

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()

    def __getstate__(self) -> dict[str, Any]:
        """Threads and addresses are not copied: a copy has its own."""
        return {**self.__dict__, "_pool": None, "fleet": tuple(self.fleet)[2:]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        states = addresses([simulator.state for simulator in self.simulators])
        self.fleet = fleet.Fleet(states, addresses(self.desks), *state["fleet"])
        if len(self._shards) > 1:
            self._pool = ThreadPoolExecutor(len(self._shards))


def no_action(space: spaces.Space[Any], action: Any, given: Sequence[int] = ()) -> PolicyError:
    """What is wrong with an action."""
    shape = f", for {given[0]} lanes an array of shape {tuple(given)}" if len(given) > 1 else ""
    return PolicyError(f"the action must lie in {space}{shape}, got {action!r}")
