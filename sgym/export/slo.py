"""What a client says of its reader: the service level that comes with a request.

A client of vLLM's OpenAI server sends it as `vllm_xargs`, one of the library as
`SamplingParams(extra_args=...)`:

    {"token_time": 0.05, "first_delay": 1.0, "alpha": 2.5, "weight": 4.0}

What it leaves out is as the server's defaults say; so is what is no number in range, with a warning
in the log, because a client's mistake must not stop a server.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Slo:
    """Service level of one request; the defaults are those of a scenario's `slo.classes`.

    Attributes:
        token_time: V, seconds in which the reader reads a token; above 0.
        first_delay: D0, seconds granted before the first token; at least 0.
        alpha: tokens of benefit lost per second of idle latency; at least 0.
        weight: worth of one of its tokens; above 0.
    """

    token_time: float = 0.2
    first_delay: float = 0.0
    alpha: float = 2.5
    weight: float = 1.0


POSITIVE = ("token_time", "weight")
NAMES = tuple(field.name for field in fields(Slo))


def slo_of(extra_args: Mapping[str, Any] | None, default: Slo) -> Slo:
    """The service level of a request.

    Args:
        extra_args: of its SamplingParams.
        default: what it does not say.
    """
    if not extra_args:
        return default
    values = {name: getattr(default, name) for name in NAMES}
    for name in NAMES:
        if extra_args.get(name) is None:
            continue
        given = _number(extra_args[name])
        if given is not None and (given > 0.0 or (given == 0.0 and name not in POSITIVE)):
            values[name] = given
        else:
            _warn(name, repr(extra_args[name])[:40], values[name])
    return Slo(**values)


@lru_cache(maxsize=256)  # a client that repeats its mistake is told of once
def _warn(name: str, given: str, default: float) -> None:
    rule = "above 0" if name in POSITIVE else "of at least 0"
    log.warning("%s is %s, must be a number %s: taken as %g", name, given, rule, default)


def _number(given: Any) -> float | None:
    """A finite number, also one written as text; else None."""
    if isinstance(given, bool):
        return None
    try:
        number = float(given)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
