"""The VecEnv over the native vector environment, as Stable-Baselines3 and sb3-contrib use it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from sgym.envs.sb3 import SgymVecEnv
from sgym.errors import SgymError

SHORT = {"episode.duration": 3.0, "workload.rate": 12.0}


def made(count=3, action="knobs", **arguments):
    return SgymVecEnv(
        "sgym/Colocated-v0", count, overrides=SHORT, action=action, num_slots=8, **arguments
    )


def test_it_does_what_single_environments_do_in_a_dummy_vec_env():
    def one():
        return gym.make("sgym/Colocated-v0", overrides=SHORT, action="knobs", num_slots=8)

    ours, theirs = made(), DummyVecEnv([one] * 3)
    ours.seed(5)
    theirs.seed(5)
    seen, again = ours.reset(), theirs.reset()
    num_ended = 0
    for step in range(250):
        assert all(seen[part].tobytes() == again[part].tobytes() for part in seen)
        actions = np.array([step % 45, 0, 9])
        seen, rewards, dones, infos = ours.step(actions)
        again, their_rewards, their_dones, their_infos = theirs.step(actions)
        assert rewards.tolist() == their_rewards.tolist()
        assert dones.tolist() == their_dones.tolist()
        for k in np.flatnonzero(dones):
            num_ended += 1
            last, their_last = infos[k], their_infos[k]
            assert last["TimeLimit.truncated"] == their_last["TimeLimit.truncated"]
            assert last["smooth_goodput"] == their_last["smooth_goodput"]
            for part, values in last["terminal_observation"].items():
                assert values.tobytes() == their_last["terminal_observation"][part].tobytes()
    assert num_ended > 3


def test_masks_come_as_one_array():
    env = made()
    env.reset()
    assert is_masking_supported(env)
    masks = env.env_method("action_masks")
    assert masks.dtype == np.bool_
    assert masks.shape == (3, 45)
    assert get_action_masks(env).tolist() == masks.tolist()
    assert env.env_method("action_masks", indices=[1]).tolist() == masks[1:2].tolist()


def test_a_workload_may_be_chosen_by_options():
    env = made()
    env.set_options({"workload_seed": 11})
    env.reset()
    assert env.get_attr("workload_seeds")[0].tolist() == [11, 11, 11]


def test_episodes_are_monitored():
    env = VecMonitor(made(), info_keywords=("smooth_goodput",))
    env.reset()
    for _ in range(300):
        _, _, dones, infos = env.step(np.zeros(3, int))
        if dones.any():
            info = infos[int(dones.argmax())]
            assert info["episode"]["smooth_goodput"] == pytest.approx(info["episode"]["r"], abs=1.0)
            return
    raise AssertionError("no episode ended")


def test_other_environments_are_refused():
    with pytest.raises(SgymError, match="CartPole-v1' is no environment of sgym"):
        SgymVecEnv("CartPole-v1", 2)


def test_a_model_is_saved_and_its_predictions_are_the_same_afterwards(tmp_path):
    torch.set_num_threads(1)
    env = made(action="slots")
    model = PPO("MultiInputPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0)
    model.learn(48)
    model.save(tmp_path / "model")
    seen = env.reset()
    again = PPO.load(tmp_path / "model", env=env)
    assert again.predict(seen, deterministic=True)[0].tolist() == (
        model.predict(seen, deterministic=True)[0].tolist()
    )


def mean_goodput(env, choose, episodes=24):
    """Mean smooth goodput of the first episodes that end, all environments together."""
    env.seed(1000)
    seen, found = env.reset(), []
    while len(found) < episodes:
        seen, _, dones, infos = env.step(choose(seen))
        found += [infos[k]["smooth_goodput"] for k in np.flatnonzero(dones)]
    return float(np.mean(found))


@pytest.mark.slow
def test_a_short_maskable_training_beats_random_choices():
    torch.set_num_threads(1)
    busy = {"episode.duration": 8.0, "workload.rate": 16.0}
    arguments = {"overrides": busy, "action": "knobs", "num_slots": 8}
    env = SgymVecEnv("sgym/Colocated-v0", 16, **arguments)
    model = MaskablePPO(
        "MultiInputPolicy", env, n_steps=128, batch_size=512, n_epochs=4, gamma=0.995, seed=0
    )
    random = np.random.default_rng(0)

    def any_valid(_):
        return np.array([random.choice(np.flatnonzero(mask)) for mask in masks()])

    def masks():
        return env.env_method("action_masks")

    def learned(seen):
        return model.predict(seen, deterministic=True, action_masks=masks())[0]

    at_random = mean_goodput(env, any_valid)
    model.learn(30_000)
    assert mean_goodput(env, learned) > at_random
