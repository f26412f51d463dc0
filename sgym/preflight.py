"""What can be said of a scenario before it runs: requests nobody can serve, times not measured."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgym import profiles
from sgym.assembly import machines, readers, with_engine_of
from sgym.config import Scenario
from sgym.core import batch, build
from sgym.core.layout import ARRIVAL
from sgym.policies.registry import POLICIES, builtin
from sgym.workload import generate
from sgym.workload.replay import load_replay

SERVED = ["arrival", "prompt", "output", "user_class"]
"""What makes two workloads different ones; length predictions are beside them."""


@dataclass(frozen=True, slots=True)
class Unserved:
    """Requests of a workload that an engine can never serve, nor in whole."""

    requests: int  # looked at: the whole trace, or one generated episode
    refused: int  # never fit, not even alone
    cut: int  # end early because the model's context does
    example: tuple[int, int] | None  # prompt and output tokens of the largest refused one

    def __str__(self) -> str:
        """One sentence for people; empty if all can be served."""
        if not self.refused:
            return ""
        prompt, output = self.example or (0, 0)
        share = 100 * self.refused / self.requests
        return (
            f"{self.refused} of {self.requests} requests ({share:.3g} %) can never be served and "
            f"will be refused, such as one of {prompt} prompt and {output} output tokens"
        )


def unserved(scenario: Scenario, policy: str = "stock") -> Unserved:
    """Count the requests of a scenario that an engine under this built-in policy cannot serve.

    Args:
        scenario: its whole trace is looked at (`workload.window` apart), or the episode of seed 0.
        policy: a built-in's name, which may choose the engine.
    """
    fitted = with_engine_of(scenario, policy)
    prompt, output = _lengths(scenario)
    pairs, counts = np.unique(np.stack([prompt, output], axis=1), axis=0, return_counts=True)
    arrivals = np.zeros(len(pairs), ARRIVAL)
    arrivals["prompt"], arrivals["output"] = pairs[:, 0], pairs[:, 1]
    length = fitted.engine.max_model_len
    requests = build.fresh_requests(arrivals, readers(fitted.slo), length)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", profiles.ProfileWarning)
        engines, _ = machines(fitted)
    refused = np.array(
        [all(batch.never_fits(engine, request) for engine in engines) for request in requests], bool
    )
    cut = (requests["output"] < pairs[:, 1]) & ~refused
    largest = pairs[refused][np.argmax(pairs[refused].sum(axis=1))] if refused.any() else None
    return Unserved(
        requests=int(counts.sum()),
        refused=int(counts[refused].sum()),
        cut=int(counts[cut].sum()),
        example=None if largest is None else (int(largest[0]), int(largest[1])),
    )


def notes(scenario: Scenario, policies: Sequence[str] = ("stock",)) -> list[str]:
    """Sentences on what a person should know before these policies run on a scenario.

    Args:
        scenario: what is to be simulated.
        policies: names; those of a user's own run on the scenario's engine.

    Raises:
        SgymError: the scenario cannot run at all.
    """
    found: dict[str, list[str]] = {}
    for policy in policies:
        engine_of = policy if policy in POLICIES else scenario.policy.name
        for sentence in _about(scenario, engine_of):
            found.setdefault(sentence, []).append(policy)
    everywhere = len(policies)
    return [
        text if len(under) == everywhere else f"under {', '.join(under)}: {text}"
        for text, under in found.items()
    ]


def alike(scenario: Scenario) -> list[str]:
    """What to know before seeds are compared: a sentence if they all serve the same requests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = (generate(scenario, seed).arrivals[SERVED] for seed in (0, 1))
    if not np.array_equal(first, second):
        return []
    why = "nothing in the workload is random"
    if scenario.workload.trace is not None:
        why = "the trace, or its window, is no longer than the episode, or workload.random_window "
        why += "is false"
    return [f"all seeds serve the same requests, so intervals over seeds mean nothing: {why}"]


def _about(scenario: Scenario, policy: str) -> list[str]:
    fitted = with_engine_of(scenario, policy)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        machines(fitted)
        sentences = [str(unserved(scenario, policy))]
    if builtin(policy).router is not None:
        sentences.append(
            "it places requests itself: cluster.router, handoff and staleness are idle"
        )
    sentences += [str(warning.message) for warning in caught]
    return [sentence for sentence in dict.fromkeys(sentences) if sentence]  # pools may share one


def _lengths(scenario: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """Prompt and output tokens: int64 (n,) each."""
    workload = scenario.workload
    if workload.trace is None:
        requests = generate(scenario, 0).arrivals
        return requests["prompt"].astype(np.int64), requests["output"].astype(np.int64)
    replay = load_replay(workload)
    output = replay.output
    if workload.max_output is not None:
        output = np.minimum(output, workload.max_output)
    return replay.prompt, output
