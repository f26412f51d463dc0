"""States of an environment, as an engine would show them, and what the kernels do in them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sgym.core.layout import WAITING
from sgym.envs import decode
from sgym.export.simulated import simulated_limits, simulated_view
from sgym.export.view import EngineSteering, EngineView
from sgym.policies.view import waiting_order

KNOBS = ("token_budget", "active_cap", "chunk_cap", "reserve", "hold_prefill")
Choose = Callable[[dict[str, np.ndarray], np.ndarray | None], Any]
"""(observation, flat mask or None) -> action, as the environment's policy chooses it."""


def views(env: Any, choose: Choose, count: int, seed: int = 0) -> Iterator[tuple[EngineView, Any]]:
    """Play, and show each decision as an engine would, with the action of the policy.

    After a view was handed out, `carried_out` may do the action in a copy of its state.

    Args:
        env: `sgym/Colocated-v0` with one instance, without wrappers.
        choose: the policy.
        count: decisions.
        seed: of the first episode's workload; the next ones follow.
    """
    limits = None
    while count > 0:
        observation, _ = env.reset(seed=seed, options={"workload_seed": seed})
        limits = limits or simulated_limits(env._simulator.state)
        seed, over = seed + 1, False
        while not over and count > 0:
            masked = env.plan.layout.mask_length > 0
            action = choose(observation, env.action_masks() if masked else None)
            trigger = env._desk.triggers[0]
            if len(env._simulator.state.requests):
                yield (
                    simulated_view(
                        env._simulator.state,
                        limits,
                        0,
                        int(trigger["reasons"]),
                        float(trigger["decided"]),
                    ),
                    action,
                )
                count -= 1
            observation, _, terminated, truncated, _ = env.step(action)
            over = terminated or truncated


def carried_out(env: Any, action: Any, view: EngineView) -> tuple[EngineSteering, list[int]]:
    """What the kernels do with an action, and which rows wait then, in order; the state stays.

    Those that it has preempted are left out of the order: they wait in front, and are held.

    Args:
        env: where `views` has stopped.
        action: to be carried out.
        view: of this moment.
    """
    snapshot = env.snapshot()
    state, desk = env._simulator.state, env._desk
    flat = np.asarray(action, np.float64).reshape(-1)
    if env.plan.options.action in ("scores", "index"):
        flat = np.clip(flat, -1.0, 1.0)
    decode.act(state, desk, flat)
    instance = state.instances[0]
    requests = state.requests[view.ids]
    own = requests["steering"] == instance["steerings"]
    preempted = requests["phase"][: view.num_running] == WAITING
    steering = EngineSteering(
        requests["waiting_score"],
        np.where(own, requests["running_score"], 0.0),
        np.concatenate((preempted, np.zeros(view.num_waiting, np.bool_))),
        **{name: int(instance[name]) for name in KNOBS},
    )
    row_of = {int(r): row for row, r in enumerate(view.ids)}
    order = [row_of[r] for r in waiting_order(state, 0)]
    env.restore(snapshot)
    return steering, [row for row in order if row >= view.num_running]


def differences(expected: EngineSteering, found: EngineSteering) -> list[str]:
    """Names of the parts in which two Steerings differ."""
    different = [name for name in KNOBS if getattr(expected, name) != getattr(found, name)]
    return different + [
        name
        for name in ("waiting_score", "running_score", "preempt")
        if not np.array_equal(getattr(expected, name), getattr(found, name))
    ]
