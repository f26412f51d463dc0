"""What `knobs` and `index` say: an order of all requests, a reservation, limits.

The same numbers as the kernels of `sgym.envs.orderings`, bit for bit, for all rows at once.
"""

from collections.abc import Sequence

import numpy as np

from sgym.export.features import RequestFeatures
from sgym.export.view import EngineSteering, EngineView, matrix_of

FIRST = 1e6  # score before anything is taken off: scored requests stand ahead of later arrivals
TOKENS = 512.0  # of prompt that weigh as much as a second
PREFILL_TIME = 1e-4  # seconds per prompt token
ORDERINGS = ("fcfs", "spf", "edf", "llf", "slack-victim")
LIMITS = ("open", "closed", "gentle")
RESERVATION_OF = {"spf": 0.2}
"""Ordering that `index` starts from -> its reservation, where it has one."""


def ordered(rows: np.ndarray, ordering: str, aging: float) -> tuple[np.ndarray, np.ndarray]:
    """Waiting and running scores of all rows under an ordering.

    Args:
        rows: REQUEST_ROW (n,).
        ordering: one of ORDERINGS.
        aging: tokens per second, of spf.
    """
    if ordering in ("fcfs", "spf"):
        running = np.zeros(len(rows))
    else:
        running = rows["due"]
        if ordering != "edf":
            running = running + np.maximum(rows["lateness"], 0.0)
    if ordering == "spf":
        behind = (rows["prompt"] + aging * rows["arrival"]) / TOKENS
    elif ordering == "edf":
        behind = running
    elif ordering == "llf":
        behind = running - PREFILL_TIME * (rows["prompt"] + rows["generated"])
    else:
        behind = rows["arrival"]
    waiting = FIRST - np.minimum(behind, FIRST - 1.0)
    if ordering not in ("fcfs", "spf"):
        running = FIRST - np.minimum(running, FIRST - 1.0)
    return waiting, running


def expected_blocks(view: EngineView, expected_output: float) -> float:
    """KV blocks that the running requests are expected to ask for still."""
    generated = view.rows["generated"][: view.num_running]
    tokens = float(np.maximum(expected_output - generated, 0.0).sum())
    return tokens / view.limits.block_size


def mask_of_knobs(names: Sequence[str], view: EngineView) -> np.ndarray:
    """Which of the named knobs apply; bool (number of them,)."""
    refused = [] if view.num_running > 0 else ["closed"]
    refused += [] if view.limits.chunked_prefill else ["gentle"]
    return np.array([name.rpartition("+")[2] not in refused for name in names])


def turn(view: EngineView, name: str, expected_output: float, aging: float) -> EngineSteering:
    """The Steering of an action of `knobs`, one that applies.

    Args:
        view: of the engine.
        name: ordering, reservation and limit, such as spf+0.2+open.
        expected_output: tokens.
        aging: tokens per second, of spf.
    """
    ordering, share, limit = name.rsplit("+", 2)
    waiting, running = ordered(view.rows, ordering, aging)
    most = view.limits.max_num_batched_tokens
    steering = EngineSteering(
        waiting, running, np.zeros(len(waiting), np.bool_), most, view.limits.max_num_seqs
    )
    reservation = float(share)
    if reservation > 0.0:
        steering.reserve = int(reservation * expected_blocks(view, expected_output))
    if limit == "closed":
        steering.active_cap = view.num_running
    elif limit == "gentle":
        steering.token_budget = max(1, most // 4)
        steering.chunk_cap = max(1, most // 8)
    return steering


class Index:
    """What `index` does with its weights and four numbers.

    Args:
        features: of a request.
        base: the ordering that it starts from.
        gain: that a weight of 1 stands for.
        expected_output: tokens.
        aging: tokens per second, of spf.
    """

    def __init__(
        self,
        features: RequestFeatures,
        base: str,
        gain: float,
        expected_output: float,
        aging: float,
    ) -> None:
        self._features, self._base, self._gain = features, base, gain
        self._expected_output, self._aging = expected_output, aging
        self._product = np.zeros((features.width, 2))

    def decide(self, view: EngineView, action: np.ndarray) -> EngineSteering:
        """The Steering of an action, float64 (2 * number of features + 4,)."""
        width, count = self._features.width, len(view.rows)
        waiting, running = ordered(view.rows, self._base, self._aging)
        seen = self._features(matrix_of(view.rows), view.num_running, view)
        extra = self._gain * self._weighted(seen, view.num_running, action, width)
        waiting += extra
        running += extra
        steering = EngineSteering(
            waiting,
            running,
            np.zeros(count, np.bool_),
            view.limits.max_num_batched_tokens,
            view.limits.max_num_seqs,
        )
        self._limit(steering, view, action[2 * width :].tolist())
        return steering

    def _weighted(
        self, seen: np.ndarray, num_running: int, action: np.ndarray, width: int
    ) -> np.ndarray:
        """Weights times features of each row; added feature after feature, as the kernel does."""
        count = seen.shape[1]
        if count > self._product.shape[1]:
            self._product = np.zeros((width, 2 * count + 16))
        product = self._product[:, :count]
        head, tail = slice(0, num_running), slice(num_running, count)
        np.multiply(seen[:, head], action[width : 2 * width, None], out=product[:, head])
        np.multiply(seen[:, tail], action[:width, None], out=product[:, tail])
        several = max(count, 2)  # numpy adds a single column up in another order
        return np.add.reduce(self._product[:, :several], axis=0)[:count]

    def _limit(self, steering: EngineSteering, view: EngineView, knobs: list[float]) -> None:
        limits = view.limits
        most = limits.max_num_batched_tokens
        share = RESERVATION_OF.get(self._base, 0.0) + 0.5 * knobs[0]
        share = min(max(share, 0.0), 1.0)
        if share > 0.0:
            steering.reserve = int(share * expected_blocks(view, self._expected_output))
        if knobs[1] < 0.0 and limits.chunked_prefill:
            steering.token_budget = max(1, int(most * 2.0 ** (4.0 * knobs[1])))
        if knobs[2] < 0.0:
            steering.active_cap = max(1, int(limits.max_num_seqs * 2.0 ** (6.0 * knobs[2])))
        if knobs[3] < 0.0 and limits.chunked_prefill:
            steering.chunk_cap = max(1, int(most * 2.0 ** (4.0 * knobs[3])))
