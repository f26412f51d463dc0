"""What happens beside training: a progress bar, evaluation, checkpoints."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback

from agents import checkpoint
from agents.config import Training
from agents.evaluation import greedy, play
from agents.learner import environment, variations
from agents.wrappers import reference_return


class Interrupted(Exception):  # noqa: N818  (nothing went wrong)
    """Training was asked to stop, and has saved where it is."""


class Bar(BaseCallback):
    """A progress bar with the mean gain or return of the last episodes."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.task = self.progress.add_task("training", total=total)

    def _on_training_start(self) -> None:
        self.progress.start()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps - self.progress.tasks[0].completed < self.total / 500:
            return
        episodes = self.model.ep_info_buffer or ()
        said = f"return {np.mean([info['r'] for info in episodes]):.4g}" if episodes else "training"
        self.progress.update(self.task, completed=self.num_timesteps, description=said)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self.progress.update(self.task, completed=self.num_timesteps)
        self.progress.stop()


class Validation(BaseCallback):
    """Evaluates on workloads kept aside, paired with a reference policy; keeps the best model.

    Writes `evaluations.csv` (a row per evaluation and scenario) and `best_model.zip` to `folder`.

    Args:
        training: the configuration.
        folder: where files go.
        rows: of earlier evaluations, if training goes on.
    """

    def __init__(self, training: Training, folder: Path, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        settings = training.evaluation
        self.freq, self.folder, self.rows = settings.freq, folder, rows
        first = settings.first_seed
        self.seeds = range(first, first + settings.seeds)
        self.envs = [environment(training, one, settings.seeds) for one in variations(training)]
        self.references = [
            np.array(
                [
                    reference_return(env.get_attr("scenario")[0], settings.reference, seed)
                    for seed in self.seeds
                ]
            )
            for env in self.envs
        ]

    @property
    def best(self) -> float:
        """The highest mean gain so far, tokens/s."""
        gains: dict[int, list[float]] = {}
        for row in self.rows:
            gains.setdefault(row["steps"], []).append(row["gain"])
        return max((float(np.mean(of_step)) for of_step in gains.values()), default=-np.inf)

    def _on_rollout_start(self) -> None:
        last = self.rows[-1]["steps"] if self.rows else -self.freq
        if self.num_timesteps - last >= self.freq:
            self.evaluate()

    def _on_step(self) -> bool:
        return True

    def evaluate(self) -> None:
        """Measure the model, note it, and keep the model if none was better."""
        best, gains = self.best, []
        for place, (env, reference) in enumerate(zip(self.envs, self.references, strict=True)):
            found = play(env, greedy(self.model), self.seeds)
            gain = found - reference
            error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else 0.0
            self.rows.append(
                {
                    "steps": self.num_timesteps,
                    "scenario": place,
                    "smooth_goodput": float(found.mean()),
                    "reference": float(reference.mean()),
                    "gain": float(gain.mean()),
                    "standard_error": error,
                }
            )
            gains.append(float(gain.mean()))
            self.logger.record(f"eval/smooth_goodput_{place}", float(found.mean()))
            self.logger.record(f"eval/gain_{place}", gains[-1])
        self.logger.dump(self.num_timesteps)
        checkpoint.write(self.folder / "evaluations.csv", lambda file: file.write(table(self.rows)))
        if np.mean(gains) > best:
            checkpoint.save_model(self.model, self.folder / "best_model.zip")


def table(rows: list[dict[str, Any]]) -> bytes:
    """Rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


class Checkpoints(BaseCallback):
    """Saves where training is, every so often and when it is asked to stop.

    Both happen between rollouts, where going on later gives the same model as never stopping.

    Args:
        path: of the checkpoint.
        freq: steps between two of them.
        rows: of evaluations, kept with it.
    """

    def __init__(self, path: Path, freq: int, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self.path, self.freq, self.rows = path, freq, rows
        self.stop_asked = False
        self._saved_at: int | None = None

    def _on_rollout_start(self) -> None:
        if self._saved_at is None:
            self._saved_at = self.num_timesteps
        if self.stop_asked or self.num_timesteps - self._saved_at >= self.freq:
            self.save()
        if self.stop_asked:
            raise Interrupted

    def _on_step(self) -> bool:
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoint.save(self.model, self.path, {"rows": self.rows})
        self._saved_at = self.num_timesteps
