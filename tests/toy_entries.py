"""An entry of the zoo that takes a moment."""

from typing import Any

from agents.entry import Entry

SHORT = {"episode.duration": 4.0}


def toy_entry(**more: Any) -> Entry:
    """Of the tiny scenario; `more` fields."""
    return Entry(
        about="a toy",
        scenario="tiny",
        overrides=SHORT,
        rates=(9.0, 11.0),
        arguments={"action": "index", "num_slots": 2, "base": "spf"},
        heuristics=("spf",),
        **more,
    )
