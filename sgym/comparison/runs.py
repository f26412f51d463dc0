"""One run of a comparison: (policy, rate, seed) -> a row of metrics, here or in a worker."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from sgym.config import Scenario
from sgym.envs import ColocatedEnv
from sgym.errors import PolicyError
from sgym.export import is_bundle, simulate
from sgym.loading import load_scenario


class Task(NamedTuple):
    """What one run simulates. `policy` is a name, a class or an object."""

    label: str
    policy: Any
    rate: float
    seed: int

    @property
    def is_own(self) -> bool:
        """Whether the policy is Python of the user's, not a built-in or a bundle."""
        if is_bundle(self.policy):
            return False
        return not isinstance(self.policy, str) or ":" in self.policy


class Finished(NamedTuple):
    """What a run was worth, and what it warned of."""

    task: Task
    metrics: dict[str, float]
    warnings: tuple[str, ...]


def at_rate(scenario: Scenario, rate: float) -> Scenario:
    """The scenario with another request rate, in requests per second."""
    return load_scenario(scenario, {"workload.rate": rate})


def run(scenario: Scenario, task: Task) -> Finished:
    """Simulate one task."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = simulate(at_rate(scenario, task.rate), task.policy, task.seed)
        metrics = result.summary
    return Finished(task, metrics, tuple(str(warning.message) for warning in caught))


def warm_up(own_policy: bool, bundle: bool = False) -> None:
    """Compile or load all kernels once, so that workers find them in the cache.

    Args:
        own_policy: also those that only a policy in Python calls.
        bundle: also those of environments, in which bundles decide.
    """
    from sgym.policies.steering import Steering

    class Neutral:
        def schedule(self, view: Any) -> Steering:
            return Steering(waiting_score={request.id: 1.0 for request in view.waiting})

    scenario = {
        "engine": {"num_gpu_blocks": 64, "max_model_len": 256},
        "latency": {"linear": {"iteration": 0.01}},
        "workload": {"rate": 4.0, "lengths": [{"prompt": 16, "output": 2}]},
        "episode": {"duration": 1.0},
    }
    simulate(scenario, "vllm")
    if own_policy:
        simulate(scenario, Neutral())
    if bundle:
        ColocatedEnv(scenario).reset(seed=0)


def become_worker(path: list[str]) -> None:
    """Workers leave Ctrl-C to their parent, end with it, and import what it can."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = path
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot tell its workers, which would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def check_picklable(tasks: Sequence[Task]) -> None:
    """Raise a PolicyError for a policy that cannot be sent to another process."""
    for policy in {id(task.policy): task.policy for task in tasks}.values():
        try:
            pickle.dumps(policy)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise PolicyError(
                f"policy {policy!r} cannot be sent to another process ({error}): "
                "define it in a module of its own, or use jobs=1"
            ) from None
