"""The rows of an EngineView, kept current from what happens to vLLM's requests."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sgym.export.reader import ReaderClock
from sgym.export.slo import Slo
from sgym.export.view import REQUEST_ROW, matrix_of

FIRST_ROWS = 256
_AT = {name: place for place, name in enumerate(REQUEST_ROW.names or ())}
_TOLD = [_AT[name] for name in ("generated", "due", "lateness")]
_SEEN = [_AT[name] for name in ("computed", "blocks", "preemptions", "prefilling")]


class Rows:
    """One row for each unfinished request, with its reader's clock.

    Args:
        from_first_token: deadlines count from the first token, not from the arrival.
        clamp: lateness is at least 0.
    """

    def __init__(self, from_first_token: bool = False, clamp: bool = True) -> None:
        self._from_first_token, self._clamp = from_first_token, clamp
        self._table = np.zeros(FIRST_ROWS, REQUEST_ROW)
        self._free = list(range(FIRST_ROWS))[::-1]
        self._place: dict[str, int] = {}
        self._readers: dict[str, ReaderClock] = {}
        self._ran: list[Any] = []  # requests that ran at the last look

    def __len__(self) -> int:
        """Requests that are known."""
        return len(self._place)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._place

    def known(self) -> list[str]:
        """request_ids."""
        return list(self._place)

    def add(self, request: Any, arrival: float, slo: Slo, predicted: float = math.nan) -> float:
        """A request has arrived.

        Args:
            request: vLLM's.
            arrival: seconds, on the engine's clock.
            slo: of its reader.
            predicted: tokens of its output; NaN = no prediction.

        Returns:
            Seconds; when its first token is due.
        """
        reader = ReaderClock(
            arrival,
            request.num_prompt_tokens,
            slo.token_time,
            slo.first_delay,
            from_first_token=self._from_first_token,
            clamp=self._clamp,
        )
        if not self._free:
            self._grow()
        place = self._free.pop()
        self._place[request.request_id] = place
        self._readers[request.request_id] = reader
        row = self._table[place]
        row["arrival"], row["prompt"] = arrival, request.num_prompt_tokens
        row["due"], row["lateness"] = reader.due, reader.lateness
        row["token_time"], row["weight"] = slo.token_time, slo.weight
        row["alpha"] = slo.alpha * slo.weight
        row["priority"], row["predicted"] = request.priority, predicted
        for name in ("generated", "computed", "blocks", "preemptions", "prefilling"):
            row[name] = 0.0
        return reader.due

    def _grow(self) -> None:
        count = len(self._table)
        self._table = np.concatenate([self._table, np.zeros(count, REQUEST_ROW)])
        self._free = list(range(count, 2 * count))[::-1]

    def forget(self, request_id: str) -> None:
        """A request has finished, or was aborted."""
        place = self._place.pop(request_id, None)
        if place is not None:
            del self._readers[request_id]
            self._free.append(place)

    def deliver(self, tokens: Iterable[tuple[str, int]], now: float) -> None:
        """Tokens have reached their readers.

        Args:
            tokens: request_id and number of new tokens.
            now: seconds.
        """
        places: list[int] = []
        told: list[tuple[float, float, float]] = []
        for request_id, count in tokens:
            reader = self._readers.get(request_id)
            if reader is not None:
                reader.deliver(now, count)
                places.append(self._place[request_id])
                told.append((reader.generated, reader.due, reader.lateness))
        if places:
            matrix_of(self._table)[np.array(places)[:, None], _TOLD] = told

    def gather(self, running: Sequence[Any], waiting: Sequence[Any], kv_manager: Any) -> np.ndarray:
        """REQUEST_ROW (num_rows,) of the running requests, then of the waiting ones.

        Args:
            running: vLLM's requests.
            waiting: same.
            kv_manager: vLLM's KVCacheManager, which knows the blocks that they hold.
        """
        here = {request.request_id for request in running}
        left = [r for r in self._ran if r.request_id not in here and r.request_id in self._place]
        self._look(running, kv_manager, True)
        self._look(left, kv_manager, False)
        self._ran = list(running)
        place = self._place
        order = [place[request.request_id] for request in (*running, *waiting)]
        return self._table[np.array(order, np.intp)]

    def _look(self, requests: Sequence[Any], kv_manager: Any, run: bool) -> None:
        """Bring up to date what a batch changes; of a waiting request nothing of it changes."""
        if not requests:
            return
        seen = [
            (
                min(request.num_computed_tokens, request.num_tokens),
                blocks_of(kv_manager, request.request_id),
                request.num_preemptions,
                run and request.is_prefill_chunk,
            )
            for request in requests
        ]
        places = np.array([self._place[request.request_id] for request in requests])
        matrix_of(self._table)[places[:, None], _SEEN] = seen


def blocks_of(kv_manager: Any, request_id: str) -> int:
    """KV blocks that a request holds; with several kinds of attention, the most of one kind."""
    return max((len(group) for group in kv_manager.get_blocks(request_id).blocks), default=0)
