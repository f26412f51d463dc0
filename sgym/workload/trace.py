"""Reading a trace: raw columns become one clean table and a report of what was left out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgym.errors import TraceError
from sgym.workload.formats import read_raw
from sgym.workload.given import MAX_TENANT
from sgym.workload.prefixes import Prefixes, chained, fitting_block, misfits
from sgym.workload.raw import BLOCKS, EXTRA, Raw

if TYPE_CHECKING:
    import pandas as pd

MAX_TOKENS = 2**31 - 1
MAX_STAMP = 1e19  # of any unit: nanoseconds since 1970 are 1.7e18
PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
FORMAT_UNITS = {"azure": "datetime", "mooncake": "ms"}  # all others: seconds, or dates
STEP_QUANTILE = 0.05  # of the gaps between different stamps: robust against a few odd ones


@dataclass(frozen=True, slots=True)
class TraceReport:
    """What was read."""

    name: str  # of the file
    format: str
    time_unit: str  # s, ms, us, ns, datetime; none = no time stamps
    rows: int  # in the file
    kept: int
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> rows
    clipped: int = 0  # outputs of 0 tokens that count as 1
    inversions: int = 0  # rows stamped before the row above them
    ties: int = 0  # rows stamped like the row above them
    duration: float = float("nan")  # seconds from the first to the last kept row
    hash_block: int = 0  # prompt tokens per entry of hash_ids; 0 = the rows have none
    hashes_cut: int = (
        0  # rows with more hash_ids than their prompt has blocks: the last are ignored
    )
    hashes_short: int = 0  # rows with fewer than it has full blocks: the rest of it shares nothing
    note: str = ""

    def __str__(self) -> str:
        """One line for people."""
        parts = [f"{self.name} ({self.format}): {self.kept} of {self.rows} rows"]
        if self.dropped:
            parts.append("dropped " + ", ".join(f"{n} {why}" for why, n in self.dropped.items()))
        if self.clipped:
            parts.append(f"{self.clipped} empty outputs count as 1 token")
        if self.time_unit == "none":
            parts.append("no time stamps")
        else:
            parts.append(f"{self.duration:.6g} s, {self.ties} equal time stamps")
        if self.inversions:
            parts.append(f"{self.inversions} out of order")
        for rows, what in ((self.hashes_cut, "many"), (self.hashes_short, "few")):
            if rows:
                parts.append(
                    f"{rows} with too {what} hash_ids for their prompt in blocks of "
                    f"{self.hash_block} tokens"
                )
        if self.note:
            parts.append(self.note)
        return "; ".join(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A trace as one table.

    `table` has the columns arrival (float64, seconds from the first row of the file, NaN without
    time stamps), prompt and output (int64, tokens) and, where the source has them, priority and
    tenant (int64), user_class (str), session_id and hash_ids (as in the source, ragpulse's as
    blocks); sorted by arrival.
    `step` is the resolution of the time stamps in seconds: rows with equal stamps came anywhere
    within it. `prefixes` is what hash_ids say that prompts share, row for row.
    """

    table: "pd.DataFrame"
    report: TraceReport
    step: float
    prefixes: Prefixes | None


def read_trace(
    path: str | Path,
    format: str = "auto",  # noqa: A002  (the name that scenarios use)
    *,
    time_unit: str = "auto",
    zero_output: str = "drop",
    hash_block: int | None = None,
) -> Trace:
    """Read a trace file, plain or gzipped.

    Args:
        path: the file.
        format: one of `formats()`; auto = by header or first object.
        time_unit: auto = the format's own; or s, ms, us, ns, datetime.
        zero_output: what to do with rows without output: drop, clip1 (count as one token) or flag
            (refuse the file).
        hash_block: prompt tokens per entry of hash_ids; None = the format's own, or another
            power of 2 if that alone fits most rows.

    Raises:
        TraceError: the format or unit is unknown, a row is broken (the message names its line), or
            no row is left.
    """
    path = Path(path)
    if not path.is_file():
        raise TraceError(f"no trace file {str(path)!r}")
    units = ("auto", *PER_SECOND, "datetime")
    if time_unit not in units:
        raise TraceError(f"time_unit must be one of {', '.join(units)}, got {time_unit!r}")
    raw = read_raw(path, format)
    frame, dropped = raw.frame, {why: n for why, n in raw.dropped.items() if n}
    rows = len(frame) + sum(dropped.values())
    for column in ("prompt", "output"):
        frame[column] = _tokens(frame, column, path.name)
    unit = _seconds(raw, path.name, time_unit)
    clipped = _handle_zeros(frame, zero_output, path.name)

    reasons = {
        "without time stamp": frame["arrival"].isna() & (unit != "none"),
        "without prompt": frame["prompt"] == 0,
        "without output": frame["output"] == 0,
    }
    for why, rule in reasons.items():
        hit = rule.reindex(frame.index)
        if hit.any():
            dropped[why] = int(hit.sum())
            frame = frame[~hit]
    if frame.empty:
        why = ", ".join(f"{n} {reason}" for reason, n in dropped.items()) or "it has no rows"
        raise TraceError(f"{path.name}: nothing is left of {rows} rows ({why})")

    gaps = np.diff(frame["arrival"].to_numpy())
    frame = frame.sort_values("arrival", kind="stable", ignore_index=True)
    arrival = frame["arrival"].to_numpy()
    extras = [name for name in EXTRA if name in frame]
    table = _extras(frame[["line", "arrival", "prompt", "output", *extras]], path.name)
    prefixes, misfit = _prefixes(table, raw.format, hash_block, path.name)
    report = TraceReport(
        name=path.name,
        format=raw.format,
        time_unit=unit,
        rows=rows,
        kept=len(frame),
        dropped=dropped,
        clipped=clipped,
        inversions=int(np.count_nonzero(gaps < 0)),
        ties=int(np.count_nonzero(np.diff(arrival) == 0)),
        duration=float(arrival[-1] - arrival[0]),
        hash_block=0 if prefixes is None else prefixes.block,
        hashes_cut=misfit[0],
        hashes_short=misfit[1],
        note=raw.note,
    )
    return Trace(table.drop(columns="line"), report, _step(arrival), prefixes)


def _prefixes(
    table: Any, kind: str, hash_block: int | None, name: str
) -> tuple[Prefixes | None, tuple[int, int]]:
    """What the rows share, and how many have too many and too few hash ids."""
    usual = BLOCKS.get(kind, 0)
    if "hash_ids" not in table or not usual:
        return None, (0, 0)
    ids = table["hash_ids"]
    wrong = ids.notna() & ~ids.map(lambda value: isinstance(value, list))
    _broken(table, wrong, "hash_ids", "a list of whole numbers", name)
    lists, prompt = ids.tolist(), table["prompt"].to_numpy()
    if kind != "ragpulse":  # whose blocks are our own
        usual = hash_block or fitting_block(lists, prompt, usual)
    try:
        return chained(lists, prompt, usual), misfits(lists, prompt, usual)
    except TraceError as error:
        raise TraceError(f"{name}: {error}") from None


def _broken(frame: Any, wrong: Any, column: str, rule: str, name: str) -> None:
    """Raise for the first row where `wrong`; nothing if there is none."""
    if wrong.any():
        row = int(np.argmax(wrong))
        value = frame[column].iloc[row]
        value = value.item() if isinstance(value, np.generic) else value
        raise TraceError(
            f"{name}: line {frame['line'].iloc[row]} has {column} {value!r}, must be {rule} "
            f"({int(wrong.sum())} such rows)"
        )


def _numbers(values: Any) -> Any:
    """Numbers, also those in strings; NaN for everything else, true and false included."""
    import pandas as pd

    if values.dtype in (object, bool):
        values = values.map(
            lambda value: (
                value
                if isinstance(value, (int, float, str)) and not isinstance(value, bool)
                else None
            )
        )
    return pd.to_numeric(values, errors="coerce")


def _tokens(frame: Any, column: str, name: str) -> Any:
    values = _numbers(frame[column]).astype(np.float64)
    wrong = ~values.between(0, MAX_TOKENS) | (values != np.floor(values))
    _broken(frame, wrong, column, "a whole number of tokens, at least 0", name)
    return values.astype(np.int64)


def _seconds(raw: Raw, name: str, time_unit: str) -> str:
    """Replace `arrival` by seconds from the first row; the unit that was found."""
    import pandas as pd

    frame = raw.frame
    if "arrival" not in frame or frame["arrival"].isna().all():
        frame["arrival"] = np.nan
        return "none"
    given = frame["arrival"].notna()
    numbers = _numbers(frame["arrival"])
    unit = time_unit if time_unit != "auto" else _unit(raw.format, numbers[given])
    if unit == "datetime":
        text = frame["arrival"].astype("string")
        stamps = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
        _broken(frame, given & stamps.isna(), "arrival", "an ISO date and time", name)
        frame["arrival"] = (stamps - stamps.min()) / pd.Timedelta(seconds=1)
        return unit
    sane = numbers.astype(np.float64).abs() <= MAX_STAMP
    _broken(frame, given & ~sane, "arrival", f"a number ({unit}) of at most {MAX_STAMP:g}", name)
    frame["arrival"] = (numbers - numbers.min()).astype(np.float64) / PER_SECOND[unit]
    return unit


def _unit(kind: str, numbers: Any) -> str:
    """The usual unit of a format.

    Mooncake's own files have whole milliseconds, so a file of its shape with fractions is in
    seconds.
    """
    unit = FORMAT_UNITS.get(kind, "datetime" if numbers.isna().all() else "s")
    return "s" if unit == "ms" and (numbers % 1 != 0).any() else unit


def _handle_zeros(frame: Any, zero_output: str, name: str) -> int:
    """Apply `zero_output` except drop; the number of outputs that now count as 1."""
    empty = frame["output"] == 0
    if zero_output == "flag":
        _broken(frame, empty, "output", "at least 1 token (zero_output is flag)", name)
    if zero_output != "clip1":
        return 0
    frame.loc[empty, "output"] = 1
    return int(empty.sum())


def _step(arrival: np.ndarray) -> float:
    stamps = np.unique(arrival)
    return float(np.quantile(np.diff(stamps), STEP_QUANTILE)) if len(stamps) > 1 else 0.0


def _extras(table: Any, name: str) -> Any:
    """Types of the optional columns; columns without any value are left out."""
    table = table.drop(
        columns=[extra for extra in EXTRA if extra in table and table[extra].isna().all()]
    )
    if "priority" in table:
        values = _numbers(table["priority"])
        inside = values.between(-MAX_TOKENS - 1, MAX_TOKENS)
        wrong = ~inside | (values % 1 != 0)
        _broken(table, wrong, "priority", "a whole number of 32 bits", name)
        table["priority"] = values.astype(np.int64)
    if "tenant" in table:
        table["tenant"] = _codes(table["tenant"])
    if "user_class" in table:
        if table["user_class"].isna().any():
            raise TraceError(f"{name}: user_class is blank in some rows; fill it or leave it out")
        table["user_class"] = table["user_class"].astype(str)
    return table


def _codes(values: Any) -> np.ndarray:
    """Tenants as whole numbers from 0: small ones as they are, others in order of appearance."""
    import pandas as pd

    numbers = _numbers(values)
    if numbers.between(0, MAX_TENANT).all() and (numbers % 1 == 0).all():
        return numbers.to_numpy(np.int64)
    return pd.factorize(values.astype(str))[0].astype(np.int64)
