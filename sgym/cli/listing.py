"""`sgym list`: what there is to choose from."""

from enum import StrEnum
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.table import Table

from sgym import profiles, workload
from sgym.cli.common import console
from sgym.errors import PolicyError
from sgym.export import read_manifest, zoo_bundles
from sgym.loading import PRESETS, builtin_scenarios
from sgym.policies.registry import POLICIES
from sgym.policies.rules import HANDOFFS, ROUTERS


class Kind(StrEnum):
    """What can be listed."""

    SCENARIOS = "scenarios"
    POLICIES = "policies"
    PROFILES = "profiles"
    DATASETS = "datasets"
    ROUTERS = "routers"
    METRICS = "metrics"


def list_all(
    kind: Annotated[Kind | None, typer.Argument(help="Left out: everything, in short.")] = None,
) -> None:
    """List scenarios, policies, latency profiles, datasets of lengths, routers or metrics."""
    screen = console()
    for one in [kind] if kind is not None else list(Kind):
        LISTS[one](screen)


def _table(
    screen: Console, title: str, headings: tuple[str, ...], rows: list[tuple[str, ...]]
) -> None:
    table = Table(title=title, title_justify="left", show_lines=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    screen.print(table, markup=False)


def _scenarios(screen: Console) -> None:
    rows = []
    for name, path in builtin_scenarios().items():
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        rows.append((name, str(data.get("description", ""))))
    _table(screen, "Scenarios", ("name", "what it is"), rows)


def _policies(screen: Console) -> None:
    rows = []
    for name, entry in POLICIES.items():
        engine = ", ".join(f"{key}={value}" for key, value in entry.engine.items())
        parameters = ", ".join(
            f"{key}={entry.named(key, value)}" for key, value in entry.parameters.items()
        )
        own = "; ".join(filter(None, (engine, parameters))) or "none"
        rows.append((name, entry.about, entry.source, entry.simplified, own))
    headings = ("name", "what it is", "source", "simplified", "engine settings; parameters")
    _table(screen, "Policies; or your own as module:Class or bundle:FOLDER", headings, rows)
    _zoo(screen)


def _zoo(screen: Console) -> None:
    rows = []
    for name, folder in zoo_bundles().items():
        try:
            about = read_manifest(folder)
        except PolicyError as error:  # one that is damaged does not hide the others
            rows.append((f"zoo:{name}", "", str(error)))
            continue
        rows.append((f"zoo:{name}", about.scenario, about.summary))
    if rows:
        _table(screen, "Trained policies", ("name", "trained for", "what it is"), rows)


def _profiles(screen: Console) -> None:
    rows = []
    for name in profiles.names():
        profile = profiles.load(name)
        origin = profile.provenance
        rows.append(
            (name, f"{profile.overhead * 1e3:.2f}", origin.source, origin.framework, origin.licence)
        )
    headings = ("name", "overhead ms", "source", "measured", "licence")
    _table(screen, "Latency profiles: <model>_<gpu>_tp<number>", headings, rows)


def _datasets(screen: Console) -> None:
    rows = []
    for name, dataset in workload.datasets().items():
        means = f"{dataset.prompt_mean:.0f}", f"{dataset.output_mean:.0f}"
        rows.append((name, *means, dataset.description, dataset.license or "unknown"))
    headings = ("name", "mean prompt", "mean output", "what it is", "licence")
    _table(screen, "Datasets of lengths, in tokens", headings, rows)


def _routers(screen: Console) -> None:
    rows = [(name, about) for name, (_, about) in ROUTERS.items()]
    _table(screen, "Routers: which instance takes an arrival", ("name", "what it does"), rows)
    rows = [(name, about) for name, (_, about) in HANDOFFS.items()]
    title = "Rules of hand-off: which instance decodes a finished prefill"
    _table(screen, title, ("name", "what it does"), rows)


def _metrics(screen: Console) -> None:
    rows = [(name, yaml.safe_dump(section, default_flow_style=True, width=1000).strip())
            for name, section in PRESETS.items()]  # fmt: skip
    _table(screen, "Metrics by name: `slo: paper_v2` in a scenario", ("name", "stands for"), rows)


LISTS = {
    Kind.SCENARIOS: _scenarios,
    Kind.POLICIES: _policies,
    Kind.PROFILES: _profiles,
    Kind.DATASETS: _datasets,
    Kind.ROUTERS: _routers,
    Kind.METRICS: _metrics,
}
