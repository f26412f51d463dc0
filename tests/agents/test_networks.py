import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FlattenObservation
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from agents.encoder import SetExtractor, Tables, tables
from agents.networks import MaskableSchedulerPolicy, SchedulerPolicy
from sgym.envs.actions import HOLD, PREEMPT, REJECT
from sgym.envs.sb3 import SgymVecEnv

BUSY = {"episode.duration": 6.0, "workload.rate": 16.0}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def made(num_slots=8, action="slots", count=2, env_id="sgym/Colocated-v0", **more):
    more = {"overrides": BUSY, "num_slots": num_slots, "action": action, **more}
    return SgymVecEnv(env_id, count, **{k: v for k, v in more.items() if v is not None})


def routed(count=2):
    return made(None, None, count, "sgym/Router-v0", overrides=None)


def maskable(env, **policy):
    return MaskablePPO(
        MaskableSchedulerPolicy,
        env,
        n_steps=16,
        batch_size=32,
        n_epochs=1,
        seed=0,
        device="cpu",
        policy_kwargs=policy,
    )


def plain(env, **policy):
    return PPO(
        SchedulerPolicy,
        env,
        n_steps=16,
        batch_size=32,
        n_epochs=1,
        seed=0,
        device="cpu",
        policy_kwargs=policy,
    )


def tensors(seen):
    return {part: torch.as_tensor(values) for part, values in seen.items()}


def some_way_in(env, steps=40):
    """What is seen after some neutral steps, when both queues are filled."""
    env.seed(3)
    seen = env.reset()
    neutral = np.zeros((env.num_envs, *(env.action_space.shape or ())))
    for _ in range(steps):
        seen, *_ = env.step(neutral)
    return seen


def test_the_sizes_are_found_from_the_observation_space():
    env = gym.make("sgym/Colocated-v0", num_slots=10)
    assert tables(env.observation_space) == Tables(10, 18, 1, 15, 12)
    env = gym.make("sgym/Colocated-v0", num_slots=18, length_hint="oracle")
    assert tables(env.observation_space) == Tables(18, 19, 1, 15, 12)
    two = {"cluster.instances": 2}
    env = gym.make("sgym/Colocated-v0", overrides=two, extra_features=["time_left"])
    assert tables(env.observation_space) == Tables(64, 18, 2, 15, 13)
    env = gym.make("sgym/Disaggregated-v0", num_slots=6)
    sizes = tables(env.observation_space)
    assert sizes[:2] == (6, 20)
    assert sizes[2:4] == (env.unwrapped.scenario.cluster.num_instances, 28)
    with pytest.raises(ValueError, match="must be the Dict of requests, instances, cluster"):
        tables(gym.spaces.Box(0, 1, (3,)))


@pytest.mark.parametrize("attention", [False, True])
def test_empty_slots_and_the_order_of_slots_change_nothing_in_the_context(attention):
    env = made(16)
    seen = some_way_in(env)
    extractor = SetExtractor(env.observation_space, attention=attention)
    context = extractor(tensors(seen))
    rows = seen["requests"].reshape(2, 16, -1)
    order = np.random.default_rng(0).permutation(16)
    turned = {**seen, "requests": rows[:, order].reshape(2, -1)}
    assert torch.allclose(extractor(tensors(turned)), context, atol=1e-5)
    wide = SetExtractor(made(40).observation_space, attention=attention)
    wide.load_state_dict(extractor.state_dict())
    padded = np.concatenate([rows, np.zeros((2, 24, rows.shape[2]), np.float32)], 1)
    assert torch.allclose(
        wide(tensors({**seen, "requests": padded.reshape(2, -1)})), context, atol=1e-5
    )


def test_the_context_of_an_empty_observation_is_finite():
    env = made(4)
    nothing = {name: torch.zeros(1, *part.shape) for name, part in env.observation_space.items()}
    for attention in (False, True):
        extractor = SetExtractor(env.observation_space, attention=attention)
        assert torch.isfinite(extractor(nothing)).all()


@pytest.mark.parametrize("action", ["slots", "scores", "knobs"])
def test_a_state_dict_serves_another_number_of_slots_and_says_the_same_of_each_request(action):
    small, large = made(16, action), made(48, action)
    model, wider = plain(small), plain(large)
    wider.policy.load_state_dict(model.policy.state_dict())
    seen = some_way_in(small)
    rows = seen["requests"].reshape(2, 16, -1)
    padded = np.concatenate([rows, np.zeros((2, 32, rows.shape[2]), np.float32)], 1)
    again = {**seen, "requests": padded.reshape(2, -1)}
    first, _ = model.predict(seen, deterministic=True)
    second, _ = wider.predict(again, deterministic=True)
    if action == "knobs":
        assert first.tolist() == second.tolist()
    else:
        assert np.allclose(first[:, :16], second[:, :16], atol=1e-5)
    assert large.action_space.contains(second[0])


def test_cluster_environments_and_routers_have_heads_per_instance():
    cluster = made(8, "slots", env_id="sgym/Disaggregated-v0", overrides=None)
    model = maskable(cluster).learn(32)
    assert model.policy.action_net.instance_head is not None
    router = routed()
    model = maskable(router).learn(32)
    logits = model.policy.get_distribution(tensors(router.reset())).distribution.logits
    assert logits.shape == (2, router.action_space.n)
    assert model.policy.action_net.whole_head is None


def test_instances_that_look_alike_are_equally_likely_to_take_a_request():
    router = routed()
    model = maskable(router)
    seen = tensors(router.reset())
    seen["instances"] = seen["instances"][:, :28].repeat(1, router.action_space.n)
    chances = model.policy.get_distribution(seen).distribution.probs
    assert torch.allclose(chances, torch.full_like(chances, 1 / router.action_space.n))


def test_masks_are_respected():
    env = made(16)
    model = maskable(env, caution=-8.0)  # it wants to preempt, hold and reject
    env.seed(0)
    seen, invalid = env.reset(), 0
    for _ in range(60):
        masks = env.env_method("action_masks")
        actions, _ = model.predict(seen, action_masks=masks)
        seen, *_ = env.step(actions)
        invalid += env.env._lanes.fleet.lanes["invalid"].sum()
    assert invalid == 0
    actions, _ = model.predict(seen)
    assert np.isin(actions[:, :16], (PREEMPT, HOLD, REJECT)).all()


def test_an_untrained_policy_seldom_preempts_or_holds():
    env = made(16)
    seen = some_way_in(env)
    chances = maskable(env).policy.get_distribution(tensors(seen)).distributions[0].probs
    assert chances[:, [PREEMPT, HOLD]].sum(1).max() < 0.15


@pytest.mark.parametrize("action", ["slots", "scores", "knobs", "index"])
def test_all_actions_train_and_are_saved(action, tmp_path):
    env = made(8, action)
    model = plain(env, attention=action == "scores").learn(32)
    model.save(tmp_path / "model")
    seen = some_way_in(env, 5)
    again = PPO.load(tmp_path / "model")
    expected = model.predict(seen, deterministic=True)[0]
    assert again.predict(seen, deterministic=True)[0].tobytes() == expected.tobytes()
    model.policy.save(tmp_path / "policy")
    alone = SchedulerPolicy.load(tmp_path / "policy")
    assert alone.predict(seen, deterministic=True)[0].tobytes() == expected.tobytes()


def test_a_box_that_could_be_scores_or_index_has_to_be_named():
    env = made(2 * 18 + 4, "scores")
    with pytest.raises(ValueError, match="whether action is scores or index"):
        plain(env)
    assert plain(env, action="scores").policy.action_net.slot_head is not None


def test_the_extractor_serves_the_stock_policies():
    kwargs = {"features_extractor_class": SetExtractor, "net_arch": [16]}
    PPO(
        "MultiInputPolicy", made(action="knobs"), n_steps=16, batch_size=32, policy_kwargs=kwargs
    ).learn(32)
    flat = FlattenObservation(gym.make("sgym/Colocated-v0", overrides=BUSY, num_slots=4))
    MaskablePPO("MlpPolicy", flat, n_steps=16, batch_size=16).learn(16)
