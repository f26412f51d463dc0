"""The findings in words: every number comes from the tables."""

from collections.abc import Mapping

import pandas as pd
from crosstab import leads
from effects import READERS, TBT
from settings import MAIN, TRACE
from tables import FEW, MANY
from words import holds, listed, markdown, names, range_of, spans, windows

TINY = 1e-6  # tokens: gains below are rounding
NOBODY = 0.001  # share of requests on time below which there is nothing to compare
FULL = 0.999  # attainment above which there is nothing to improve


def findings(tables: Mapping[str, pd.DataFrame]) -> str:
    """All findings and the cross table, as Markdown."""
    peaks = tables["peaks"]
    head = (
        "Written by `run.py` from its tables. Intervals are 95 %, over seeds or pairs of seeds. In "
        f"a run of the sweep the engine refused at most {peaks['refused'].max():.0f} requests."
    )
    lines = ["# What was found", "", head]
    for horizon, part in peaks.groupby("horizon", sort=False):
        lines.append(
            f"Windows of {horizon:g} s that start empty: {part['seeds'].iloc[0]} seeds, "
            f"{len(part)} combinations of model, workload and engine."
        )
    if TRACE not in set(peaks["workload"]):
        lines.append("The real trace was not there ($SGYM_DATA), so its rows are left out.")
    for paragraphs in (
        one_peak(peaks),
        larger_alpha(tables["alphas"]),
        chunks(tables["chunks"]),
        throughput(peaks),
        output_delay(tables["effects"]),
        abandonment(tables["effects"]),
        leads(tables["cross"], tables["beside"], tables["policies"]),
    ):
        lines += ["", *paragraphs]
    return "\n".join(lines) + "\n"


def told(claim: str, verdict: str, text: str, *tables: list[str]) -> list[str]:
    """One finding."""
    lines = [f"**{claim}** {verdict}", "", text]
    for table in tables:
        lines += ["", *table]
    return lines


def one_peak(peaks: pd.DataFrame) -> list[str]:
    """Finding (a)."""
    held = peaks["interior"] & (peaks["rise_low"] > 0) & (peaks["fall_low"] > 0)
    held &= peaks["wrong_steps"] == 0
    text = (
        "It holds where the highest mean is at neither end, a seed earns more at the peak that "
        "the others choose than at the lowest and at the highest rate, and no step between "
        "neighbouring rates goes the wrong way (intervals exclude 0; for steps all together). "
        f"Not so: {listed(windows(peaks[~held], 'engine'))}."
    )
    part = peaks[peaks["engine"] == MAIN]
    columns = {
        "peak at (requests/s)": spans(part, "peak_rate", ".3g"),
        "peak (tokens/s)": spans(part, "peak"),
        "more than at the lowest rate": spans(part, "rise"),
        "more than at the highest": spans(part, "fall"),
    }
    return told(
        "(a) Smooth goodput over the request rate has one interior peak.",
        holds(held, "combinations"),
        text,
        markdown(f"engine: {MAIN}", windows(part), columns),
    )


def larger_alpha(alphas: pd.DataFrame) -> list[str]:
    """Finding (b)."""
    most, part = alphas[alphas["alpha"] == MANY], alphas[alphas["engine"] == MAIN]
    held = most["shift_high"] < 0
    text = (
        f"From alpha {FEW:g} to {MANY:g} the peak moves by {range_of(most['shift'])} %. "
        f"Its interval does not lie below 0 in: {listed(windows(most[~held], 'engine'))}."
    )
    of_each = dict(iter(part.groupby("alpha")))
    columns = {
        f"alpha {alpha:g}": spans(rows, "peak_rate", ".3g") for alpha, rows in of_each.items()
    }
    return told(
        "(b) A larger alpha moves the peak to a lower rate.",
        holds(held, "combinations"),
        text,
        markdown(f"peak (requests/s), engine: {MAIN}", windows(of_each[MANY]), columns),
    )


def chunks(table: pd.DataFrame) -> list[str]:
    """Finding (c)."""
    main, small = table[table["engine"] == MAIN], table[table["engine"] != MAIN]
    held = main["shift_low"] > 0
    text = (
        f"With 2,048 tokens per iteration the peak moves by {range_of(main['shift'])} % in rate, "
        f"and by {range_of(main['gain'])} % in smooth goodput. "
        f"It does not surely move up for: {listed(windows(main[~held]))}. "
        f"With 512 tokens it moves up in {int((small['shift_low'] > 0).sum())} and down in "
        f"{int((small['shift_high'] < 0).sum())} of {len(small)}."
    )
    columns = {
        "peak moves by (%)": spans(table, "shift", "+.1f"),
        "peak gains (%)": spans(table, "gain", "+.1f"),
    }
    return told(
        "(c) Chunked prefill moves the peak to a higher rate than prefill-first.",
        holds(held, "pairs"),
        text,
        markdown("against prefill-first", windows(table, "engine"), columns),
    )


def throughput(peaks: pd.DataFrame) -> list[str]:
    """Finding (d)."""
    held = (peaks["tokens_beyond_low"] > -1.0) & (peaks["smooth_beyond_high"] < 0)
    text = (
        "From the peak of smooth goodput to the highest rate throughput changes by "
        f"{range_of(peaks['tokens_beyond'], '+.1f')} %, smooth goodput by "
        f"{range_of(peaks['smooth_beyond'])} %. It holds where throughput does not fall by 1 % "
        "or more there, and smooth goodput falls. "
        f"Not so: {listed(windows(peaks[~held], 'engine'))}."
    )
    part = peaks[peaks["engine"] == MAIN]
    columns = {
        "smooth goodput peaks at": [f"{rate:.3g}" for rate in part["peak_rate"]],
        "throughput is highest at": [f"{rate:.3g}" for rate in part["tokens_rate"]],
        "of rates up to": [f"{rate:.3g}" for rate in part["highest_rate"]],
        "throughput beyond the peak (%)": spans(part, "tokens_beyond", "+.1f"),
        "smooth goodput beyond it (%)": spans(part, "smooth_beyond", "+.0f"),
    }
    return told(
        "(d) Throughput does not reveal the peak.",
        holds(held, "combinations"),
        text,
        markdown(f"engine: {MAIN}", windows(part), columns),
    )


def output_delay(table: pd.DataFrame) -> list[str]:
    """Finding (e)."""
    better = pd.concat([table[f"delayed_tbt {name} gain_low"] > 0 for name in TBT])
    full = pd.concat([table[f"tbt {name}"] > FULL for name in TBT])
    best = max(table[f"delay_best {reader} {name}"].max() for name in TBT for reader in READERS)
    unsent = {
        reader: pd.concat(
            [table[f"delay_tokens {name}"] / table[f"delay_change {reader} {name}"] for name in TBT]
        )
        for reader in READERS
    }
    shares = " and ".join(
        f"{range_of(100 * share, '.0f')} % ({reader} reader)" for reader, share in unsent.items()
    )
    text = (
        "Tokens are held back until a threshold after the one before. In "
        f"{int((full & ~better).sum())} of the other cases attainment was above {100 * FULL:g} % "
        f"before. Over all requests of all runs the largest gain is {_gain(best)} tokens. Of what "
        f"is lost, tokens that had not been sent when the window ends are {shares}."
    )
    part, lines = table[table["load"] == 1.0], []
    for name in TBT:
        columns = {
            f"TBT below {name} (%)": spans(part, f"tbt {name}", ".0f", 100),
            "held back, more (points)": spans(part, f"delayed_tbt {name} gain", "+.1f", 100),
        } | {
            f"smooth goodput, {reader} reader": spans(part, f"delay_change {reader} {name}", "+.0f")
            for reader in READERS
        }
        corner = f"held for {name}, at the nominal rate"
        lines.append(markdown(corner, names(part, "engine"), columns))
    return told(
        "(e) Delaying output improves TBT attainment and never raises smooth goodput, other "
        "requests' token times unchanged.",
        f"The second half {_always(best)}, the first holds in {int(better.sum())} of "
        f"{len(better)} cases.",
        text,
        *lines,
    )


def _gain(tokens: float) -> str:
    return "0" if tokens <= TINY else f"{tokens:.2g}"


def _always(best: float) -> str:
    return "holds always" if best <= TINY else "does NOT hold always"


def abandonment(table: pd.DataFrame) -> list[str]:
    """Finding (f)."""

    def of_all(column: str) -> pd.Series:
        return pd.concat([table[column.replace("*", reader)] for reader in READERS])

    best = of_all("drop_best *").max()
    changed = max(
        (of_all(f"dropped_{name} *") - of_all(f"{name} *")).abs().max()
        for name in ("attainment", "goodput")
    )
    better = (of_all("system_attainment * gain_low") > 0) & (
        of_all("system_goodput * gain_low") > 0
    )
    falls = (of_all("system_smooth_goodput * gain_high") < 0).sum()
    rises = (of_all("system_smooth_goodput * gain_low") > 0).sum()
    nobody = (of_all("system_attainment *") < NOBODY).sum()
    text = (
        "Each request ends at the first deadline that it misses. With the others unchanged "
        f"attainment and goodput change by {changed:.2g}, as a request that has missed counts "
        f"0 whatever comes after, and the largest gain of a request is {_gain(best)} tokens. "
        f"Where the engine drops them, smooth goodput falls in {falls} and rises in {rises} of "
        f"{len(better)}; in {nobody} nobody is on time then either. By equation 9 read literally, "
        "over delivered tokens alone, a request gains up to "
        f"{of_all('literal_best *').max():.0f} tokens by being dropped, and smooth goodput as a "
        f"whole rises in {(of_all('literal_change *_low') > 0).sum()}."
    )
    part, lines = table[table["engine"] == MAIN], []
    for reader in READERS:
        columns = {
            "attainment (%)": spans(part, f"attainment {reader}", ".1f", 100),
            "more (points)": spans(part, f"system_attainment {reader} gain", "+.1f", 100),
            "goodput": spans(part, f"goodput {reader}"),
            "more": spans(part, f"system_goodput {reader} gain", "+.0f"),
            "smooth goodput": spans(part, f"smooth_goodput {reader}"),
            "others unchanged: more": spans(part, f"drop_change {reader}", "+.0f"),
            "by the engine: more": spans(part, f"system_smooth_goodput {reader} gain", "+.0f"),
        }
        corner = f"{reader} reader, engine: {MAIN}, times nominal rate"
        lines.append(markdown(corner, names(part, "load"), columns))
    return told(
        "(f) Dropping missed requests improves attainment and goodput and never raises smooth "
        "goodput, other requests' token times unchanged.",
        f"The second half {_always(best)}; the first holds only by what is freed, in "
        f"{int(better.sum())} of {len(better)} cases.",
        text,
        *lines,
    )
