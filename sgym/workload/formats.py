"""Which format a trace file has."""

import zlib
from pathlib import Path

from sgym.errors import TraceError
from sgym.workload.csv_formats import CSV, read_csv
from sgym.workload.json_formats import read_json
from sgym.workload.raw import FORMATS, Raw, open_text

START = 1 << 16  # characters that must show the format


def formats() -> dict[str, str]:
    """Formats that can be read: name -> one line that says how to recognise it."""
    return dict(FORMATS)


def read_raw(path: Path, kind: str = "auto") -> Raw:
    """Read a file in a named format, or in the one that its header or first object shows."""
    if kind != "auto" and kind not in FORMATS:
        raise TraceError(f"no trace format {kind!r}; known: auto, {', '.join(FORMATS)}")
    try:
        with open_text(path) as file:
            start = file.read(START).lstrip()
        if not start:
            raise TraceError(f"{path.name} is empty")
        if start[0] in "[{" and kind not in CSV:
            return read_json(path, kind)
        return read_csv(path, kind, start.splitlines()[0])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TraceError(f"{path.name} cannot be read as text: {error}") from None
