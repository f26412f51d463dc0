"""JSON formats: one object per request and line, one array, or one result of a benchmark."""

import json
import math
from pathlib import Path
from typing import Any

from sgym.errors import TraceError
from sgym.workload.ragpulse import WITHOUT_LENGTHS, blocks_of_parts, part_lengths
from sgym.workload.raw import BLOCKS, EXTRA, Raw, open_text, unknown

CHARS_PER_TOKEN = 4  # of English text, for lengths without a tokenizer


def read_json(path: Path, kind: str) -> Raw:
    """Read a JSON or JSON lines file."""
    with open_text(path) as file:
        items = _objects(file.read(), path.name)
    first = items[0][1]
    if kind == "auto":
        kind = _json_format(first)
        if not kind:
            seen = sorted(first) if isinstance(first, dict) else type(first).__name__
            raise unknown(path, f"its first object has {seen}")
    if kind == "vllm":
        return _read_vllm(path, items)
    if kind == "sharegpt":
        return _read_sharegpt(path, items)
    return _read_lines(path, kind, items)


def _objects(text: str, name: str) -> list[tuple[int, Any]]:
    """All JSON values of a file with their line: of one array, of JSON lines or pretty-printed."""
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
        except (ValueError, RecursionError) as error:
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
    length = item["input_length"]
    small = (
        isinstance(item.get("timestamp"), float)
        and isinstance(length, int)
        and isinstance(blocks, list)
        and len(blocks) == math.ceil(length / BLOCKS["bailian"])
    )
    return "bailian" if "chat_id" in item or small else "mooncake"


def _read_lines(path: Path, kind: str, items: list[tuple[int, Any]]) -> Raw:
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
    note = ""
    if kind == "bailian":
        columns["session_id"] = _conversations([item for _, item in items])
    if kind == "ragpulse" and "hash_ids" in columns:
        lengths, parts = part_lengths(path), columns.pop("hash_ids")
        if lengths:
            columns["hash_ids"] = blocks_of_parts(parts, lengths)
        else:
            note = WITHOUT_LENGTHS
    return Raw(kind, pd.DataFrame(columns), note=note)


def _conversations(items: list[dict[str, Any]]) -> list[Any]:
    """The first chat of each request's conversation: follow-ups name their parent."""
    roots: dict[str, Any] = {}
    for item in items:
        chat, parent = item.get("chat_id"), item.get("parent_chat_id", -1)
        roots[str(chat)] = chat if parent == -1 else roots.get(str(parent), parent)
    return [roots[str(item.get("chat_id"))] for item in items]


def _read_vllm(path: Path, items: list[tuple[int, Any]]) -> Raw:
    import pandas as pd

    if len(items) > 1:
        raise TraceError(f"{path.name} holds {len(items)} benchmark results: keep one")
    result: dict[str, Any] = items[0][1] if isinstance(items[0][1], dict) else {}
    prompt, output = result.get("input_lens"), result.get("output_lens")
    if not (isinstance(prompt, list) and isinstance(output, list) and len(prompt) == len(output)):
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
