"""Policies of few numbers: who goes first is a weighted sum of features, limits follow the load.

A *scorer* turns parameters and what is seen into actions of `index` (and, where instances are
chosen, of `route`). With all parameters 0 it is the base policy of the environment, so a search
starts from the best heuristic. It is linear in the observation, so it exports as one matrix.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sgym.envs.actions import INDEX_KNOBS
from sgym.envs.plan import Plan

CONTEXT = ("waiting", "waiting_tokens", "free", "running", "overdue", "loss")
"""Features of the asking instance and of the cluster on which the limits depend."""

Seen = Mapping[str, np.ndarray]
"""Part of the observation -> float32 (N, numbers)."""


@dataclass(frozen=True)
class Scorer:
    """The shape of a scorer for one kind of environment.

    Attributes:
        requests: names of the features of a request, F.
        instances: of an instance, G.
        cluster: of the cluster.
        num_instances: I.
        schedules: whether it scores requests and sets limits (action="index").
        places: whether it chooses instances.
    """

    requests: tuple[str, ...]
    instances: tuple[str, ...]
    cluster: tuple[str, ...]
    num_instances: int
    schedules: bool
    places: bool

    @classmethod
    def of(cls, plan: Plan) -> "Scorer":
        """The scorer for an environment.

        Raises:
            ValueError: its action is neither `index` nor `route`.
        """
        action = plan.layout.action
        if action not in ("index", "route"):
            raise ValueError(f"a scorer acts by action='index' or 'route', got {action!r}")
        names = {part: tuple(f.name for f in rows) for part, rows in plan.features.items()}
        return cls(
            names["requests"],
            names["instances"],
            names["cluster"],
            len(plan.simulator.state.instances),
            action == "index",
            plan.layout.num_destinations > 0,
        )

    @property
    def context(self) -> tuple[str, ...]:
        """Those of CONTEXT that are seen here."""
        return tuple(name for name in CONTEXT if name in self.instances + self.cluster)

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Name of each group of parameters -> its shape, in order."""
        sizes: dict[str, tuple[int, ...]] = {}
        if self.schedules:
            sizes["waiting"] = (len(self.requests),)
            sizes["running"] = (len(self.requests),)
            sizes["limits"] = (len(INDEX_KNOBS), 1 + len(self.context))
        if self.places:
            sizes["place"] = (len(self.instances),)
        return sizes

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(int(np.prod(shape)) for shape in self.sizes.values())

    def parts(self, parameters: np.ndarray) -> dict[str, np.ndarray]:
        """Parameters (..., size) by group, (..., *shape)."""
        found: dict[str, np.ndarray] = {}
        at = 0
        for name, shape in self.sizes.items():
            count = int(np.prod(shape))
            found[name] = parameters[..., at : at + count].reshape(*parameters.shape[:-1], *shape)
            at += count
        return found

    def act(self, parameters: np.ndarray, seen: Seen, masks: np.ndarray | None) -> np.ndarray:
        """Actions of N environments.

        Args:
            parameters: float (N, size).
            seen: the observation.
            masks: int8 (N, I), for `route`.

        Returns:
            (N, numbers of an `index` action), or int (N,) for `route`.
        """
        parts = self.parts(parameters)
        pieces: list[np.ndarray] = []
        rows = seen["instances"].reshape(len(parameters), self.num_instances, -1)
        if self.schedules:
            context = self._context(rows, seen["cluster"])
            limits = np.einsum("nkc,nc->nk", parts["limits"], context)
            pieces += [parts["waiting"], parts["running"], limits]
        if self.places:
            places = np.einsum("nig,ng->ni", rows, parts["place"])
            if not self.schedules:
                if masks is not None:
                    places = np.where(masks > 0, places, -np.inf)
                return places.argmax(axis=1)
            pieces.append(places / len(self.instances))
        return np.clip(np.concatenate(pieces, axis=1), -1.0, 1.0)

    def _context(self, rows: np.ndarray, cluster: np.ndarray) -> np.ndarray:
        """What limits depend on, after a 1; (N, 1 + number of `context`)."""
        asks = rows[:, :, self.instances.index("asks")]
        asking = np.einsum("ni,nig->ng", asks, rows)
        columns = [np.ones(len(rows))]
        for name in self.context:
            if name in self.instances:
                columns.append(asking[:, self.instances.index(name)])
            else:
                columns.append(cluster[:, self.cluster.index(name)])
        return np.stack(columns, axis=1)
