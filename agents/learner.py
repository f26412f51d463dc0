"""From a configuration to environments and a model."""

from typing import Any

from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from agents.config import TAKES, Training, Variation
from agents.encoder import SetExtractor
from agents.networks import MaskableSchedulerPolicy, SchedulerPolicy
from agents.semi_markov import Clock, MaskableSemiMarkovBuffer, SemiMarkovBuffer
from agents.wrappers import MixedVecEnv, PairedReward
from sgym.envs.sb3 import SgymVecEnv

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "ppo": PPO,
    "ppo_mask": MaskablePPO,
    "ppo_lstm": RecurrentPPO,
    "dqn": DQN,
}
BUFFERS = {"ppo": SemiMarkovBuffer, "ppo_mask": MaskableSemiMarkovBuffer}
POLICY_CLASSES = {"ppo": SchedulerPolicy, "ppo_mask": MaskableSchedulerPolicy}


def variations(training: Training) -> list[Variation]:
    """The scenarios that are trained on, each with its number of environments."""
    given = training.variations or (Variation(),)
    rest = training.n_envs - sum(variation.n_envs or 0 for variation in given)
    open_ones = [k for k, variation in enumerate(given) if variation.n_envs is None]
    found = list(given)
    for place, k in enumerate(open_ones):
        share = rest // len(open_ones) + (place < rest % len(open_ones))
        found[k] = given[k].model_copy(update={"n_envs": share})
    return found


def environment(training: Training, variation: Variation, num_envs: int) -> SgymVecEnv:
    """The bare vector environment of one of the scenarios."""
    arguments = dict(training.env_kwargs)
    source = variation.scenario or training.scenario
    if source is not None:
        arguments["scenario"] = source
    overrides = {**training.overrides, **variation.overrides}
    return SgymVecEnv(training.env, num_envs, overrides=overrides, **arguments)


def bare_environments(training: Training) -> VecEnv:
    """All environments of a training, with the reward that they have themselves."""
    return _joined([environment(training, one, one.n_envs or 1) for one in variations(training)])


def environments(training: Training) -> VecEnv:
    """All environments of a training, with its reward."""
    parts: list[VecEnv] = []
    for one in variations(training):
        made: Any = environment(training, one, one.n_envs or 1)
        if training.reward == "paired":
            made = PairedReward(made, training.evaluation.reference)
        parts.append(made)
    joined: VecEnv = VecMonitor(_joined(parts), info_keywords=("smooth_goodput",))
    if training.gamma_per_second is not None:
        joined = Clock(joined)
    if training.normalize:
        joined = VecNormalize(joined, norm_obs=False, gamma=training.gamma)
    return joined


def _joined(parts: list[Any]) -> VecEnv:
    return parts[0] if len(parts) == 1 else MixedVecEnv(parts)


def build(training: Training, seed: int) -> BaseAlgorithm:
    """A fresh model with its environments.

    Args:
        training: the configuration.
        seed: of everything random.
    """
    settings = {name: getattr(training, name) for name in TAKES[training.algo]}
    if training.linear_decay:
        settings["learning_rate"] = LinearSchedule(training.learning_rate, 0.0, 1.0)
    if training.gamma_per_second is not None:
        settings["rollout_buffer_class"] = BUFFERS[training.algo]
        settings["gamma"] = 1.0
    policy: Any = training.policy
    if policy == "SchedulerPolicy":
        policy = POLICY_CLASSES[training.algo]
    kwargs = dict(training.policy_kwargs)
    if kwargs.get("features_extractor_class") == "SetExtractor":
        kwargs["features_extractor_class"] = SetExtractor
    algorithm: Any = ALGORITHMS[training.algo]
    made = algorithm(
        policy,
        environments(training),
        policy_kwargs=kwargs,
        seed=seed,
        device="cpu",
        verbose=0,
        **settings,
    )
    wind(made, training)
    return made


def wind(model: Any, training: Training) -> None:
    """Let the rollout buffer read the clock of the model's environments, if it discounts by it."""
    if training.gamma_per_second is None:
        return
    venv = model.env
    while not isinstance(venv, Clock):
        venv = venv.venv
    model.rollout_buffer.watch(venv, training.gamma_per_second)
