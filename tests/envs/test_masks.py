"""Which actions are valid: three views of one mask."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces.utils import flatdim
from playing import make, play, toy

from sgym.envs import MaskInObs
from sgym.envs.actions import KNOBS, VERBS
from sgym.errors import SgymError

ORCA = {
    "policy": {"name": "orca"},
    "engine": {
        "max_num_batched_tokens": 512,
        "max_model_len": 256,
        "num_gpu_blocks": 64,
        "max_num_seqs": 6,
    },
}


def flat(mask):
    return np.concatenate(mask) if isinstance(mask, tuple) else mask


@pytest.mark.parametrize("action", ["slots", "knobs"])
def test_the_three_views_agree_and_something_is_always_valid(action):
    env = make(action)
    wrapped = MaskInObs(env)
    observation, info = wrapped.reset(seed=0)
    for _ in range(30):
        bits = env.action_masks()
        assert bits.dtype == np.bool_
        assert bits.tolist() == flat(info["action_mask"]).astype(bool).tolist()
        assert bits.tolist() == observation["action_mask"].astype(bool).tolist()
        assert observation in wrapped.observation_space
        mask = info["action_mask"]
        factors = mask if isinstance(mask, tuple) else (mask,)
        assert all(factor.any() and factor.dtype == np.int8 for factor in factors)
        taken = env.action_space.sample(mask=mask)
        observation, *_, info = wrapped.step(taken)
        assert info["invalid_actions"] == 0


def test_a_mask_in_the_observation_is_as_long_as_the_choices():
    env = MaskInObs(make("slots"))
    assert env.observation_space["action_mask"].shape == (flatdim(env.action_space),) == (44,)
    whole = sum(box.shape[0] for box in env.env.observation_space.spaces.values())
    assert env.observation_space["observations"].shape == (whole,)


def test_box_actions_have_no_mask():
    env = make("scores")
    _, info = env.reset(seed=0)
    assert "action_mask" not in info
    with pytest.raises(SgymError, match="Box"):
        env.action_masks()
    with pytest.raises(SgymError, match="MaskInObs needs"):
        MaskInObs(env)


def steps_to_a_full_house(env):
    """Play neutrally until requests run and wait and slots are empty."""
    neutral = np.zeros(env.action_space.shape, int)
    _, info = env.reset(seed=0)
    while True:
        slots = env._desk.slots
        instance = env._simulator.state.instances[0]
        if (slots < 0).any() and instance["num_running"] and instance["num_waiting"]:
            return info
        info = env.step(neutral)[4]


@pytest.mark.parametrize("allowed", [False, True])
def test_verbs_are_valid_for_the_requests_that_they_apply_to(allowed):
    env = make("slots", allow_reject=allowed, decision="iteration")
    info = steps_to_a_full_house(env)
    phases = env._simulator.state.requests["phase"]
    for slot, mask in zip(env._desk.slots, info["action_mask"], strict=False):
        valid = [verb for verb, bit in zip(VERBS, mask, strict=True) if bit]
        if slot < 0:
            assert valid == ["neutral"]
        elif phases[slot] == 2:
            assert valid == ["neutral", "preempt", "promote"]
        else:
            assert valid == ["neutral", "promote", "hold", *(["reject"] if allowed else [])]


def test_every_invalid_verb_changes_nothing_and_is_counted():
    env = make("slots", decision="iteration")
    info = steps_to_a_full_house(env)
    here = env.snapshot()
    neutral = np.zeros(9, int)
    expected = env.step(neutral)
    for slot, mask in enumerate(info["action_mask"][:-1]):
        for verb in np.flatnonzero(mask == 0):
            env.restore(here)
            wrong = neutral.copy()
            wrong[slot] = verb
            observation, reward, *_, found = env.step(wrong)
            assert found["invalid_actions"] == 1
            assert reward == expected[1]
            assert observation["requests"].tolist() == expected[0]["requests"].tolist()


def test_engines_that_do_not_split_prompts_have_one_budget():
    scenario = toy() | {"policy": {"name": "orca"}}
    scenario["engine"] = toy()["engine"] | {"max_model_len": 128, "max_num_batched_tokens": 512}
    env = make("slots", scenario=scenario)
    _, info = env.reset(seed=0)
    assert info["action_mask"][-1].tolist() == [1, 0, 0, 0]
    assert env.step(np.array([0] * 8 + [2]))[4]["invalid_actions"] == 1
    knobs = make("knobs", scenario=scenario)
    _, info = knobs.reset(seed=0)
    gentle = [place for place, knob in enumerate(KNOBS) if knob.limit == "gentle"]
    assert not info["action_mask"][gentle].any()
    assert knobs.step(gentle[0])[4]["invalid_actions"] == 1
    assert play(knobs)[-1][4]["throughput_tok_s"] > 0


def test_a_mask_survives_the_wrappers_of_make():
    env = gym.make("sgym/Colocated-v0", action="knobs")
    env.reset(seed=0)
    assert env.get_wrapper_attr("action_masks")().shape == (45,)
