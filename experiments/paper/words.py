"""Numbers with intervals, labels and tables as Markdown."""

from collections.abc import Iterable, Mapping

import pandas as pd
from settings import SHORT


def holds(flags: pd.Series, of: str) -> str:
    """How often something holds."""
    if flags.all():
        return f"Holds in all {len(flags)} {of}."
    return f"Holds in {int(flags.sum())} of {len(flags)} {of}."


def spans(rows: pd.DataFrame, name: str, form: str = ".0f", scale: float = 1.0) -> list[str]:
    """Values with their intervals."""
    return [
        "{} ({} to {})".format(*(_short(scale * value, form) for value in row))
        for row in rows[[name, f"{name}_low", f"{name}_high"]].to_numpy()
    ]


def _short(value: float, form: str) -> str:
    """A number; one decimal more where there would be a single digit."""
    if form.endswith(".0f") and 0 < abs(value) < 9.95:
        form = form.replace(".0f", ".1f")
    return format(value, form)


def range_of(values: pd.Series, form: str = "+.0f") -> str:
    """The least to the largest."""
    least, largest = (format(value, form) for value in (values.min(), values.max()))
    return least if least == largest else f"{least} to {largest}"


def names(rows: pd.DataFrame, *columns: str) -> list[str]:
    """A label per row."""
    return [
        ", ".join([SHORT[model], workload, *(str(value) for value in others)])
        for model, workload, *others in rows[["model", "workload", *columns]].to_numpy()
    ]


def windows(rows: pd.DataFrame, *columns: str) -> list[str]:
    """The same, with the length of the window."""
    return [
        f"{name}, {horizon:g} s"
        for name, horizon in zip(names(rows, *columns), rows["horizon"], strict=True)
    ]


def markdown(corner: str, labels: Iterable[str], columns: Mapping[str, Iterable[str]]) -> list[str]:
    """A table: a line per label."""
    lines = [f"| {corner} | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for label, *cells in zip(labels, *columns.values(), strict=True):
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def listed(labels: list[str]) -> str:
    """Exceptions, if there are some."""
    return "; ".join(labels) or "none"
