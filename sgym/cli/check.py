"""`sgym check` and `sgym schema`: is this scenario right, and what may one say."""

import json
import warnings

import yaml
from rich.console import Console

from sgym import profiles, workload
from sgym.assembly import pools_of, with_engine_of
from sgym.cli.common import (
    DurationOption,
    ScenarioArgument,
    SetOption,
    TraceOption,
    console,
    load,
    say_notes,
)
from sgym.config import Scenario
from sgym.preflight import unserved


def check(
    scenario: ScenarioArgument,
    settings: SetOption = None,
    trace: TraceOption = None,
    duration: DurationOption = None,
) -> None:
    """Check a scenario and print it with all defaults filled in, and what it amounts to."""
    screen = console()
    loaded = load(scenario, settings, trace, duration)
    fitted = with_engine_of(loaded, loaded.policy.name)
    text = yaml.safe_dump(fitted.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    screen.print(text, markup=False, soft_wrap=True, end="")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", profiles.ProfileWarning)  # said by the notes below
        for line in facts(fitted):
            screen.print(f"# {line}", markup=False, soft_wrap=True)
    aside = console(stderr=True)  # so that what goes to stdout is a scenario file
    say_notes(aside, loaded, [loaded.policy.name])
    _say_cuts(aside, loaded)


def facts(scenario: Scenario) -> list[str]:
    """What follows from a scenario, as sentences."""
    seconds = scenario.episode.warm_start + scenario.episode.duration
    look = {name: f"{value:.4g}" for name, value in workload.describe(scenario).items()}
    requests = (
        f"{look['requests']} requests of seed 0 in {seconds:g} s: {look['rate_rps']} per second, "
        f"prompts of {look['prompt_mean']} tokens on average and {look['prompt_max']} at most, "
        f"outputs of {look['output_mean']} and {look['output_max']}"
    )
    if float(look["prefix_hit_share"]) > 0:
        requests += f"; {float(look['prefix_hit_share']):.1%} of prompt tokens were seen before"
    return [_machines(single) for single in pools_of(scenario)] + [requests]


def _machines(scenario: Scenario) -> str:
    """What a cluster of a single pool consists of."""
    cluster = scenario.cluster
    pool = cluster.groups[0]
    blocks = profiles.for_scenario(scenario)[1]
    return (
        f"{pool.instances} {pool.role} instance(s) on {cluster.tp} x {cluster.gpu}, each with "
        f"{blocks} usable KV blocks = {blocks * scenario.engine.block_size} tokens"
    )


def _say_cuts(screen: Console, scenario: Scenario) -> None:
    found = unserved(scenario, scenario.policy.name)
    if found.cut:
        screen.print(
            f"[yellow]note:[/] {found.cut} of {found.requests} outputs end early, at "
            f"max_model_len = {scenario.engine.max_model_len} tokens",
            soft_wrap=True,
        )


def schema() -> None:
    """Print the JSON schema of scenarios, for editors that complete and check YAML."""
    described = Scenario.model_json_schema()
    described["title"] = "sgym scenario"
    console().print(json.dumps(described, indent=1), markup=False, soft_wrap=True)
