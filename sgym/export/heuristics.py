"""Schedulers that come with sgym, evaluated on a view of an engine: one expression for all rows.

The same numbers as the kernels of `sgym.policies.orders`, which score a request at a time. Such a
policy is asked in every iteration, because its running requests change places as tokens come.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sgym.errors import PolicyError
from sgym.export.view import EngineSteering, EngineView

_RESERVE = ("reservation", "expected_output")
EXPORTABLE: dict[str, tuple[str, ...]] = {
    "stock": (),
    "vllm": (),
    "vllm-priority": (),
    "spf": ("aging", *_RESERVE),
    "sjf": ("aging", "prompt_weight", "output_weight", *_RESERVE),
    "srpt": ("aging", *_RESERVE),
    "edf": _RESERVE,
    "llf": ("prefill_time", *_RESERVE),
    "slack-victim": _RESERVE,
}
"""Names, and the parameters that each must have. `vllm-priority`: scores express its order of
admission and its victims, but not that vLLM leaves the order of `running` as it is."""


def check_parameters(policy: str, parameters: Mapping[str, Any], where: str) -> None:
    """Refuse what cannot be evaluated here.

    Args:
        policy: name of a built-in scheduler.
        parameters: all of its parameters.
        where: the file, for the error.

    Raises:
        PolicyError: the policy is not exportable, or its parameters are not those it has.
    """
    if policy not in EXPORTABLE:
        raise PolicyError(
            f"{where}: policy {policy!r} cannot be exported; these can: {', '.join(EXPORTABLE)}: "
            "others keep a state of their own, or decide over a cluster"
        )
    wanted = set(EXPORTABLE[policy])
    if set(parameters) != wanted:
        raise PolicyError(
            f"{where}: parameters of {policy!r} must be {', '.join(sorted(wanted)) or 'none'}, got "
            f"{', '.join(sorted(parameters)) or 'none'}: export the policy again"
        )
    for name, value in parameters.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
            raise PolicyError(
                f"{where}: parameters.{name} must be a number of at least 0, got {value!r}: "
                "export the policy again"
            )


class Heuristic:
    """One of EXPORTABLE.

    Args:
        policy: its name.
        parameters: all that it has.
    """

    def __init__(self, policy: str, parameters: Mapping[str, float]) -> None:
        self.policy = policy
        self._parameters = {name: float(value) for name, value in parameters.items()}
        self._scores = _SCORES[policy]

    def decide(self, view: EngineView) -> EngineSteering:
        """What the policy says of this moment."""
        rows, limits = view.rows, view.limits
        waiting, running = self._scores(rows, self._parameters)
        reserve = view.reserve
        if self._parameters.get("reservation", 0.0) > 0.0 and view.num_waiting > 0:
            reserve = self._reserve(rows[: view.num_running], limits.block_size)
        return EngineSteering(
            waiting,
            running,
            np.zeros(len(rows), np.bool_),
            limits.max_num_batched_tokens,
            limits.max_num_seqs,
            0,
            reserve,
        )

    def _reserve(self, running: np.ndarray, block_size: int) -> int:
        """KV blocks for a share of what these are expected to generate still."""
        left = expected_output(running, self._parameters) - running["generated"]
        ahead = float(np.maximum(left, 0.0).sum())
        return int(self._parameters["reservation"] * ahead / block_size)


Scores = tuple[np.ndarray, np.ndarray]
Given = Mapping[str, float]


def expected_output(rows: np.ndarray, given: Given) -> np.ndarray:
    """Tokens that each is expected to generate in all: its prediction, else the mean."""
    predicted = rows["predicted"]
    return np.where(np.isnan(predicted), given["expected_output"], predicted)


def _nothing(rows: np.ndarray, given: Given) -> Scores:  # noqa: ARG001
    return np.zeros(len(rows)), np.zeros(len(rows))


def _by_priority(rows: np.ndarray, given: Given) -> Scores:  # noqa: ARG001
    scores = np.empty(len(rows))
    scores[np.lexsort((rows["arrival"], rows["priority"]))] = np.arange(len(rows), 0, -1)
    return scores, scores.copy()


def _spf(rows: np.ndarray, given: Given) -> Scores:
    return -(rows["prompt"] + given["aging"] * rows["arrival"]), np.zeros(len(rows))


def _sjf(rows: np.ndarray, given: Given) -> Scores:
    work = given["output_weight"] * expected_output(rows, given)
    aged = given["aging"] * rows["arrival"]
    return -(work + given["prompt_weight"] * rows["prompt"] + aged), np.zeros(len(rows))


def _srpt(rows: np.ndarray, given: Given) -> Scores:
    left = expected_output(rows, given) - rows["generated"]
    return -(left + given["aging"] * rows["arrival"]), -left


def _edf(rows: np.ndarray, given: Given) -> Scores:  # noqa: ARG001
    return -rows["due"], -rows["due"]


def _llf(rows: np.ndarray, given: Given) -> Scores:
    dry = rows["due"] + rows["lateness"]
    known = rows["prompt"] + rows["generated"]
    return -(dry - given["prefill_time"] * known), -dry


def _slack_victim(rows: np.ndarray, given: Given) -> Scores:  # noqa: ARG001
    return np.zeros(len(rows)), -(rows["due"] + rows["lateness"])


_SCORES: dict[str, Callable[[np.ndarray, Given], Scores]] = {
    "stock": _nothing,
    "vllm": _nothing,
    "vllm-priority": _by_priority,
    "spf": _spf,
    "sjf": _sjf,
    "srpt": _srpt,
    "edf": _edf,
    "llf": _llf,
    "slack-victim": _slack_victim,
}
