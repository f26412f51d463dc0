"""One request table from a scenario: arrivals, lengths, classes, tenants, predictions."""

import numpy as np

from sgym.config import Prediction, Scenario, UserClass, Workload
from sgym.core.layout import ARRIVAL
from sgym.errors import ScenarioError
from sgym.workload.arrivals import arrival_times
from sgym.workload.lengths import draw_lengths, pick_by_share
from sgym.workload.replay import Replay, load_replay
from sgym.workload.streams import Purpose, stream


def generate(scenario: Scenario, seed: int) -> np.ndarray:
    """The requests of one episode, warm start included.

    Args:
        scenario: its `workload`, `slo.classes` and `episode` are read.
        seed: of all random streams; the same scenario and seed give the same bytes.

    Returns:
        ARRIVAL (n,), sorted by arrival, in [0, warm_start + duration) seconds. Requests that the
        engine would refuse are in it; `describe` counts them.
    """
    workload = scenario.workload
    duration = scenario.episode.warm_start + scenario.episode.duration
    if workload.trace is None:
        requests = _from_generators(workload, scenario, duration, seed)
    else:
        requests = _from_trace(load_replay(workload), workload, scenario, duration, seed)
    if workload.max_output is not None:
        np.minimum(requests["output"], workload.max_output, out=requests["output"])
    requests["predicted"] = _predictions(workload.prediction, requests["output"], seed)
    return requests


def describe(scenario: Scenario, seed: int = 0) -> dict[str, float]:
    """What a workload looks like, in numbers, before it is simulated.

    Returns:
        requests, rate_rps, mean and largest prompt and output in tokens, and how many requests the
        engine's max_model_len does not allow: `prompt_too_long` (no room for one output token) and
        `sequence_too_long` (prompt and output together, these included).
    """
    requests = generate(scenario, seed)
    duration = scenario.episode.warm_start + scenario.episode.duration
    prompt, output = requests["prompt"].astype(float), requests["output"].astype(float)
    limit = scenario.engine.max_model_len
    return {
        "requests": float(len(requests)),
        "rate_rps": len(requests) / duration,
        "prompt_mean": float(prompt.mean()) if len(requests) else 0.0,
        "prompt_max": float(prompt.max(initial=0.0)),
        "output_mean": float(output.mean()) if len(requests) else 0.0,
        "output_max": float(output.max(initial=0.0)),
        "prompt_too_long": float(np.count_nonzero(prompt > limit - 1)),
        "sequence_too_long": float(np.count_nonzero(prompt + output > limit)),
    }


def _from_generators(
    workload: Workload, scenario: Scenario, duration: float, seed: int
) -> np.ndarray:
    times = _times(workload, duration, seed)
    prompt, output, component = draw_lengths(
        workload.lengths, len(times), seed, workload.max_prompt
    )
    requests = _table(times, prompt, output)
    classes = scenario.slo.classes
    names = [user.name for user in classes]
    user_class = _classes_by_share(classes, len(times), seed)
    for index, part in enumerate(workload.lengths):
        if part.user_class is not None:
            user_class[component == index] = names.index(part.user_class)
    _set_classes(requests, classes, user_class)
    return requests


def _from_trace(
    replay: Replay, workload: Workload, scenario: Scenario, duration: float, seed: int
) -> np.ndarray:
    if replay.timed:
        times, rows = replay.window(workload, duration, seed)
    else:
        times = _times(workload, duration, seed)
        rows = replay.resample(len(times), seed, shuffle=workload.random_window)
    requests = _table(times, replay.prompt[rows], replay.output[rows])
    classes = scenario.slo.classes
    if replay.user_class is None:
        user_class = _classes_by_share(classes, len(times), seed)
    else:
        user_class = _named_classes(classes, replay.user_class[rows])
    _set_classes(requests, classes, user_class)
    if replay.priority is not None:
        requests["priority"] = replay.priority[rows]
    if replay.tenant is not None:
        requests["tenant"] = replay.tenant[rows]
    return requests


def _times(workload: Workload, duration: float, seed: int) -> np.ndarray:
    if workload.rate is None:
        raise ScenarioError(
            f"workload.trace {workload.trace!r} has no time stamps: give workload.rate (requests "
            "per second), and workload.arrivals if they should not be Poisson"
        )
    return arrival_times(workload.arrivals, workload.rate, duration, seed, workload.num_requests)


def _table(times: np.ndarray, prompt: np.ndarray, output: np.ndarray) -> np.ndarray:
    requests = np.zeros(len(times), ARRIVAL)
    requests["arrival"], requests["prompt"], requests["output"] = times, prompt, output
    return requests


def _classes_by_share(classes: tuple[UserClass, ...], count: int, seed: int) -> np.ndarray:
    if len(classes) == 1:
        return np.zeros(count, np.int64)
    uniforms = stream(seed, Purpose.CLASSES).random(count)
    return pick_by_share([user.share for user in classes], uniforms)


def _named_classes(classes: tuple[UserClass, ...], values: np.ndarray) -> np.ndarray:
    """Indexes of classes that a trace names, by name or by index."""
    known = {user.name: index for index, user in enumerate(classes)}
    known |= {str(index): index for index in range(len(classes)) if str(index) not in known}
    kinds, inverse = np.unique(values, return_inverse=True)
    unknown = [str(kind) for kind in kinds if kind not in known]
    if unknown:
        raise ScenarioError(
            f"the trace has user_class {unknown[0]!r}, but slo.classes has "
            f"{', '.join(user.name for user in classes)}: rename it or add the class"
        )
    return np.array([known[kind] for kind in kinds], np.int64)[inverse]


def _set_classes(
    requests: np.ndarray, classes: tuple[UserClass, ...], user_class: np.ndarray
) -> None:
    """Write user_class, and the priority and tenant that follow from it."""
    requests["user_class"] = requests["tenant"] = user_class
    requests["priority"] = np.array([user.priority for user in classes], np.int32)[user_class]


def _predictions(prediction: Prediction, output: np.ndarray, seed: int) -> np.ndarray | float:
    """Tokens that a length predictor foretells; float (n,)."""
    if prediction.kind == "oracle":
        return output
    if prediction.kind == "noisy":
        normals = stream(seed, Purpose.PREDICTIONS).standard_normal(len(output))
        return np.maximum(output * np.exp(prediction.sigma * normals), 1.0)
    if prediction.kind == "bucket":
        bounds = np.sort(prediction.buckets)  # outputs above the last bound are told the last bound
        return bounds[np.minimum(np.searchsorted(bounds, output), len(bounds) - 1)]
    return np.nan
