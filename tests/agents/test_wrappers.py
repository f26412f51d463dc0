import numpy as np
import pytest
import torch
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import VecNormalize

import sgym
from agents.semi_markov import Clock, SemiMarkovBuffer, advantages
from agents.wrappers import MixedVecEnv, PairedReward, reference_return
from sgym.envs.sb3 import SgymVecEnv

SHORT = {"episode.duration": 3.0, "workload.rate": 12.0}


def made(count=2, **changes):
    overrides = {**SHORT, **changes}
    return SgymVecEnv(num_envs=count, overrides=overrides, action="knobs", num_slots=8)


def test_advantages_are_discounted_step_by_step():
    rewards = np.array([[1.0], [2.0]])
    values = np.array([[10.0], [20.0], [30.0]])
    goes_on = np.ones((2, 1))
    discounts = np.array([[0.5], [0.1]])
    found = advantages(rewards, values, goes_on, discounts, gae_lambda=0.5)
    second = 2.0 + 0.1 * 30.0 - 20.0  # -15
    first = 1.0 + 0.5 * 20.0 - 10.0 + 0.5 * 0.5 * second  # 1 - 3.75
    assert found.ravel().tolist() == [first, second] == [-2.75, -15.0]


def test_nothing_counts_that_comes_after_the_end_of_an_episode():
    rewards, values = np.array([[1.0], [2.0]]), np.array([[10.0], [20.0], [30.0]])
    goes_on = np.array([[0.0], [1.0]])
    found = advantages(rewards, values, goes_on, np.ones((2, 1)), gae_lambda=1.0)
    assert found.ravel().tolist() == [1.0 - 10.0, 2.0 + 30.0 - 20.0]


def test_a_constant_discount_gives_what_the_buffer_of_sb3_gives():
    env = Clock(made())
    buffers = [
        kind(4, env.observation_space, env.action_space, "cpu", gae_lambda=0.9, gamma=0.8, n_envs=2)
        for kind in (SemiMarkovBuffer, SemiMarkovBuffer.__mro__[2])
    ]
    ours, theirs = buffers
    ours.watch(env, 0.8)
    random, seen = np.random.default_rng(0), env.reset()
    starts = np.ones(2, bool)
    for _ in range(4):
        env.seconds = np.ones(2)
        rewards, values = random.normal(size=2), torch.as_tensor(random.normal(size=2))
        for buffer in buffers:
            buffer.add(seen, np.zeros(2), rewards, starts, values, torch.zeros(2))
        starts = random.random(2) < 0.4
    last = torch.as_tensor(random.normal(size=2))
    for buffer in buffers:
        buffer.compute_returns_and_advantage(last, starts)
    assert np.allclose(ours.advantages, theirs.advantages, atol=1e-6)
    assert np.allclose(ours.returns, theirs.returns, atol=1e-6)


def test_the_discount_of_a_step_is_that_of_its_seconds():
    env = Clock(made())
    buffer = SemiMarkovBuffer(2, env.observation_space, env.action_space, "cpu", n_envs=2)
    seen = env.reset()
    with pytest.raises(RuntimeError, match=r"call watch\(\) before learning"):
        buffer.add(seen, np.zeros(2), np.zeros(2), np.ones(2), torch.zeros(2), torch.zeros(2))
    buffer.watch(env, 0.9)
    seen, *_, infos = env.step(np.zeros(2, int))
    buffer.add(seen, np.zeros(2), np.zeros(2), np.ones(2), torch.zeros(2), torch.zeros(2))
    assert buffer.discounts[0] == pytest.approx([0.9 ** info["dt"] for info in infos])


def test_the_paired_return_is_the_gain_over_the_reference_on_the_same_workload():
    env = PairedReward(made(3), "spf")
    env.seed(7)
    env.reset()
    seeds, total = env.get_attr("workload_seeds")[0].tolist(), np.zeros(3)
    checked = 0
    for _ in range(400):
        _, rewards, dones, infos = env.step(np.full(3, 4))
        total += rewards
        for k in np.flatnonzero(dones):
            expected = reference_return(env.scenario, "spf", seeds[k])
            assert infos[k]["reference"] == expected
            assert total[k] == pytest.approx(infos[k]["smooth_goodput"] - expected, abs=1e-3)
            seeds[k], total[k] = int(env.get_attr("workload_seeds")[0][k]), 0.0
            checked += 1
    assert checked > 5


def test_the_reference_is_simulated_on_the_scenario_of_the_environment():
    scenario = made(1).get_attr("scenario")[0]
    expected = sgym.simulate(scenario, "spf", 5).summary["smooth_goodput"]
    assert reference_return(scenario, "spf", 5) == expected


def test_a_mixture_does_what_its_parts_do():
    slow, fast = {"workload.rate": 6.0}, {"workload.rate": 20.0}
    mixed = MixedVecEnv([made(2, **slow), made(1, **fast)])
    alone = [made(2, **slow), made(1, **fast)]
    mixed.seed(4)
    alone[0].seed(4)
    alone[1].seed(6)
    seen, parts = mixed.reset(), [env.reset() for env in alone]
    actions = np.array([0, 9, 4])
    for _ in range(60):
        for name in seen:
            expected = np.concatenate([part[name] for part in parts])
            assert seen[name].tobytes() == expected.tobytes()
        masks = np.concatenate([env.env_method("action_masks") for env in alone])
        assert get_action_masks(mixed).tolist() == masks.tolist()
        seen, rewards, dones, infos = mixed.step(actions)
        steps = [alone[0].step(actions[:2]), alone[1].step(actions[2:])]
        parts = [step[0] for step in steps]
        assert rewards.tolist() == [x for step in steps for x in step[1].tolist()]
        assert dones.tolist() == [x for step in steps for x in step[2].tolist()]
        assert [info["dt"] for info in infos] == [i["dt"] for step in steps for i in step[3]]
    assert is_masking_supported(VecNormalize(mixed, norm_obs=False))
    assert [s.workload.rate for s in mixed.get_attr("scenario")] == [6.0, 6.0, 20.0]
    assert mixed.env_method("action_masks", indices=[2]).shape == (1, 45)
    assert mixed.env_is_wrapped(VecNormalize) == [False] * 3
    mixed.set_attr("copy", True)
    mixed.close()


def test_parts_of_different_spaces_are_refused():
    other = SgymVecEnv(num_envs=1, overrides=SHORT, action="knobs", num_slots=4)
    with pytest.raises(ValueError, match="same observation_space, but that of number 1"):
        MixedVecEnv([made(1), other])
    with pytest.raises(ValueError, match="at least one vector environment, got none"):
        MixedVecEnv([])
