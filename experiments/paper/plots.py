"""The figures: one for each finding, and the cross table."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from crosstab import objective_name
from effects import ALPHA, READERS, TBT
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optimise import METRICS, SETTINGS
from settings import ENGINES, MAIN
from tables import ALPHAS
from words import names, windows

Style = dict[str, Any]
STYLES: dict[str, Style] = {
    "prefill-first": {"color": "#D55E00", "ls": "--", "marker": "s"},
    "chunked": {"color": "#000000", "ls": "-", "marker": "o"},
    "chunked-512": {"color": "#0072B2", "ls": "-.", "marker": "^"},
}
"""Okabe and Ito's colours, and a dash and a marker each."""
SHADES = {0.5: "#56B4E9", 1.0: "#0072B2", 2.5: "#000000", 5.0: "#E69F00", 10.0: "#D55E00"}
SHOWN = {
    "throughput_tok_s": {"label": "throughput", "color": "#D55E00", "ls": "--"},
    "smooth_goodput": {"label": "smooth goodput", "color": "#000000", "ls": "-"},
    "goodput_tok_s": {"label": "goodput", "color": "#009E73", "ls": "-."},
    "slo_attainment": {"label": "SLO attainment", "color": "#CC79A7", "ls": ":"},
}
READER_STYLES = {
    "paper": {"color": "#000000", "fmt": "o", "label": "reader: 0.2 s per token"},
    "strict": {"color": "#D55E00", "fmt": "s", "label": "reader: 0.05 s per token after 0.5 s"},
}
VERSIONS = {
    "as served": {"color": "#7F7F7F", "fmt": "o"},
    "those who missed dropped, nobody else changed": {"color": "#E69F00", "fmt": "x"},
    "dropped by the engine, others gain": {"color": "#0072B2", "fmt": "D"},
}


def all_figures(tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, Figure]]:
    """Name and figure of each."""
    curves, peaks, alphas = (
        table[table["horizon"] == table["horizon"].min()]
        for table in (tables["curves"], tables["peaks"], tables["alphas"])
    )
    yield "a_peak", draw_peaks(curves, peaks)
    yield "b_alpha", draw_alphas(curves, alphas)
    yield "c_chunks", draw_chunks(tables["chunks"])
    yield "d_throughput", draw_throughput(curves, peaks)
    yield "e_delay", draw_delay(tables["effects"])
    yield "f_abandonment", draw_abandonment(tables["effects"])
    yield "cross", draw_cross(tables["cross"])


def _of(table: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table


def _grid(table: pd.DataFrame, label: str) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """A panel per model (rows) and workload (columns), by name."""
    models, workloads = list(dict.fromkeys(table["model"])), list(dict.fromkeys(table["workload"]))
    figure = Figure(figsize=(11.0, 2.9 * len(models) + 1.1), layout="constrained")
    axes = figure.subplots(len(models), len(workloads), squeeze=False)
    panels = {}
    for line, model in zip(axes, models, strict=True):
        line[0].set_ylabel(label, fontsize=9)
        for place, workload in zip(line, workloads, strict=True):
            place.set_title(f"{model}, {workload}", fontsize=9)
            place.tick_params(labelsize=8)
            place.axhline(0.0, color="0.75", linewidth=0.7, zorder=0)
            panels[model, workload] = place
    for place in axes[-1]:
        place.set_xlabel("requests per second", fontsize=9)
    return figure, panels


def _finish(figure: Figure, columns: int, title: str) -> Figure:
    """A legend from the first panel, and a title."""
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        lines, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )
    figure.suptitle(title, fontsize=11)
    return figure


def _band(place: Axes, line: pd.DataFrame, column: str, style: Style, scale: float = 1.0) -> None:
    """A curve over the rate with its interval."""
    place.plot(line["rate"], scale * line[column], linewidth=1.4, markersize=3.5, **style)
    low, high = scale * line[f"{column}_low"], scale * line[f"{column}_high"]
    place.fill_between(line["rate"], low, high, color=style["color"], alpha=0.18, linewidth=0)


def _peak(place: Axes, row: pd.Series, height: float, colour: str) -> None:
    """A triangle where the peak is, and its interval, near the bottom of a panel."""
    place.plot([row["peak_rate_low"], row["peak_rate_high"]], [height] * 2, color=colour, lw=3)
    place.plot(row["peak_rate"], height, "^", color=colour, ms=6, mec="white", mew=0.6)


def draw_peaks(curves: pd.DataFrame, peaks: pd.DataFrame) -> Figure:
    """(a): smooth goodput over the rate."""
    figure, panels = _grid(curves, "smooth goodput (tokens/s)")
    for (model, workload), place in panels.items():
        part = _of(curves, model=model, workload=workload)
        top = float(part["smooth_goodput_high"].max())
        for k, engine in enumerate(dict.fromkeys(part["engine"])):
            style = {**STYLES[engine], "label": f"{engine}: {ENGINES[engine]}"}
            _band(place, _of(part, engine=engine), "smooth_goodput", style)
            row = _of(peaks, model=model, workload=workload, engine=engine).iloc[0]
            _peak(place, row, (-0.04 - 0.04 * k) * top, style["color"])
        place.set_ylim(-0.16 * top, 1.08 * top)
    title = (
        f"(a) Smooth goodput has one peak over the request rate (windows of "
        f"{curves['horizon'].iloc[0]:g} s, {curves['seeds'].max()} seeds; "
        "bands, and bars under the peaks: 95 % intervals)"
    )
    return _finish(figure, 3, title)


def draw_alphas(curves: pd.DataFrame, alphas: pd.DataFrame) -> Figure:
    """(b): the same runs under other alphas."""
    curves, alphas = _of(curves, engine=MAIN), _of(alphas, engine=MAIN)
    figure, panels = _grid(curves, "smooth goodput (tokens/s)")
    for (model, workload), place in panels.items():
        part = _of(curves, model=model, workload=workload)
        tokens, measured = part["throughput_tok_s"], part["smooth_goodput"]
        place.plot(part["rate"], tokens, color="0.6", ls=":", lw=1.2, label="0 (throughput)")
        top = float(tokens.max())
        for k, alpha in enumerate(ALPHAS):
            value = tokens - (tokens - measured) * alpha / ALPHA
            place.plot(part["rate"], value, color=SHADES[alpha], lw=1.4, label=f"alpha {alpha:g}")
            row = _of(alphas, model=model, workload=workload, alpha=alpha).iloc[0]
            _peak(place, row, (-0.05 - 0.045 * k) * top, SHADES[alpha])
        place.set_ylim(-0.28 * top, 1.08 * top)
    title = (
        "(b) A larger alpha (tokens per second of idle latency) moves the peak to a lower rate "
        f"(chunked, {curves['seeds'].max()} seeds; bars: 95 % intervals of the peaks)"
    )
    return _finish(figure, 6, title)


def draw_throughput(curves: pd.DataFrame, peaks: pd.DataFrame) -> Figure:
    """(d): every metric relative to its highest value."""
    curves, peaks = _of(curves, engine=MAIN), _of(peaks, engine=MAIN)
    figure, panels = _grid(curves, "% of its highest mean\n(attainment: %)")
    for (model, workload), place in panels.items():
        part = _of(curves, model=model, workload=workload)
        row = _of(peaks, model=model, workload=workload).iloc[0]
        place.axvspan(row["peak_rate_low"], row["peak_rate_high"], color="#FFF3B0", lw=0, zorder=0)
        place.axvline(row["peak_rate"], color="#B8860B", lw=1.0, zorder=0)
        for column, style in SHOWN.items():
            share = column == "slo_attainment"
            scale = 100.0 if share else 100.0 / max(float(part[column].max()), 1e-9)
            _band(place, part, column, style, scale)
        place.set_ylim(-12.0, 118.0)
    title = (
        "(d) Throughput does not reveal the peak of smooth goodput (line, yellow: its 95 % "
        f"interval; chunked, {curves['seeds'].max()} seeds)"
    )
    return _finish(figure, 4, title)


def _beside(labels: list[str], panels: int, height: float) -> tuple[Figure, list[Axes]]:
    """Panels of horizontal intervals with a line per label."""
    figure = Figure(figsize=(12.0, height * len(labels) + 1.9), layout="constrained")
    axes = list(figure.subplots(1, panels, sharey=True))
    for place in axes:
        place.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
        place.grid(axis="x", color="0.92")
        for line in range(1, len(labels), 2):  # so that the eye keeps to its line
            place.axhspan(line - 0.5, line + 0.5, color="0.965", zorder=0)
        place.set_axisbelow(True)
        place.tick_params(labelsize=8)
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    return figure, axes


def _bars(
    place: Axes, rows: pd.DataFrame, name: str, shift: float, style: Style, scale: Any = 1.0
) -> None:
    """Values with intervals, a line per row."""
    value, low, high = (scale * rows[f"{name}{end}"] for end in ("", "_low", "_high"))
    at = np.arange(len(rows)) + shift
    place.errorbar(value, at, xerr=[value - low, high - value], lw=1.3, ms=5, **style)


def draw_chunks(table: pd.DataFrame) -> Figure:
    """(c): where the peak moves, and what it gains."""
    engines = list(dict.fromkeys(table["engine"]))
    figure, axes = _beside(windows(_of(table, engine=engines[0])), 2, 0.42)
    for place, column in zip(axes, ("shift", "gain"), strict=True):
        for k, engine in enumerate(engines):
            look = STYLES[engine]
            style = {"color": look["color"], "fmt": look["marker"]}
            style["label"] = f"{engine}: {ENGINES[engine]}"
            shift = 0.24 * (k - (len(engines) - 1) / 2)
            _bars(place, _of(table, engine=engine), column, shift, style)
    axes[0].set_xlabel("rate of the peak, against prefill-first (%)", fontsize=9)
    axes[1].set_xlabel("smooth goodput at the peak, against prefill-first (%)", fontsize=9)
    title = "(c) What chunked prefill does to the peak (95 % intervals, paired by seed)"
    return _finish(figure, 2, title)


def draw_delay(table: pd.DataFrame) -> Figure:
    """(e): tokens that are held back."""
    part = _of(table, load=1.0)
    figure, axes = _beside(names(part, "engine"), 3, 0.42)
    for place, name in zip(axes, TBT, strict=False):
        style = {"fmt": "o", "color": "#7F7F7F", "label": "tokens sent as they come"}
        _bars(place, part, f"tbt {name}", -0.15, style, 100.0)
        style = {"fmt": "D", "color": "#0072B2", "label": "tokens held back"}
        _bars(place, part, f"delayed_tbt {name}", 0.15, style, 100.0)
        place.set_xlabel(f"requests without a gap above {name} (%)", fontsize=9)
    for shift, reader in zip((-0.15, 0.15), READERS, strict=True):
        scale = 100.0 / part[f"smooth_goodput {reader}"].abs()
        column = f"delay_change {reader} 100 ms"
        _bars(axes[2], part, column, shift, READER_STYLES[reader], scale)
    axes[2].set_xlabel("change of smooth goodput, held for 100 ms (%)", fontsize=9)
    for place in (axes[0], axes[2]):
        place.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False)
    figure.suptitle(
        "(e) Delaying output improves TBT attainment and never raises smooth goodput "
        f"(nominal rate, {part['seeds'].max()} seeds, 95 % intervals)",
        fontsize=11,
    )
    return figure


def draw_abandonment(table: pd.DataFrame) -> Figure:
    """(f): requests that are dropped when they miss a deadline."""
    part = _of(table, engine=MAIN)
    figure, axes = _beside([f"{name} of nominal" for name in names(part, "load")], 3, 0.36)
    share = 100.0 / part["throughput paper"]
    cut = part[["smooth_goodput paper"]].copy()  # its interval is that of the change
    for end in ("", "_low", "_high"):
        cut[f"cut{end}"] = part["smooth_goodput paper"] + part[f"drop_change paper{end}"]
    panels = {
        "attainment": ("SLO attainment (%)", 100.0),
        "goodput": ("goodput (% of the throughput as served)", share),
        "smooth_goodput": ("smooth goodput (% of the throughput as served)", share),
    }
    for place, (name, (title, scale)) in zip(axes, panels.items(), strict=True):
        smooth = name == "smooth_goodput"
        versions = (
            (part, f"{name} paper"),
            (cut, "cut") if smooth else (part, f"dropped_{name} paper"),
            (part, f"system_{name} paper"),
        )
        for k, (label, (rows, column)) in enumerate(zip(VERSIONS, versions, strict=True)):
            style = {**VERSIONS[label], "label": label}
            _bars(place, rows, column, 0.22 * (k - 1), style, scale)
        place.set_xlabel(title, fontsize=9)
    title = (
        "(f) Dropping requests that have missed a deadline "
        f"(chunked, reader: 0.2 s per token, {part['seeds'].max()} seeds, 95 % intervals)"
    )
    return _finish(figure, 3, title)


def draw_cross(table: pd.DataFrame) -> Figure:
    """The cross table: row = optimised for, column = measured by."""
    chosen = list(dict.fromkeys(table["setting"]))
    figure = Figure(figsize=(6.6 * len(chosen) + 0.8, 5.6), layout="constrained")
    axes = figure.subplots(1, len(chosen), squeeze=False)[0]
    for place, setting in zip(axes, chosen, strict=True):
        part = _of(table, setting=setting)
        rows = list(dict.fromkeys(part["objective"]))
        cells = part.assign(row=part["objective"].map(rows.index))
        cells["column"] = cells["metric"].map(list(METRICS).index)
        values = 100 * cells.pivot(index="row", columns="column", values="share").to_numpy()
        place.imshow(values, cmap="viridis", vmin=0.0, vmax=100.0, aspect="auto")
        for _, cell in cells.iterrows():
            share, low, high = (100 * cell[name] for name in ("share", "low", "high"))
            style = {"ha": "center", "va": "center", "color": "black" if share > 65 else "white"}
            bold = "bold" if cell["objective"] == cell["metric"] else "normal"
            at = cell["column"], cell["row"]
            place.text(at[0], at[1] - 0.1, f"{share:.0f}", fontsize=12, fontweight=bold, **style)
            if low < high:
                text = f"{low:.1f} to {high:.1f}"
                place.text(at[0], at[1] + 0.25, text, fontsize=7, **style)
        place.set_xticks(range(len(METRICS)), [n.replace(" ", "\n") for n in METRICS.values()])
        labels = [objective_name(row).replace(": ", ":\n") for row in rows]
        place.set_yticks(range(len(rows)), labels)
        place.tick_params(labelsize=9)
        place.set_xlabel("measured by", fontsize=10)
        place.axhline(len(rows) - 2.5, color="white", lw=3)
        place.set_title(f"{setting.capitalize()}: {SETTINGS[setting]['about']}", fontsize=9)
    axes[0].set_ylabel("optimised for", fontsize=10)
    figure.colorbar(axes[0].images[0], ax=axes, label="% of the best of the column", shrink=0.8)
    figure.suptitle(
        "The same policies tuned for each metric by the same search, on held-out workloads "
        "(small: 95 % intervals; bold: its own metric)",
        fontsize=11,
    )
    return figure
