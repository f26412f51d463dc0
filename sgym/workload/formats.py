"""Formats of public traces: how each is recognised and turned into one frame of raw columns.

A raw frame has the columns `line` (for messages), `prompt`, `output`, where known `arrival` (as written
in the file) and any of EXTRA. Units, zeros and order are the business of `trace`.
"""

import gzip
import json
import math
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from sgym.errors import TraceError

if TYPE_CHECKING:
    import pandas as pd

EXTRA = ("priority", "tenant", "user_class", "session_id", "hash_ids")
CHARS_PER_TOKEN = 4  # of English text, for lengths without a tokenizer
BAILIAN_BLOCK = 16  # tokens per entry of hash_ids

Columns = Mapping[str, tuple[str, ...]]

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

FORMATS: dict[str, str] = {
    "azure": "Azure LLM and LMM inference CSV: TIMESTAMP,ContextTokens,GeneratedTokens",
    "burstgpt": "BurstGPT CSV (v1 to v3): Timestamp,Model,Request tokens,Response tokens, ...",
    "splitwise": "Splitwise CSV: arrival_timestamp,prompt_size,token_size, ...",
    "vidur": "Vidur or Sarathi CSV: [arrived_at],num_prefill_tokens,num_decode_tokens",
    "csv": "any CSV with prompt,output and maybe arrival,priority,tenant,user_class,session_id",
    "mooncake": "Mooncake JSON lines: timestamp (ms), input_length, output_length, [hash_ids]",
    "bailian": "Qwen-Bailian JSON lines: chat_id, parent_chat_id, timestamp (s), input_length, ...",
    "ragpulse": "RAGPulse JSON lines: timestamp (s), input_length, output_length, session_id, ...",
    "vllm": "result of `vllm bench serve --save-detailed`: input_lens, output_lens, [start_times]",
    "sharegpt": "ShareGPT JSON: conversations of {from, value, [tokens]}; 4 characters are a token",
}

UNITS = {"azure": "datetime", "mooncake": "ms"}  # all others: seconds, or date strings


@dataclass(slots=True)
class Raw:
    """What a format's reader returns."""

    format: str
    frame: "pd.DataFrame"
    dropped: dict[str, int] = field(default_factory=dict)  # rows left out, by reason


def formats() -> dict[str, str]:
    """Formats that can be read: name -> one line that says how to recognise it."""
    return dict(FORMATS)


def read_raw(path: Path, format: str = "auto") -> Raw:
    """Read a file in a named format, or in the one that its header or first object shows."""
    if format != "auto" and format not in FORMATS:
        raise TraceError(f"no trace format {format!r}; known: auto, {', '.join(FORMATS)}")
    try:
        with open_text(path) as file:
            start = file.read(1 << 16).lstrip()
        if not start:
            raise TraceError(f"{path.name} is empty")
        if start[0] in "[{" and format not in CSV:
            return _read_json(path, format)
        return _read_csv(path, format, start.splitlines()[0])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TraceError(f"{path.name} cannot be read as text: {error}") from None


def open_text(path: Path) -> IO[str]:
    """Open plain or gzipped UTF-8 text, whatever the file is called."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    opener = cast(Callable[..., IO[str]], gzip.open if zipped else open)
    return opener(path, "rt", encoding="utf-8-sig", newline=None)


def _unknown(path: Path, seen: str) -> TraceError:
    known = "\n".join(f"  {name}: {text}" for name, text in FORMATS.items())
    return TraceError(f"{path.name} has no known trace format ({seen}). Known formats:\n{known}")


# --- CSV -----------------------------------------------------------------------------------------


def _read_csv(path: Path, format: str, header: str) -> Raw:
    import pandas as pd

    names = [name.strip().strip('"').lower() for name in header.split(",")]
    if format == "auto":
        found = [kind for kind, columns in CSV.items() if not _missing(columns, names)]
        if not found:
            raise _unknown(path, f"it starts with {header[:80]!r}")
        format = found[0]
    elif format not in CSV:
        raise TraceError(f"{path.name} is no JSON, so it is not in format {format!r}")
    missing = _missing(CSV[format], names)
    if missing:
        raise TraceError(
            f"{path.name} lacks {missing} of format {format!r}; its header is {header[:120]!r}"
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
    for column, aliases in CSV[format].items():
        source = next((name for name in aliases if name in names), None)
        if source is not None:
            frame[column] = table[source]
    return Raw(format, frame[table.notna().any(axis=1)].reset_index(drop=True))


def _missing(columns: Columns, names: list[str]) -> str:
    """The first required column without a name in the header; empty if none."""
    for column in ("prompt", "output"):
        if not set(columns[column]) & set(names):
            return " or ".join(columns[column])
    return ""


# --- JSON ----------------------------------------------------------------------------------------


def _read_json(path: Path, format: str) -> Raw:
    with open_text(path) as file:
        items = _objects(file.read(), path.name)
    first = items[0][1]
    if format == "auto":
        format = _json_format(first)
        if not format:
            seen = sorted(first) if isinstance(first, dict) else type(first).__name__
            raise _unknown(path, f"its first object has {seen}")
    if format == "vllm":
        return _read_vllm(path, items)
    if format == "sharegpt":
        return _read_sharegpt(path, items)
    return _read_lines(path, format, items)


def _objects(text: str, name: str) -> list[tuple[int, Any]]:
    """All JSON values of a file with their line: one array, values line by line, or pretty-printed."""
    decoder, items, position, line = json.JSONDecoder(), list[tuple[int, Any]](), 0, 1
    while True:
        start = position
        while start < len(text) and text[start] in " \t\r\n":
            start += 1
        line += text.count("\n", position, start)
        if start == len(text):
            break
        try:
            value, position = decoder.raw_decode(text, start)
        except ValueError as error:
            raise TraceError(f"{name}: line {line} is no valid JSON: {error}") from None
        items.append((line, value))
        line += text.count("\n", start, position)
    if len(items) == 1 and isinstance(items[0][1], list):
        items = [(number, value) for number, value in enumerate(items[0][1], start=1)]
        if not items:
            raise TraceError(f"{name} holds an empty list")
    return items


def _json_format(item: Any) -> str:
    """Name of the format of a file that starts with this object; empty if unknown."""
    if not isinstance(item, dict):
        return ""
    if "input_lens" in item and "output_lens" in item:
        return "vllm"
    if "conversations" in item:
        return "sharegpt"
    if "input_length" not in item or "output_length" not in item:
        return ""
    blocks = item.get("hash_ids")
    if isinstance(blocks, dict):
        return "ragpulse"
    small = isinstance(blocks, list) and isinstance(item.get("timestamp"), float)
    if "chat_id" in item or (
        small and len(blocks) == math.ceil(item["input_length"] / BAILIAN_BLOCK)
    ):
        return "bailian"
    return "mooncake"


def _read_lines(path: Path, format: str, items: list[tuple[int, Any]]) -> Raw:
    """Mooncake and its relatives: one object per request."""
    import pandas as pd

    for line, item in items:
        if not isinstance(item, dict) or not {"input_length", "output_length"} <= item.keys():
            raise TraceError(f"{path.name}: line {line} lacks input_length or output_length")
    columns: dict[str, list[Any]] = {
        "line": [line for line, _ in items],
        "arrival": [item.get("timestamp") for _, item in items],
        "prompt": [item["input_length"] for _, item in items],
        "output": [item["output_length"] for _, item in items],
    }
    for extra in EXTRA:
        if any(extra in item for _, item in items):
            columns[extra] = [item.get(extra) for _, item in items]
    if format == "bailian":
        columns["session_id"] = _conversations([item for _, item in items])
    return Raw(format, pd.DataFrame(columns))


def _conversations(items: list[dict[str, Any]]) -> list[Any]:
    """The first chat of each request's conversation: follow-ups name their parent."""
    roots: dict[Any, Any] = {}
    for item in items:
        chat, parent = item.get("chat_id"), item.get("parent_chat_id", -1)
        roots[chat] = chat if parent == -1 else roots.get(parent, parent)
    return [roots[item.get("chat_id")] for item in items]


def _read_vllm(path: Path, items: list[tuple[int, Any]]) -> Raw:
    import pandas as pd

    if len(items) > 1:
        raise TraceError(f"{path.name} holds {len(items)} benchmark results: keep one")
    result = items[0][1]
    prompt, output = result.get("input_lens"), result.get("output_lens")
    if not isinstance(prompt, list) or not isinstance(output, list) or len(prompt) != len(output):
        raise TraceError(
            f"{path.name} lacks input_lens and output_lens of equal length: run `vllm bench serve` "
            "with --save-result --save-detailed"
        )
    columns: dict[str, list[Any]] = {
        "line": list(range(1, len(prompt) + 1)),
        "prompt": prompt,
        "output": output,
    }
    starts, errors = result.get("start_times"), result.get("errors")
    if isinstance(starts, list) and len(starts) == len(prompt):
        columns["arrival"] = starts
    frame = pd.DataFrame(columns)
    if not isinstance(errors, list) or len(errors) != len(prompt):
        return Raw("vllm", frame)
    failed = pd.Series([bool(error) for error in errors], dtype=bool)
    kept = frame[~failed].reset_index(drop=True)
    return Raw("vllm", kept, {"failed": int(failed.sum())})


def _read_sharegpt(path: Path, items: list[tuple[int, Any]]) -> Raw:
    """First question and first answer of every conversation."""
    import pandas as pd

    rows: list[tuple[int, int, int]] = []
    short = 0
    for line, item in items:
        turns = item.get("conversations") if isinstance(item, dict) else None
        if not isinstance(turns, list):
            raise TraceError(f"{path.name}: item {line} has no list of conversations")
        if len(turns) < 2:
            short += 1
            continue
        rows.append((line, _turn_tokens(turns[0]), _turn_tokens(turns[1])))
    frame = pd.DataFrame(rows, columns=["line", "prompt", "output"])
    return Raw("sharegpt", frame, {"one_turn": short})


def _turn_tokens(turn: Any) -> int:
    """Given `tokens`, else an estimate from the length of the text."""
    if isinstance(turn, dict) and isinstance(turn.get("tokens"), int):
        return turn["tokens"]
    text = turn.get("value") if isinstance(turn, dict) else None
    return math.ceil(len(text) / CHARS_PER_TOKEN) if isinstance(text, str) else 0
