"""CSV formats: columns are found by name, whatever their order and case."""

import difflib
import warnings
from collections.abc import Mapping
from pathlib import Path

from sgym.errors import TraceError
from sgym.workload.raw import EXTRA, Raw, open_text, unknown

Columns = Mapping[str, tuple[str, ...]]

SIMILAR = 0.8  # of 1: a column as close as this to one that is missing is a misspelling

# column of the raw frame -> names in the header, lower case; `prompt` and `output` are required
CSV: dict[str, Columns] = {
    "azure": {
        "arrival": ("timestamp",),
        "prompt": ("contexttokens",),
        "output": ("generatedtokens",),
    },
    "burstgpt": {
        "arrival": ("timestamp",),
        "prompt": ("request tokens",),
        "output": ("response tokens",),
        "session_id": ("session id",),
    },
    "splitwise": {
        "arrival": ("arrival_timestamp",),
        "prompt": ("prompt_size",),
        "output": ("token_size",),
    },
    "vidur": {
        "arrival": ("arrived_at", "arrival_time"),
        "prompt": ("num_prefill_tokens",),
        "output": ("num_decode_tokens",),
    },
    "csv": {
        "arrival": ("arrival", "arrived_at", "arrived_at_s", "arrival_time", "timestamp", "time"),
        "prompt": (
            *("prompt", "prompt_len", "prompt_length", "prompt_tokens", "num_prompt_tokens"),
            *("input", "input_len", "input_length", "input_tokens"),
        ),
        "output": (
            *("output", "output_len", "output_length", "output_tokens", "num_output_tokens"),
            *("response_tokens", "completion_tokens"),
        ),
        **{name: (name,) for name in EXTRA if name != "hash_ids"},
    },
}


def read_csv(path: Path, kind: str, header: str) -> Raw:
    """Read a CSV file; `header` is its first line."""
    import pandas as pd

    names = [name.strip().strip('"').lower() for name in header.split(",")]
    if kind == "auto":
        found = [name for name, columns in CSV.items() if not _missing(columns, names)]
        if not found:
            for columns in CSV.values():
                typos = _typos(columns, names)
                if not _missing(columns, [typos.get(name, name) for name in names]):
                    _refuse(path, typos)
            raise unknown(path, f"it starts with {header[:80]!r}")
        kind = found[0]
    elif kind not in CSV:
        raise TraceError(f"{path.name} is no JSON, so it is not in format {kind!r}")
    _refuse(path, _typos(CSV[kind], names))
    missing = _missing(CSV[kind], names)
    if missing:
        raise TraceError(
            f"{path.name} lacks {missing} of format {kind!r}; its header is {header[:120]!r}"
        )
    try:
        # Blank lines are kept for now, so that row i is line i + 2.
        with open_text(path) as file, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(file, skip_blank_lines=False, index_col=False, low_memory=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise TraceError(f"{path.name}: {str(error).strip()}") from None
    table.columns = names
    frame = pd.DataFrame({"line": table.index + 2})
    for column, aliases in CSV[kind].items():
        source = next((name for name in aliases if name in names), None)
        if source is not None:
            if names.count(source) > 1:
                raise TraceError(
                    f"{path.name} has {names.count(source)} columns {source!r}: keep one"
                )
            frame[column] = table[source]
    return Raw(kind, frame[table.notna().any(axis=1)].reset_index(drop=True))


def _missing(columns: Columns, names: list[str]) -> str:
    """The first required column without a name in the header; empty if none."""
    for column in ("prompt", "output"):
        if not set(columns[column]) & set(names):
            return " or ".join(columns[column])
    return ""


def _typos(columns: Columns, names: list[str]) -> dict[str, str]:
    """Names in the header that no column has, with the column without a name that is close."""
    known = {name for aliases in columns.values() for name in aliases}
    absent = [
        name for aliases in columns.values() if not set(aliases) & set(names) for name in aliases
    ]
    near = {name: difflib.get_close_matches(name, absent, 1, SIMILAR) for name in names}
    return {name: found[0] for name, found in near.items() if found and name not in known}


def _refuse(path: Path, typos: Mapping[str, str]) -> None:
    for name, meant in typos.items():
        raise TraceError(f"{path.name}: column {name!r} is unknown; did you mean {meant!r}?")
