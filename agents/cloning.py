"""Behaviour cloning: a policy learns to act as a heuristic does, before it learns to do better.

The first states are those that the expert comes to; later ones are those that the policy comes to,
labelled by the expert (DAgger, Ross et al., AISTATS 2011). The critic is left as it is.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecEnv

from agents.config import ConfigError, Training, WarmStart
from agents.evaluation import greedy
from agents.experts import Expert
from agents.learner import bare_environments


class Labelled(NamedTuple):
    """States, and what the expert does there."""

    seen: dict[str, np.ndarray]  # part -> (N, its length)
    masks: np.ndarray | None  # bool (N, entries of the flat mask)
    actions: np.ndarray  # (N, ...)


def warm_start(model: Any, training: Training, seed: int) -> list[float]:
    """Clone the expert of a configuration; returns the loss after each epoch.

    Raises:
        ConfigError: the expert cannot say anything under the environment's action.
    """
    if training.warm_start is None:
        return []
    env = bare_environments(training)
    try:
        expert = Expert(training.warm_start.expert, env.get_attr("plan")[0])
    except ValueError as error:
        raise ConfigError(f"warm_start.expert: {error}") from None
    return clone(model, env, expert, training.warm_start, seed)


def clone(model: Any, env: VecEnv, expert: Expert, settings: WarmStart, seed: int) -> list[float]:
    """Train the actor of PPO or MaskablePPO to act as an expert; returns the loss of each epoch.

    Args:
        model: PPO or MaskablePPO.
        env: where states are collected; of the model's spaces.
        expert: whom to imitate.
        settings: how long.
        seed: of the workloads and of the order of states.
    """
    env.seed(seed)
    shuffled = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.policy.parameters(), lr=settings.learning_rate)
    losses: list[float] = []
    collected: list[Labelled] = []
    for iteration in range(settings.iterations):
        collected.append(collect(env, expert, settings.steps, model if iteration else None))
        states = _together(collected)
        for _ in range(settings.epochs):
            order = shuffled.permutation(len(states.actions))
            batches = np.split(order, range(settings.batch_size, len(order), settings.batch_size))
            found = [_descend(model, optimizer, states, batch) for batch in batches]
            losses.append(float(np.mean(found)))
    return losses


def collect(env: VecEnv, expert: Expert, steps: int, model: Any = None) -> Labelled:
    """What the expert does in the states that it comes to, or a model.

    Args:
        env: of N environments.
        expert: who labels.
        steps: of each environment.
        model: who acts; none = the expert.
    """
    seen: Any = env.reset()
    found: list[Labelled] = []
    has_masks = not isinstance(env.action_space, spaces.Box)
    starts = np.ones(env.num_envs, np.bool_)
    acts = greedy(model) if model is not None else None
    for _ in range(steps):
        masks: Any = env.env_method("action_masks") if has_masks else None
        labels = expert(seen, masks)
        found.append(Labelled(seen, masks, labels))
        actions = labels if acts is None else acts(seen, masks, starts)
        seen, _, starts, _ = env.step(actions)
    return _together(found)


def _together(parts: list[Labelled]) -> Labelled:
    masks = [part.masks for part in parts if part.masks is not None]
    return Labelled(
        {name: np.concatenate([part.seen[name] for part in parts]) for name in parts[0].seen},
        np.concatenate(masks) if masks else None,
        np.concatenate([part.actions for part in parts]),
    )


def _descend(model: Any, optimizer: torch.optim.Optimizer, states: Labelled, rows: Any) -> float:
    """One gradient step; returns the loss before it."""
    policy = model.policy
    policy.set_training_mode(True)
    seen = {name: torch.as_tensor(values[rows]) for name, values in states.seen.items()}
    labels = torch.as_tensor(states.actions[rows])
    if isinstance(model.action_space, spaces.Box):
        means = policy.get_distribution(seen).distribution.mean
        loss = ((means - labels) ** 2).mean()
    else:
        more = {}
        if isinstance(model, MaskablePPO) and states.masks is not None:
            more["action_masks"] = states.masks[rows]
        loss = -policy.evaluate_actions(seen, labels, **more)[1].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())
