"""Train an agent: `python -m agents.train CONFIG [--seed N] [--out DIR] [--resume]`.

CONFIG is YAML in the form of RL-Zoo: a section named after a scenario or an environment, with the
settings of `agents.config.Training`; `agents/configs` has some. The folder DIR then holds

    config.yml        the settings, complete, and the seed
    best_model.zip    the best model on the validation workloads
    model.zip         the last one
    evaluations.csv   a row per evaluation and scenario: tokens/s, and the gain over the reference
    tensorboard/      curves
    checkpoint.pkl    where training is; `--resume` goes on there

Ctrl-C saves after the present rollout and stops. The same seed gives the same weights on the same
machine, interrupted or not.

RL-Zoo itself trains by the environment's id, without any of this: see `agents/README.md`.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from agents import checkpoint, cloning
from agents.callbacks import Bar, Checkpoints, Interrupted, Validation
from agents.config import ONLY_FOR, ConfigError, Training, read
from agents.learner import ALGORITHMS, build, wind
from sgym.errors import SgymError


def train(
    training: Training,
    seed: int,
    folder: Path,
    resume: bool = False,
    bar: bool = False,
    stop_after: int | None = None,
) -> BaseAlgorithm:
    """Train from a configuration to the end, or from a checkpoint.

    Args:
        training: the configuration.
        seed: of everything random.
        folder: where files go.
        resume: go on from the folder's checkpoint, if it has one.
        bar: show a progress bar, and let Ctrl-C stop between rollouts.
        stop_after: as if Ctrl-C were pressed after so many steps.

    Raises:
        Interrupted: it was asked to stop; the checkpoint is there.
    """
    path = folder / "checkpoint.pkl"
    rows: list[dict[str, Any]] = []
    resumed = resume and path.exists()
    if resumed:
        model, extra = checkpoint.load(path, ALGORITHMS[training.algo])
        rows += extra["rows"]
        wind(model, training)
    else:
        model = build(training, seed)
        note_config(training, seed, folder)
        if training.warm_start is not None:
            cloning.warm_start(model, training, seed)
    model.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))
    validation = Validation(training, folder, rows)
    checkpoints = Checkpoints(path, training.checkpoint_freq, rows)
    callbacks: list[BaseCallback] = [validation, checkpoints]
    if stop_after is not None:
        callbacks.insert(0, _StopAfter(checkpoints, stop_after))
    shown = Bar(training.n_timesteps) if bar else None
    if shown is not None:
        callbacks.append(shown)
        _listen(checkpoints)
    try:
        left = training.n_timesteps - model.num_timesteps
        if left > 0:
            model.learn(left, callback=callbacks, reset_num_timesteps=not resumed)
    finally:
        if shown is not None:
            shown.stop()
    if not rows or rows[-1]["steps"] < model.num_timesteps:
        validation.init_callback(model)
        validation.num_timesteps = model.num_timesteps
        validation.evaluate()
    checkpoint.save_model(model, folder / "model.zip")
    checkpoint.save(model, path, {"rows": rows})
    return model


def note_config(training: Training, seed: int, folder: Path) -> None:
    """Write the settings, complete."""
    others = {name for name, algos in ONLY_FOR.items() if training.algo not in algos}
    if training.gamma_per_second is not None:
        others.add("gamma")
    settings = {"seed": seed, **training.model_dump(mode="json", exclude=others)}
    text = yaml.safe_dump(settings, sort_keys=False)
    checkpoint.write(folder / "config.yml", lambda file: file.write(text.encode()))


class _StopAfter(BaseCallback):
    """Asks to stop after so many steps."""

    def __init__(self, checkpoints: Checkpoints, steps: int) -> None:
        super().__init__()
        self.checkpoints, self.steps = checkpoints, steps

    def _on_rollout_start(self) -> None:
        self.checkpoints.stop_asked |= self.num_timesteps >= self.steps

    def _on_step(self) -> bool:
        return True


def _listen(checkpoints: Checkpoints) -> None:
    """Ctrl-C asks to stop; a second one stops at once."""

    def ask(_: int, __: FrameType | None) -> None:
        checkpoints.stop_asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, ask)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and train; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agents.train", description="Train an agent.")
    parser.add_argument("config", type=Path, help="YAML file")
    parser.add_argument("--only", help="section of the file, if it has several")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for results [runs/SECTION-seedN]")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)  # small networks are fastest on one
    folder = given.out or Path("runs")
    try:
        name, training = read(given.config, given.only)
        if given.out is None:
            folder /= f"{name.replace('/', '-')}-seed{given.seed}"
        if (folder / "checkpoint.pkl").exists() and not given.resume:
            raise ConfigError(
                f"{folder} holds a training already: --resume goes on with it, --out names another"
            )
        started = time.perf_counter()
        model = train(training, given.seed, folder, given.resume, bar=True)
    except Interrupted:
        print(f"stopped; the same command with --resume goes on from {folder}")
        return 130
    except SgymError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    taken = time.perf_counter() - started
    print(f"{model.num_timesteps} steps in {taken:.0f} s; results are in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
