"""Requests that a caller has as a table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgym.core.layout import ARRIVAL
from sgym.errors import TraceError
from sgym.workload.prefixes import Requests, chained, unshared, with_prefixes
from sgym.workload.raw import BLOCKS

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("arrival", "prompt", "output")
MAX_TENANT = 2**20 - 1  # policies keep a record for every number up to the largest
OPTIONAL = {"predicted": np.nan, "priority": 0, "tenant": 0, "user_class": 0}  # column -> default


def from_table(
    table: "Requests | pd.DataFrame | np.ndarray | Sequence[Mapping[str, Any]]",
    hash_block: int | None = None,
) -> Requests:
    """Requests from a DataFrame, a structured array or a list of dicts.

    Args:
        table: columns arrival (seconds), prompt and output (tokens); optional are predicted
            (tokens, NaN = none), priority (lower first), tenant, user_class (index into
            slo.classes) and hash_ids (list of numbers or strings; equal ids from the first one on
            = prompts that begin alike). Other columns are ignored. Requests are taken as they are.
        hash_block: prompt tokens per entry of hash_ids; None = 512, as Mooncake's.

    Returns:
        Requests, sorted by arrival; rows that arrive together keep their order.

    Raises:
        TraceError: a column is missing, or a value is not allowed; names row and rule.
    """
    if isinstance(table, Requests):
        return table
    import pandas as pd

    try:
        frame: Any = table if isinstance(table, pd.DataFrame) else pd.DataFrame(table)
    except ValueError:
        raise TraceError(
            "arrivals must be a DataFrame, a structured array or a list of dicts, got "
            f"{type(table).__name__} {table!r:.80}"
        ) from None
    known = (*REQUIRED, *OPTIONAL)
    missing = [name for name in REQUIRED if name not in frame]
    if missing:
        raise TraceError(
            f"the table of requests lacks {', '.join(missing)}; it has "
            f"{', '.join(map(str, frame.columns)) or 'no columns'}, known are "
            f"{', '.join((*known, 'hash_ids'))}"
        )
    requests = np.zeros(len(frame), ARRIVAL)
    for name in known:
        requests[name] = _column(frame, name) if name in frame else OPTIONAL[name]
    order = np.argsort(requests["arrival"], kind="stable")
    if "hash_ids" not in frame:
        return unshared(requests[order])
    block = hash_block or BLOCKS["mooncake"]
    lists = _hash_ids(frame, block)
    prefixes = chained([lists[row] for row in order], requests["prompt"][order], block)
    return with_prefixes(requests[order], prefixes, np.arange(len(order)))


def _hash_ids(frame: Any, block: int) -> list[Any]:
    """The checked lists of hash ids, None for none."""
    lists: list[Any] = []
    for row, (ids, prompt) in enumerate(zip(frame["hash_ids"], frame["prompt"], strict=True)):
        if ids is None or isinstance(ids, float):  # pandas' NaN
            lists.append(None)
            continue
        if not isinstance(ids, list | tuple | np.ndarray):
            rule = "a list of whole numbers or strings"
        elif len(ids) > -(-int(prompt) // block):
            rule = f"at most one entry per {block} tokens of its prompt (workload.hash_block)"
        else:
            lists.append(list(ids))
            continue
        raise TraceError(
            f"row {row} of the table of requests has hash_ids {ids!r:.80}, must be {rule}"
        )
    return lists


def _column(frame: Any, name: str) -> np.ndarray:
    """The checked values of a column; float64 (n,)."""
    import pandas as pd

    values = np.asarray(pd.to_numeric(frame[name], errors="coerce"), np.float64)
    if name == "arrival":
        wrong, rule = ~(np.isfinite(values) & (values >= 0)), "seconds, at least 0"
    elif name == "predicted":
        blank = frame[name].isna().to_numpy()
        wrong, rule = ~(blank | (values >= 1)), "at least 1 token, or NaN for none"
    else:
        lowest = {"prompt": 1, "output": 1, "priority": -(2**31)}.get(name, 0)
        highest = MAX_TENANT if name == "tenant" else 2**31 - 1
        inside = (values >= lowest) & (values <= highest) & (values == np.floor(values))
        wrong, rule = ~inside, f"a whole number from {lowest} to {highest}"
    if wrong.any():
        row = int(np.argmax(wrong))
        raise TraceError(
            f"row {row} of the table of requests has {name} {frame[name].iloc[row]!r}, "
            f"must be {rule}"
        )
    return values
