"""The metric of the slow simulator, from its definitions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from oracle_parts import Request

NEVER = math.inf


@dataclass(frozen=True)
class Metric:
    """How lateness is counted and what it costs."""

    penalty: str = "identity"  # or capped, quadratic
    penalty_cap: float = 10.0  # seconds
    scale_by_tokens: bool = False
    from_first_token: bool = False
    clamp: bool = True

    def f(self, lateness: float) -> float:
        if lateness == -NEVER:  # nothing is due yet
            return 0.0
        if self.penalty == "capped":
            return min(lateness, self.penalty_cap)
        return lateness * abs(lateness) if self.penalty == "quadratic" else lateness

    def due(self, request: Request, number: int, now: float) -> float:
        """Seconds: when token `number` (1, 2, ...) is due, as far as `now` tells."""
        if not self.from_first_token:
            return request.arrival + request.first_delay + request.token_time * number
        if not request.tokens or request.tokens[0] > now:
            return NEVER
        return request.tokens[0] + request.token_time * (number - 1)

    def lateness(self, request: Request, now: float) -> float:
        """A(now) in seconds: worst lateness of the delivered tokens and of the one awaited."""
        delivered = [time for time in request.tokens if time <= now]
        late = [time - self.due(request, i + 1, now) for i, time in enumerate(delivered)]
        if not delivered or len(delivered) < request.final:
            late.append(now - self.due(request, len(delivered) + 1, now))
        return max(0.0, *late) if self.clamp else max(late)

    def benefit(self, request: Request, now: float) -> float:
        tokens = sum(time <= now for time in request.tokens)
        scale = tokens if self.scale_by_tokens else 1
        lost = request.alpha * self.f(self.lateness(request, now)) * scale
        return request.weight * (tokens - lost)

    def total(self, requests: Sequence[Request], now: float) -> float:
        """B(now): the benefit of all requests that have arrived."""
        return sum(self.benefit(r, now) for r in requests if r.arrival <= now)
