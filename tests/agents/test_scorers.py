"""Policies of few numbers: their shapes, their actions, their files."""

import numpy as np
import pytest
from toy_entries import SHORT, toy_entry

from agents.evolve import Learner, start_of
from agents.onnx_files import scorer_action
from agents.play import play
from agents.scorers import Scorer
from agents.tuning import Tuned
from sgym.envs import ColocatedEnv, DisaggregatedEnv, RouterEnv
from sgym.envs.lanes import Lanes
from sgym.export import describe, load_bundle, write_bundle


def made(name):
    if name == "colocated":
        return ColocatedEnv(action="index", num_slots=4, overrides=SHORT)
    if name == "disaggregated":
        return DisaggregatedEnv(action="index", num_slots=4, overrides=SHORT)
    return RouterEnv(overrides=SHORT)


def test_parameters_are_weights_limits_and_places():
    scorer = Scorer.of(made("disaggregated").plan)
    features, instance = len(scorer.requests), len(scorer.instances)
    assert scorer.context == (
        "waiting", "waiting_tokens", "free", "running", "overdue", "loss"
    )  # fmt: skip
    assert scorer.sizes == {
        "waiting": (features,), "running": (features,), "limits": (4, 7), "place": (instance,)
    }  # fmt: skip
    assert scorer.size == 2 * features + 28 + instance
    parts = scorer.parts(np.arange(scorer.size, dtype=float))
    assert parts["running"][0] == features
    assert parts["limits"][0].tolist() == [2 * features + k for k in range(7)]


def test_other_actions_have_no_scorer():
    with pytest.raises(ValueError, match="action='index' or 'route', got 'knobs'"):
        Scorer.of(ColocatedEnv(action="knobs").plan)


@pytest.mark.parametrize("name", ["colocated", "disaggregated"])
def test_without_parameters_it_is_the_base(name):
    env = made(name)
    scorer = Scorer.of(env.plan)
    env.reset(seed=0)
    fleet = env._lanes.fleet
    seen = {"instances": fleet.instances, "cluster": fleet.cluster}
    action = scorer.act(np.zeros((1, scorer.size)), seen, None)
    assert action.shape == (1, *env.action_space.shape)
    assert not action.any()


def test_limits_follow_the_instance_that_asks():
    scorer = Scorer(("prompt",), ("asks", "free"), ("loss",), 2, schedules=True, places=False)
    parameters = np.zeros((1, scorer.size))
    limits = scorer.parts(parameters)["limits"]
    limits[0, 0] = [0.1, 0.5, 0.25]  # reserve: a constant, free, loss
    instances = np.array([[0.0, 0.9, 1.0, 0.4]])  # the second one asks, and has 0.4 free
    action = scorer.act(parameters, {"instances": instances, "cluster": np.array([[0.2]])}, None)
    assert action[0].tolist() == pytest.approx([0.0, 0.0, 0.1 + 0.2 + 0.05, 0.0, 0.0, 0.0])


def test_a_router_names_the_open_instance_with_the_highest_score():
    scorer = Scorer(("prompt",), ("free",), (), 3, schedules=False, places=True)
    seen = {"instances": np.array([[0.2, 0.9, 0.5]]), "cluster": np.zeros((1, 0))}
    assert scorer.act(np.ones((1, 1)), seen, np.array([[1, 1, 1]])).tolist() == [1]
    assert scorer.act(np.ones((1, 1)), seen, np.array([[1, 0, 1]])).tolist() == [2]
    assert scorer.act(-np.ones((1, 1)), seen, np.array([[0, 1, 1]])).tolist() == [2]


@pytest.mark.parametrize("name", ["colocated", "disaggregated", "router"])
def test_its_file_decides_alike(name, tmp_path):
    env = made(name)
    scorer = Scorer.of(env.plan)
    parameters = 0.3 * np.random.default_rng(0).normal(size=scorer.size)
    about = describe(env, "toy", scenario="tiny", provenance={}, card="a toy")
    bundle = load_bundle(write_bundle(tmp_path / "toy", scorer_action(scorer, parameters), about))
    observation, info = env.reset(seed=0)
    for _ in range(60):
        seen = {part: values[None] for part, values in observation.items()}
        masks = env._lanes.fleet.masks
        expected = scorer.act(parameters[None], seen, masks if masks.size else None)[0]
        action = bundle.policy.act(observation, info.get("action_mask"))
        np.testing.assert_allclose(action, expected, atol=1e-6)
        observation, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break


def test_an_episode_of_many_lanes_earns_what_single_ones_do():
    env = ColocatedEnv(action="index", num_slots=2, overrides=SHORT)
    zeros = np.zeros(env.action_space.shape)
    lanes = Lanes(env.plan, 3)
    found = play(lanes, [4, 5, 6], lambda seen, masks: np.zeros((3, len(zeros))))
    for seed, earned in zip([4, 5, 6], found, strict=True):
        env.reset(options={"workload_seed": seed})
        over = False
        while not over:
            *_, terminated, truncated, info = env.step(zeros)
            over = terminated or truncated
        assert earned == pytest.approx(info["smooth_goodput"], abs=1e-9)


def test_a_search_starts_with_the_tuned_limits_of_its_base():
    learner = Learner.of(toy_entry())
    engine = {
        "max_num_seqs": 16.0, "max_num_batched_tokens": 128.0, "long_prefill_token_threshold": 512.0
    }  # fmt: skip
    tuned = Tuned("spf", None, {"reservation": 0.45}, engine, 0.0, 0.0, 1)
    limits = learner.scorer.parts(start_of(learner, [tuned]))["limits"]
    assert limits[:, 0].tolist() == pytest.approx([0.5, -0.5, -1 / 6, 0.0])  # of 512 and 32 seats
    assert not limits[:, 1:].any()
    assert not start_of(learner, []).any()
