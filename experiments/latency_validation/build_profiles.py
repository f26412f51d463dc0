"""Write the profiles that come with sgym into the package: with fit errors and overhead.

e.

python experiments/latency_validation/build_profiles.py
"""

from pathlib import Path

import held_out
import serving
from data import shared_data
from rich.console import Console

import sgym.profiles
from sgym.errors import ProfileError
from sgym.profiles import MODELS, Profile
from sgym.profiles.calibrate import Source, calibrate

AICONFIGURATOR = Source(
    "https://github.com/ai-dynamo/aiconfigurator", "095f58a", "Apache-2.0 (NVIDIA)"
)
LLMSERVINGSIM = Source(
    "https://github.com/casys-kaist/LLMServingSim", "5daddb2", "MIT", "vLLM 0.19.0, RTX 4090"
)
BORROWED = {"H200": "H100"}  # no serving run with a known rate was published for the left one


def main() -> None:
    """Calibrate without overhead, fit the overhead on one run per GPU, write all again with it."""
    console, data = Console(), shared_data()
    errors = held_out.table(data / "profiles")
    profiles = list(_composed(data / "profiles", errors, console))
    _write(profiles)
    runs = serving.read_runs(data / "serving_runs" / "vllm0.15.1_serving.csv")
    fitted = {run.gpu: (run, serving.fit(run)) for run in runs if run.fits}
    for gpu, (run, constants) in fitted.items():
        console.print(
            f"{gpu}: {constants.overhead * 1e3:.2f} ms per iteration, fitted at {run.rate}/s"
        )
    _write([_with_overhead(profile, fitted) for profile in profiles])
    console.print(f"{len(profiles)} profiles in {sgym.profiles.DATA}")


def _write(profiles: list[Profile]) -> None:
    for profile in profiles:
        profile.save(sgym.profiles.DATA)


def _composed(folder: Path, errors: "held_out.pd.DataFrame", console: Console) -> list[Profile]:
    rtx = folder / "llmservingsim" / "RTX4090" / "llama-3.1-8b" / "tp1"
    found = [calibrate(rtx, "Llama-3.1-8B", "RTX4090", source=LLMSERVINGSIM)]
    for gpu, name in held_out.FOLDERS.items():
        for model in MODELS:
            for tp in (1, 2):
                tables = folder / "aiconfigurator" / name
                try:
                    profile = calibrate(tables, model, gpu, tp, source=AICONFIGURATOR)
                except ProfileError as reason:
                    console.print(f"left out {model} on {gpu}, tp {tp}: {reason}")
                    continue
                found.append(_with_errors(profile, held_out.medians(errors, gpu)))
    return found


def _with_errors(profile: Profile, errors: dict[str, float]) -> Profile:
    provenance = profile.provenance.model_copy(update={"fit_error": errors})
    return profile.model_copy(update={"provenance": provenance})


def _with_overhead(
    profile: Profile, fitted: dict[str, tuple[serving.Run, serving.Constants]]
) -> Profile:
    gpu = BORROWED.get(profile.gpu.name, profile.gpu.name)
    if gpu not in fitted:
        return profile
    run, constants = fitted[gpu]
    text = f"vLLM 0.15.1, {run.model}, {run.gpu}, {run.rate:g} requests/s"
    if gpu != profile.gpu.name:
        text += f"; none for {profile.gpu.name}"
    provenance = profile.provenance.model_copy(update={"overhead_fit": text})
    return profile.model_copy(update={"overhead": constants.overhead, "provenance": provenance})


if __name__ == "__main__":
    main()
