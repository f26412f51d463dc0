"""Stock algorithms train on it; what they save and predict is of use."""

import numpy as np
import pytest
import torch
from playing import SPLIT, TOY, UNEQUAL
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

pytestmark = pytest.mark.slow
ARGUMENTS = {"scenario": TOY, "num_slots": 8}
SHORT = {"n_steps": 256, "batch_size": 256, "n_epochs": 1, "device": "cpu", "seed": 0}


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks are faster so, above all where several tests run at once."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("action", ["slots", "scores", "knobs", "index"])
def test_ppo_trains_and_survives_saving(action, tmp_path):
    envs = make_vec_env("sgym/Colocated-v0", 2, seed=0, env_kwargs={**ARGUMENTS, "action": action})
    model = PPO("MultiInputPolicy", envs, **SHORT).learn(2048)
    model.save(tmp_path / "model.zip")
    again = PPO.load(tmp_path / "model.zip", device="cpu")
    observation = envs.reset()
    one, other = (m.predict(observation, deterministic=True)[0] for m in (model, again))
    assert np.array_equal(one, other)
    envs.step(one)
    assert len(model.ep_info_buffer) > 0


@pytest.mark.parametrize("action", ["slots", "knobs"])
def test_maskable_ppo_trains_and_predicts_legal_actions(action, tmp_path):
    envs = make_vec_env("sgym/Colocated-v0", 2, seed=0, env_kwargs={**ARGUMENTS, "action": action})
    model = MaskablePPO("MultiInputPolicy", envs, **SHORT).learn(2048)
    model.save(tmp_path / "model.zip")
    model = MaskablePPO.load(tmp_path / "model.zip", device="cpu")
    observation = envs.reset()
    for _ in range(20):
        masks = np.stack(envs.env_method("action_masks"))
        actions, _ = model.predict(observation, action_masks=masks)
        observation, _, _, infos = envs.step(actions)
        assert all(info["invalid_actions"] == 0 for info in infos)


@pytest.mark.parametrize("algorithm", [PPO, MaskablePPO])
def test_routing_is_learnt_by_stock_algorithms(algorithm, tmp_path):
    envs = make_vec_env("sgym/Router-v0", 2, seed=0, env_kwargs={"scenario": UNEQUAL})
    model = algorithm("MultiInputPolicy", envs, **SHORT).learn(2048)
    model.save(tmp_path / "model.zip")
    model = algorithm.load(tmp_path / "model.zip", device="cpu")
    observation = envs.reset()
    for _ in range(20):
        masks = np.stack(envs.env_method("action_masks"))
        masked = {"action_masks": masks} if algorithm is MaskablePPO else {}
        actions, _ = model.predict(observation, deterministic=True, **masked)
        observation, _, _, infos = envs.step(actions)
        if masked:
            assert all(info["invalid_actions"] == 0 for info in infos)


@pytest.mark.parametrize("action", ["slots", "knobs"])
def test_maskable_ppo_trains_on_a_split_cluster(action):
    arguments = {"scenario": SPLIT, "num_slots": 8, "action": action}
    envs = make_vec_env("sgym/Disaggregated-v0", 2, seed=0, env_kwargs=arguments)
    model = MaskablePPO("MultiInputPolicy", envs, **SHORT).learn(1024)
    masks = np.stack(envs.env_method("action_masks"))
    actions, _ = model.predict(envs.reset(), action_masks=masks)
    envs.step(actions)
    assert len(model.ep_info_buffer) > 0
