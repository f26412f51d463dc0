"""What Gymnasium and its users expect of the environments of clusters."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces.utils import flatdim
from gymnasium.utils.env_checker import check_env
from playing import CLUSTERS, SPLIT, TOY, UNEQUAL, digest, make_router, make_split, play, sampled
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

import sgym
from sgym.envs import MaskInObs
from sgym.errors import PolicyError, ScenarioError

IDS = {"sgym/Disaggregated-v0": "tiny-disaggregated", "sgym/Router-v0": "tiny-router"}


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_checkers_of_gymnasium_and_sb3_find_nothing_to_warn_of(name):
    check_env(CLUSTERS[name]())
    check_env_of_sb3(CLUSTERS[name]())


@pytest.mark.parametrize("decision", ["iteration", "admission", "interval"])
def test_the_checkers_are_content_whenever_it_is_asked(decision):
    check_env(make_split("slots", decision=decision))
    check_env_of_sb3(make_split("slots", decision=decision))


@pytest.mark.parametrize(("name", "scenario"), IDS.items())
def test_they_are_made_by_their_ids_alone(name, scenario):
    env = gym.make(f"sgym:{name}", overrides={"episode.duration": 3.0})
    assert env.unwrapped.scenario.name == scenario
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert digest(play(again.unwrapped)) == digest(play(env.unwrapped))


@pytest.mark.parametrize("render_mode", ["ansi", "rgb_array"])
def test_they_can_be_drawn(render_mode):
    for env in (make_split("knobs", render_mode=render_mode), make_router(render_mode=render_mode)):
        play(env)
        assert len(env.render()) > 0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("name", CLUSTERS)
def test_a_copy_in_mid_episode_goes_on_alike(copied, name):
    env = CLUSTERS[name]()
    _, info = env.reset(seed=5)
    for _ in range(15):
        info = env.step(sampled(env, info))[4]
    other = copied(env)
    for _ in range(10):
        taken = sampled(env, info)
        here, there = env.step(taken), other.step(taken)
        assert digest([here]) == digest([there])
        info = here[4]
    assert digest(play(env, seed=7)) == digest(play(other, seed=7))


def test_the_same_seed_gives_the_same_episodes_in_another_process():
    program = (
        "from playing import *; [print(digest(play(CLUSTERS[n](), seed=11))) for n in CLUSTERS]"
    )
    folder = Path(__file__).resolve().parents[1]
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(folder)]!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder.parent,
    )
    assert found.stdout.split() == [digest(play(CLUSTERS[name](), seed=11)) for name in CLUSTERS]


@pytest.mark.parametrize("name", [n for n in CLUSTERS if n not in ("scores", "index")])
def test_the_views_of_a_mask_agree_and_what_it_allows_applies(name):
    env = CLUSTERS[name]()
    wrapped = MaskInObs(env)
    env.action_space.seed(0)
    observation, info = wrapped.reset(seed=0)
    assert env.action_masks().size == flatdim(env.action_space)
    over = False
    while not over:
        mask = info["action_mask"]
        factors = mask if isinstance(mask, tuple) else (mask,)
        assert all(factor.any() and factor.dtype == np.int8 for factor in factors)
        assert env.action_masks().tolist() == np.concatenate(factors).astype(bool).tolist()
        assert env.action_masks().tolist() == observation["action_mask"].astype(bool).tolist()
        observation, _, terminated, truncated, info = wrapped.step(env.action_space.sample(mask))
        assert info["invalid_actions"] == 0
        over = terminated or truncated


@pytest.mark.parametrize("name", CLUSTERS)
def test_any_action_is_survived(name):
    env = CLUSTERS[name]()
    steps = play(env, lambda env, info: env.action_space.sample())
    assert all(step[0] in env.observation_space for step in steps)
    if "action_mask" in steps[0][4] and env.action_space != gym.spaces.Discrete(3):
        assert sum(step[4]["invalid_actions"] for step in steps) > 0


def test_the_last_info_has_what_colocated_has_and_the_hand_offs():
    for env in (make_split("knobs"), make_router()):
        info = play(env)[-1][4]
        assert {"smooth_goodput", "ttft_p99", "num_preemptions", "num_migrations"} <= set(info)
        assert info["num_handoffs"] == env._simulator.state.cluster["handoffs"]


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (make_split, {"scenario": TOY}, "'toy' has no prefill instances: give cluster.pools one"),
        (make_router, {"scenario": TOY}, "'toy' has one instance.*set cluster.instances to"),
        (make_router, {"controls": ["schedule"]}, "has 'schedule', but sgym/Router-v0 only places"),
        (make_split, {"controls": []}, "controls must name at least one of schedule, route"),
        (make_split, {"controls": ["sched"]}, "controls must be one of schedule.*, got 'sched'"),
        (make_split, {"controls": ["migrate"]}, "controls has 'migrate', but not 'schedule'"),
        (make_split, {"controls": "handoff"}, "action must be 'route', got 'slots'"),
        (make_split, {"action": "route"}, "action must be one of slots, scores, knobs, index"),
        (
            make_split,
            {"action": "knobs", "controls": ["schedule", "migrate"]},
            "'migrate', which is a verb of action='slots', got 'knobs'",
        ),
        (make_router, {"num_slots": 0}, "num_slots must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_a_bad_argument_is_explained(make, arguments, message):
    with pytest.raises(ScenarioError, match=message):
        make(**arguments)


@pytest.mark.parametrize("wrong", [3, -1, 0.5, [0, 1]])
def test_what_names_no_instance_is_refused(wrong):
    env = make_router()
    env.reset(seed=0)
    with pytest.raises(PolicyError, match="must lie in"):
        env.step(wrong)


@pytest.mark.parametrize("name", ["DisaggregatedEnv", "RouterEnv", "ColocatedEnv"])
def test_their_pages_are_complete(name):
    page = getattr(sgym.envs, name).__doc__
    assert "[[" not in page
    for word in (
        "## Rewards",
        "| `scenario` |",
        "| `controls` |",
        "| 3 | slack |",
        "| time_left |",
    ):
        assert word in page
    assert ("role_prefill" in page) == (name != "ColocatedEnv")
    assert ("hidden_waiting" in page) == (name != "RouterEnv")
    assert all(len(line) < 320 for line in page.split("\n"))


def test_colocated_with_more_controls_has_the_spaces_of_a_cluster():
    plain = gym.make("sgym/Colocated-v0", scenario=UNEQUAL, num_slots=8)
    wide = gym.make(
        "sgym/Colocated-v0", scenario=UNEQUAL, num_slots=8, controls=["schedule", "route"]
    )
    same = gym.make("sgym/Disaggregated-v0", scenario=SPLIT, num_slots=8)
    assert plain.action_space.nvec.tolist() == [5] * 8 + [4]
    assert wide.action_space.nvec.tolist() == [6] * 8 + [4, 3]
    assert wide.action_space == same.action_space
    assert wide.observation_space == same.observation_space


def test_the_spaces_of_all_actions_have_the_instances_in_them():
    assert make_split("knobs").action_space == gym.spaces.Discrete(45)
    width = len(make_split("index").seen["requests"])
    assert make_split("index").action_space.shape == (2 * width + 4 + 3,)
    assert make_split("scores").action_space.shape == (8 + 3,)
    assert make_router().action_space == gym.spaces.Discrete(3)
    assert make_router().observation_space["requests"].shape == (width,)
    many = SPLIT | {"cluster": SPLIT["cluster"] | {"pools": [
        {"role": "prefill", "instances": 40}, {"role": "decode", "instances": 10}]}}  # fmt: skip
    assert make_split("knobs", scenario=many).action_space == gym.spaces.Discrete(50)
