"""What the readers of all formats share: the raw frame, opening a file, the list of formats."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from sgym.errors import TraceError

EXTRA = ("priority", "tenant", "user_class", "session_id", "hash_ids")  # optional columns

BLOCKS = {"mooncake": 512, "bailian": 16, "ragpulse": 16}  # prompt tokens per entry of hash_ids

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


@dataclass(slots=True)
class Raw:
    """What a format's reader returns.

    `frame` has the columns line (for messages), prompt and output, where known arrival (as written
    in the file) and any of EXTRA. Units, zeros and order are the business of `trace`.
    """

    format: str
    frame: Any  # pandas.DataFrame, whose inline types are too wide to check
    dropped: dict[str, int] = field(default_factory=dict)  # rows left out, by reason
    note: str = ""  # what else a person should know, for the report


def open_text(path: Path) -> IO[str]:
    """Open plain or gzipped UTF-8 text, whatever the file is called."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    opener = cast(Callable[..., IO[str]], gzip.open if zipped else open)
    return opener(path, "rt", encoding="utf-8-sig", newline=None)


def unknown(path: Path, seen: str) -> TraceError:
    """The error for a file that no reader recognises."""
    known = "\n".join(f"  {name}: {text}" for name, text in FORMATS.items())
    return TraceError(f"{path.name} has no known trace format ({seen}). Known formats:\n{known}")
