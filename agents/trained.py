"""A model that `agents.train` wrote, as a policy that plays any scenario."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import yaml

from agents.config import Training
from agents.evaluation import greedy
from agents.learner import ALGORITHMS
from sgym.errors import PolicyError
from sgym.simulator import Result, Source


class Trained:
    """The best model in a folder of `agents.train`.

    Args:
        folder: with `config.yml` and `best_model.zip`.

    Raises:
        PolicyError: one of them is missing or broken.
    """

    def __init__(self, folder: Path) -> None:
        try:
            given = yaml.safe_load((folder / "config.yml").read_text("utf-8"))
            given.pop("seed", None)
            self.training = Training.model_validate(given)
            self.model = ALGORITHMS[self.training.algo].load(folder / "best_model.zip")
        except (OSError, ValueError, AttributeError) as error:
            raise PolicyError(
                f"{folder} is no folder of `python -m agents.train`, which has config.yml and "
                f"best_model.zip: {error}"
            ) from None

    def simulate(self, scenario: Source, seed: int = 0) -> Result:
        """Play an episode greedily.

        Args:
            scenario: name, path, dict or Scenario.
            seed: of the workload.
        """
        env: Any = gym.make(
            self.training.env,
            scenario=scenario,
            disable_env_checker=True,
            **self.training.env_kwargs,
        ).unwrapped
        choose = greedy(self.model)
        seen, info = env.reset(options={"workload_seed": seed})
        over, start = False, np.ones(1, np.bool_)
        while not over:
            masks = env.action_masks()[None] if "action_mask" in info else None
            action = choose({part: value[None] for part, value in seen.items()}, masks, start)[0]
            seen, _, terminated, truncated, info = env.step(action)
            over, start = terminated or truncated, np.zeros(1, np.bool_)
        return env.result()


@lru_cache(maxsize=4)
def load_trained(folder: str) -> Trained:
    """The model in a folder, loaded once."""
    return Trained(Path(folder))
