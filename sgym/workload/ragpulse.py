"""RAGPulse: prompts put together from parts of known length, turned into blocks.

`hash_ids` of its trace is an object of lists (system prompt, passages, history, web search, user
input), in the order in which they stand in the prompt. The lengths of the parts are in the files
`1_sys_prompt.jsonl` to `5_web_search.jsonl` beside the trace, one object of an id and its tokens
per line. A passage is in the KV cache only if all before it is the same too, so a part counts
with everything before it. Source: github.com/flashserve/RAGPulse (arXiv 2511.12979).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgym.errors import TraceError
from sgym.workload.raw import BLOCKS, open_text

LENGTHS = "[1-5]_*.jsonl*"  # files beside the trace
WITHOUT_LENGTHS = (
    "hash_ids are not used, as the files of their lengths (1_sys_prompt.jsonl to "
    "5_web_search.jsonl) are not beside the trace"
)


def part_lengths(path: Path) -> dict[Any, int]:
    """Tokens of each part, from the files beside the trace; empty if there are none."""
    lengths: dict[Any, int] = {}
    for file in sorted(path.parent.glob(LENGTHS)):
        if file == path:
            continue
        with open_text(file) as text:
            for number, line in enumerate(text, start=1):
                if line.strip():
                    part, tokens = _entry(line, f"{file.name}: line {number}")
                    lengths[part] = tokens
    return lengths


def _entry(line: str, place: str) -> tuple[Any, int]:
    try:
        part, tokens = json.loads(line).values()
        return part, int(tokens)
    except (ValueError, TypeError, AttributeError):
        raise TraceError(f"{place} is no object of an id and its tokens") from None


def blocks_of_parts(rows: Sequence[Any], lengths: dict[Any, int]) -> list[list[int] | None]:
    """For each row, a number per full block of its known parts.

    The number stands for the part that holds the block's last token and all parts before it. A
    part of unknown length ends the list.
    """
    beginnings: dict[tuple[int, Any], int] = {}
    return [_blocks(row, lengths, beginnings) for row in rows]


def _blocks(
    row: Any, lengths: dict[Any, int], beginnings: dict[tuple[int, Any], int]
) -> list[int] | None:
    if not isinstance(row, dict):
        return None
    ends, numbers, end, number = list[int](), list[int](), 0, -1
    for part in (part for parts in row.values() if isinstance(parts, list) for part in parts):
        if not isinstance(part, int | str) or part not in lengths:
            break
        end += lengths[part]
        number = beginnings.setdefault((number, part), len(beginnings))
        ends.append(end)
        numbers.append(number)
    size = BLOCKS["ragpulse"]
    last_tokens = np.arange(size, end + 1, size)
    return [numbers[place] for place in np.searchsorted(ends, last_tokens)]
