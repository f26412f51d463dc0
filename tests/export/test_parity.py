"""onnxruntime decides as numpy does, on states recorded from environments, ties included."""

import numpy as np
import pytest
from graphs import dynamic, linear, one_row
from playing import make, make_router, make_split, sampled

from agents.onnx_files import constant_action, instance_scores, linear_action
from sgym.errors import PolicyError
from sgym.export import OnnxPolicy


def recorded(env, count):
    """Observations and flat masks (None for Box) of random play."""
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    states = []
    for _ in range(count):
        masked = "action_mask" in info
        states.append((observation, env.action_masks() if masked else None))
        observation, _, terminated, truncated, info = env.step(sampled(env, info))
        if terminated or truncated:
            observation, info = env.reset()
    return states


def numpy_choice(logits, mask, factors):
    """The highest allowed one of each factor, the first of equal ones, in the plainest way."""
    chosen, start = [], 0
    for size in factors:
        best = max(range(size), key=lambda k: (logits[start + k] if mask[start + k] else -1e9, -k))
        chosen.append(best)
        start += size
    return chosen


@pytest.mark.parametrize("mask", ["", "bool"])
@pytest.mark.parametrize("kind", ["slots", "slots of a cluster", "knobs"])
def test_choices_are_those_of_numpy(kind, mask):
    env = {
        "slots": lambda: make("slots"),
        "slots of a cluster": lambda: make_split("slots"),
        "knobs": lambda: make("knobs"),
    }[kind]()
    space = env.action_space
    factors = [int(space.n)] if kind == "knobs" else space.nvec.tolist()
    width = env.observation_space["requests"].shape[0]
    random = np.random.default_rng(1)
    weights = random.integers(-1, 2, (width, sum(factors))) * (random.random(sum(factors)) < 0.6)
    verbs = len(env.plan.layout.verbs)
    policy = OnnxPolicy(linear(weights, "requests", mask=mask), "p", type(space).__name__, 8, verbs)
    states = recorded(env, 300)
    equal = 0
    for observation, allowed in states:
        logits = observation["requests"].astype(np.float32) @ weights.astype(np.float32)
        action = policy.act(observation, allowed)
        assert np.ravel(action).tolist() == numpy_choice(np.round(logits, 4), allowed, factors) or (
            np.abs(np.diff(np.sort(logits))).min() < 1e-4
        )
        equal += int((logits == 0).sum() > 1)
    assert equal > 100

    observations = {part: np.stack([s[0][part] for s in states]) for part in states[0][0]}
    together = policy.act(observations, np.stack([s[1] for s in states]))
    alone = np.array([policy.act(*state) for state in states])
    np.testing.assert_array_equal(together, alone)


def test_of_equal_logits_the_first_allowed_one_wins():
    env = make("slots")
    observation, _ = env.reset(seed=0)
    width = env.observation_space["cluster"].shape[0]
    policy = OnnxPolicy(linear(np.zeros((width, 44))), "p", "MultiDiscrete", 8, 5)
    mask = np.ones(44, bool)
    assert policy.act(observation, mask).tolist() == [0] * 9
    mask[[0, 1, 5]] = False
    mask[40:42] = False
    assert policy.act(observation, mask).tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 2]
    assert policy.act(observation).tolist() == [0] * 9


def test_a_linear_action_is_that_of_numpy_and_is_clipped():
    env = make("index")
    random = np.random.default_rng(2)
    inputs = {name: env.observation_space[name].shape[0] for name in ("instances", "cluster")}
    weights, bias = random.normal(size=(40, sum(inputs.values()))), random.normal(size=40)
    policy = OnnxPolicy(linear_action(weights, bias, inputs), "p", "Box")
    clipped = 0
    for observation, _ in recorded(env, 100):
        seen = np.concatenate([observation["instances"], observation["cluster"]])
        expected = weights @ seen + bias
        action = policy.act(observation)
        clipped += int((np.abs(expected) > 1).sum())
        assert action.dtype == np.float32
        np.testing.assert_allclose(action, np.clip(expected, -1, 1), atol=1e-5)
    assert clipped > 100


def test_a_constant_action_has_as_many_rows_as_it_is_asked_for():
    policy = OnnxPolicy(constant_action(np.array([0.5, -0.25, 3.0])), "p", "Box")
    assert policy.act({"cluster": np.zeros(7)}).tolist() == [0.5, -0.25, 1.0]
    assert policy.act({"cluster": np.zeros((2, 12))}).tolist() == [[0.5, -0.25, 1.0]] * 2


def test_scores_of_instances_are_those_of_numpy():
    env = make_router()
    features = len(env.seen["instances"])
    weights = np.random.default_rng(3).normal(size=features)
    policy = OnnxPolicy(instance_scores(weights), "p", "Discrete")
    for observation, mask in recorded(env, 100):
        scores = observation["instances"].reshape(3, features) @ weights
        assert policy.act(observation, mask) == np.argmax(np.where(mask, scores, -np.inf))


def test_weights_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"weights must have shape \(2, 5\), got \(2, 4\)"):
        linear_action(np.zeros((2, 4)), np.zeros(2), {"cluster": 5})


def test_what_a_graph_must_not_answer():
    observation = {"cluster": np.ones(3)}
    nan = OnnxPolicy(linear(np.full((3, 4), np.nan)), "p.onnx", "Discrete")
    with pytest.raises(PolicyError, match=r"p\.onnx: logits has NaN"):
        nan.act(observation)
    fine = OnnxPolicy(dynamic(linear(np.ones((3, 4)))), "p.onnx", "Discrete")
    with pytest.raises(PolicyError, match=r"logits have shape \(1, 4\), but the action mask"):
        fine.act(observation, np.ones(5))
    with pytest.raises(PolicyError, match=r"p\.onnx cannot be run: "):
        fine.act({"cluster": np.ones(5)})
    masked = OnnxPolicy(linear(np.ones((3, 4)), mask="float"), "p.onnx", "Discrete")
    with pytest.raises(PolicyError, match="give act\\(\\) the action mask"):
        masked.act(observation)
    alone = OnnxPolicy(linear(np.ones((3, 4)), rows=1), "p.onnx", "Discrete")
    with pytest.raises(PolicyError, match=r"p\.onnx cannot be run: "):
        alone.act({"cluster": np.ones((2, 3))}, np.ones((2, 4)))
    row = OnnxPolicy(one_row(3), "p.onnx", "Box")
    assert row.act(observation).tolist() == [0, 0, 0]
    with pytest.raises(PolicyError, match=r"action must have 2 rows, got shape \(1, 3\)"):
        row.act({"cluster": np.ones((2, 3))})
