"""A search by CMA-ES that shows its progress, survives an interruption and keeps the best mean.

Each generation scores its candidates on the same fresh workloads (common random numbers); now and
then the mean of the search is scored on fixed validation workloads, and the best one is kept.
"""

import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cma
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from agents.progress import progress

VALIDATION = 100_000
"""First workload seed of validation; training counts up from 0, held-out seeds from HELD_OUT."""
HELD_OUT = 200_000

Score = Callable[[np.ndarray, Sequence[int]], np.ndarray]
"""From candidates (P, size) and workload seeds (S,) to what each earns, (P, S)."""


class Budget(BaseModel):
    """How long a search is, and where it starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=1, ge=1, description="of the search; workloads have their own seeds")
    population: int = Field(default=16, ge=4, description="candidates of a generation")
    seeds: int = Field(default=6, ge=1, description="workloads on which each is scored, per rate")
    generations: int = Field(default=60, ge=1)
    sigma: float = Field(default=0.15, gt=0.0, description="first step size, parameters are 0 to 1")
    check: int = Field(default=5, ge=1, description="generations between validations")
    validation: int = Field(default=32, ge=2, description="workloads of validation, per rate")

    @property
    def evaluations(self) -> int:
        """Episodes per rate that the search may look at, validation aside."""
        return self.population * self.seeds * self.generations


@dataclass
class Found:
    """State of a search: what it has found so far."""

    best: np.ndarray
    score: float = -np.inf
    generation: int = 0
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    """Generation, mean of its candidates, validation of the search's mean."""
    seconds: float = 0.0
    """CPU time spent, interruptions left out."""


def search(
    score: Score,
    start: np.ndarray,
    budget: Budget,
    kept: Path | None = None,
    bounds: tuple[float, float] | None = None,
    name: str = "search",
) -> Found:
    """Find parameters with a high score.

    Args:
        score: of candidates.
        start: the first mean, (size,); it is a candidate for the best, too.
        budget: how much to try.
        kept: a file in which the state is kept after each generation; if it is there, the search
            goes on from it.
        bounds: lowest and highest value of each parameter; none = unbounded.
        name: for the progress bar.

    Returns:
        The best mean on validation. Ctrl-C ends with what was found, and the file stays.
    """
    checks = range(VALIDATION, VALIDATION + budget.validation)
    if kept is not None and kept.exists():
        strategy, found = pickle.loads(kept.read_bytes())  # noqa: S301  (written by this function)
    else:
        options = {
            "popsize": budget.population,
            "seed": budget.seed,
            "verbose": -9,
            "maxiter": budget.generations + 1,
            "tolfun": 0,
            "tolx": 0,
            "tolflatfitness": 10_000,
            "bounds": list(bounds) if bounds else None,
        }
        strategy = cma.CMAEvolutionStrategy(start, budget.sigma, options)
        found = Found(start.copy())
        _validate(found, start, score, checks)
    with progress(name, budget.generations, found.generation) as advance:
        while found.generation < budget.generations:
            started = time.process_time()
            first = found.generation * budget.seeds
            candidates = strategy.ask()
            scores = score(np.array(candidates), range(first, first + budget.seeds)).mean(axis=1)
            strategy.tell(candidates, (-scores).tolist())
            found.generation += 1
            last = found.generation == budget.generations
            if found.generation % budget.check == 0 or last:
                mean = np.asarray(strategy.boundary_handler.repair(strategy.mean))
                _validate(found, mean, score, checks, float(scores.mean()))
            found.seconds += time.process_time() - started
            if kept is not None:
                write_whole(kept, pickle.dumps((strategy, found)))
            advance(f"{name}: {found.score:.1f}")
    return found


def _validate(
    found: Found, mean: np.ndarray, score: Score, checks: Sequence[int], of_all: float = np.nan
) -> None:
    value = float(score(mean[None], checks).mean())
    found.curve.append((found.generation, of_all, value))
    if value > found.score:
        found.best, found.score = mean.copy(), value


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name first, so that it is never seen half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
