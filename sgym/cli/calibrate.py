"""`sgym calibrate`: a latency profile from tables that you measured yourself."""

from pathlib import Path
from typing import Annotated

import typer

from sgym.cli.common import console
from sgym.errors import ProfileError
from sgym.profiles import GPUS, MODELS
from sgym.profiles.calibrate import FALLBACK_LICENCE, Source
from sgym.profiles.calibrate import calibrate as fit


def calibrate(
    tables: Annotated[Path, typer.Argument(help="Folder of measured operation tables.")],
    model: Annotated[str, typer.Option(help=f"One of {', '.join(MODELS)}.")],
    gpu: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(GPUS)}; left out: as gpu.json in the folder says."),
    ] = None,
    tp: Annotated[int, typer.Option(help="GPUs over which the model is split.")] = 1,
    overhead: Annotated[
        float | None,
        typer.Option(help="Seconds of engine time per iteration; left out: the tables'."),
    ] = None,
    source: Annotated[str, typer.Option(help="Who measured, for the provenance.")] = "",
    licence: Annotated[str, typer.Option(help="Of the tables.")] = FALLBACK_LICENCE,
    out: Annotated[Path, typer.Option(help="Folder of the profile.")] = Path(),
) -> None:
    """Fit a latency profile to measured tables and write it as one JSON file.

    experiments/profile_gpu measures such tables; a scenario uses the file as `latency.profile`.
    """
    if tp < 1:
        raise ProfileError(f"--tp must be at least 1, got {tp}: it is a number of GPUs")
    if not tables.is_dir():
        raise ProfileError(f"no folder of tables {str(tables)!r}")
    profile = fit(tables, model, gpu, tp, overhead, Source(source or str(tables), licence=licence))
    out.mkdir(parents=True, exist_ok=True)
    path = profile.save(out)
    screen = console()
    screen.print(f"{path}: use it with --set latency.profile={path}", soft_wrap=True)
    for name, error in profile.provenance.fit_error.items():
        screen.print(f"  {name}: median error at held-out points {100 * error:.2g} %")
    for note in profile.provenance.derived:
        screen.print(f"  not measured: {note}", markup=False, soft_wrap=True)
