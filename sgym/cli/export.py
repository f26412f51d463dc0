"""`sgym export`: a scheduler that comes with sgym as a bundle, which engines load."""

from pathlib import Path
from typing import Annotated

import typer

import sgym
from sgym.cli.common import console, parse_settings
from sgym.errors import PolicyError
from sgym.export import BuiltinManifest, PolicyRuntime, write_builtin
from sgym.export.heuristics import EXPORTABLE, check_parameters
from sgym.export.zoo import BUNDLE, ZOO
from sgym.policies.registry import POLICIES, builtin

PARAMETER = "policy."


def export(
    policy: Annotated[
        str, typer.Option("--policy", help="Scheduler, such as llf (`sgym list policies`).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="policy.KEY=VALUE",
            help="Parameter of the policy, such as policy.reservation=0.2. Repeatable.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the bundle, instead of the policy's.")
    ] = None,
) -> None:
    """Write a bundle of a scheduler that comes with sgym, for engines (`PolicyRuntime`).

    Trained models are exported by `python -m agents.export MODEL -o BUNDLE`.
    """
    if policy in POLICIES and policy not in EXPORTABLE:
        raise PolicyError(
            f"--policy {policy} cannot be exported: it keeps a state of its own, or decides over a "
            f"cluster; these can be: {', '.join(EXPORTABLE)}"
        )
    if policy.startswith((ZOO, BUNDLE)):
        raise PolicyError(
            f"--policy {policy} is a bundle already: `sgym serve`, PolicyRuntime and SGYM_BUNDLE "
            "take it as it is"
        )
    entry, parameters = builtin(policy), dict(builtin(policy).parameters)
    for key, value in parse_settings(settings or ()).items():
        parameter = key.removeprefix(PARAMETER)
        if not key.startswith(PARAMETER) or parameter not in parameters:
            known = ", ".join(PARAMETER + known for known in parameters) or "nothing"
            raise PolicyError(f"--set {key}: policy {policy!r} lets you set {known}")
        parameters[parameter] = value
    check_parameters(policy, parameters, "--set")
    about = BuiltinManifest(
        name=name or policy,
        policy=policy,
        parameters=parameters,
        scenario="any",
        provenance={"command": f"sgym export --policy {policy}", "sgym": sgym.__version__},
        card=f"{entry.about}\n\nSource: {entry.source}. An engine asks it in every iteration; "
        "nothing was trained, so nothing ties it to a scenario.",
    )
    folder = write_builtin(output, about)
    runtime = PolicyRuntime(folder)
    console().print(f"{folder}: {runtime.name}, kind builtin", markup=False, soft_wrap=True)
