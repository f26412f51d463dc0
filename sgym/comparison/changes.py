"""What a comparison changes in its scenario, in words and as the name of a folder."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRACE = "workload.trace"
SAID = ("name", "episode.duration")
"""Overrides that a title says anyway."""
LONGEST = 100  # characters of a folder's name
DIGEST = 8  # of them, where a name is cut


def changes(overrides: Mapping[str, Any]) -> list[str]:
    """Overrides for a title, such as `engine.num_gpu_blocks=4001`."""
    return [
        f"trace {Path(value).name}"
        if key == TRACE and isinstance(value, str)
        else f"{key}={_text(value)}"
        for key, value in sorted(overrides.items())
        if key not in SAID
    ]


def folder_name(scenario: str, overrides: Mapping[str, Any]) -> str:
    """A folder for each scenario and set of overrides, wherever the names would lead as paths.

    Args:
        scenario: its name.
        overrides: dotted names to values; their order does not matter.

    Returns:
        Such as `llama8b-a100-azure-num_gpu_blocks_4001`: sections are left out.
    """
    parts = [
        scenario.strip(". ") or "unnamed",
        *(_part(key, value) for key, value in sorted(overrides.items())),
    ]
    name = "-".join(re.sub(r"[^\w.+-]+", "_", part) for part in parts)
    if len(name) > LONGEST:
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGEST]
        name = f"{name[: LONGEST - DIGEST - 1]}-{digest}"
    return name


def _part(key: str, value: Any) -> str:
    if key == TRACE and isinstance(value, str):
        return value.strip("./")
    return f"{key.partition('.')[2] or key}_{_text(value)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str).removesuffix(".0")
