"""One request table from a scenario: arrivals, lengths, classes, tenants, predictions."""

import numpy as np

from sgym.config import Prediction, Scenario, Workload
from sgym.core.layout import ARRIVAL
from sgym.errors import ScenarioError
from sgym.workload.arrivals import arrival_times
from sgym.workload.classes import classes_by_share, named_classes, set_classes
from sgym.workload.conversations import converse
from sgym.workload.lengths import draw_lengths
from sgym.workload.prefixes import Requests, unshared, with_prefixes
from sgym.workload.replay import Replay, load_replay
from sgym.workload.streams import Purpose, stream


def generate(scenario: Scenario, seed: int) -> Requests:
    """The requests of one episode, warm start included.

    Args:
        scenario: its `workload`, `slo.classes` and `episode` are read.
        seed: of all random streams; the same scenario and seed give the same bytes.

    Returns:
        Requests, sorted by arrival, in [0, warm_start + duration) seconds, and what their prompts
        share. Those that the engine would refuse are in it; `describe` counts them.
    """
    workload = scenario.workload
    duration = scenario.episode.warm_start + scenario.episode.duration
    if workload.trace is not None:
        requests = _from_trace(load_replay(workload), workload, scenario, duration, seed)
    elif workload.prefixes is not None:
        requests = converse(scenario, workload.prefixes, duration, seed)
    else:
        requests = unshared(_from_generators(workload, scenario, duration, seed))
    rows = requests.arrivals
    if workload.max_output is not None:
        np.minimum(rows["output"], workload.max_output, out=rows["output"])
    rows["predicted"] = _predictions(workload.prediction, rows["output"], seed)
    return requests


def describe(scenario: Scenario, seed: int = 0) -> dict[str, float]:
    """What a workload looks like, in numbers, before it is simulated.

    Returns:
        requests, rate_rps, mean and largest prompt and output in tokens, and how many requests the
        engine's max_model_len does not allow: `prompt_too_long` (no room for one output token) and
        `sequence_too_long` (prompt and output together, these included); `prefix_hit_share` of all
        prompt tokens would be found in a prefix cache that forgets nothing.
    """
    drawn = generate(scenario, seed)
    requests = drawn.arrivals
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
        "prefix_hit_share": drawn.hit_share,
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
    user_class = classes_by_share(classes, len(times), seed)
    for index, part in enumerate(workload.lengths):
        if part.user_class is not None:
            user_class[component == index] = names.index(part.user_class)
    set_classes(requests, classes, user_class)
    return requests


def _from_trace(
    replay: Replay, workload: Workload, scenario: Scenario, duration: float, seed: int
) -> Requests:
    if replay.timed:
        times, rows = replay.window(workload, duration, seed)
    else:
        times = _times(workload, duration, seed)
        rows = replay.resample(len(times), seed, shuffle=workload.random_window)
    requests = _table(times, replay.prompt[rows], replay.output[rows])
    classes = scenario.slo.classes
    if replay.user_class is None:
        user_class = classes_by_share(classes, len(times), seed)
    else:
        user_class = named_classes(classes, replay.user_class[rows])
    set_classes(requests, classes, user_class)
    if replay.priority is not None:
        requests["priority"] = replay.priority[rows]
    if replay.tenant is not None:
        requests["tenant"] = replay.tenant[rows]
    if replay.prefixes is None:
        return unshared(requests)
    return with_prefixes(requests, replay.prefixes, rows)


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
