"""What Gymnasium and its users expect of an environment."""

import copy
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import (
    FlattenObservation,
    NormalizeObservation,
    RecordEpisodeStatistics,
    TimeLimit,
)
from playing import TOY, digest, make, play, sampled, toy
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

import sgym
from sgym.envs.desk import ACTIONS
from sgym.errors import PolicyError, ScenarioError, SimulationError
from sgym.policies.trigger import TRIGGERS


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("decision", TRIGGERS)
def test_the_checkers_of_gymnasium_and_sb3_find_nothing_to_warn_of(action, decision):
    check_env(make(action, decision=decision))
    check_env_of_sb3(make(action, decision=decision))


def test_it_is_made_by_its_id_alone_with_the_tiny_scenario():
    env = gym.make("sgym:sgym/Colocated-v0")
    assert env.unwrapped.scenario.name == "tiny"
    observation, _ = env.reset(seed=3)
    assert env.observation_space.contains(observation)


def test_its_spec_survives_json_and_makes_the_same_environment():
    env = gym.make("sgym/Colocated-v0", scenario=TOY, action="slots", num_slots=8)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert digest(play(again.unwrapped)) == digest(play(env.unwrapped))


def test_importing_sgym_again_registers_nothing_twice():
    importlib.reload(sgym)  # a warning would fail the test
    assert "sgym/Colocated-v0" in gym.registry


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_copy_in_mid_episode_goes_on_alike(copied, action):
    env = make(action)
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


def test_the_same_seed_gives_the_same_episode_in_another_process():
    program = "from playing import *; print(digest(play(make('slots'), seed=11)))"
    folder = Path(__file__).resolve().parents[1]
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(folder)]!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder.parent,
    )
    assert found.stdout.strip() == digest(play(make("slots"), seed=11))


def test_another_seed_and_a_second_episode_serve_other_requests():
    env = make()
    env.reset(seed=1)
    first = env.workload_seed
    env.reset()
    second = env.workload_seed
    env.reset(seed=2)
    assert len({first, second, env.workload_seed}) == 3
    env.reset(seed=1)
    assert env.workload_seed == first


def test_the_window_ends_by_truncation_when_requests_are_left():
    *before, last = play(make())
    assert not any(terminated or truncated for _, _, terminated, truncated, _ in before)
    assert (last[2], last[3]) == (False, True)
    assert last[4]["time"] == 3.0


def test_a_drained_episode_terminates():
    last = play(make(scenario=toy(workload__num_requests=5, episode__duration=30.0)))[-1]
    assert (last[2], last[3]) == (True, False)


def test_an_episode_without_a_decision_ends_on_its_first_step_with_all_of_the_reward():
    env = make("slots", scenario=toy(workload__num_requests=1, episode__duration=30.0))
    observation, info = env.reset(seed=0)
    assert observation["cluster"][0] == 0.0  # nobody has to decide
    assert [mask.tolist() for mask in info["action_mask"][:-1]] == [[1, 0, 0, 0, 0]] * 8
    _, reward, terminated, truncated, info = env.step(np.zeros(9, int))
    assert (terminated, truncated) == (True, False)
    assert reward == pytest.approx(info["smooth_goodput"], abs=1e-9)
    assert reward > 0


def test_the_last_info_has_flat_floats_and_no_episode():
    info = play(make())[-1][4]
    names = {"smooth_goodput", "slo_attainment", "goodput_tok_s", "throughput_tok_s"}
    names |= {"ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99", "num_preemptions", "num_migrations"}
    assert names <= set(info)
    assert all(type(info[name]) is float for name in names)
    assert "episode" not in info


def test_times_in_info_add_up():
    env = make()
    _, info = env.reset(seed=0)
    total = info["dt"]
    for *_, step_info in play(env, seed=0):
        total += step_info["dt"]
        assert step_info["time"] == pytest.approx(total, abs=1e-9)


def test_common_wrappers_work():
    env = gym.make("sgym/Colocated-v0", scenario=TOY, num_slots=8, action="knobs")
    steps = play(RecordEpisodeStatistics(env))
    assert steps[-1][4]["episode"]["r"] == pytest.approx(steps[-1][4]["smooth_goodput"])
    assert play(TimeLimit(env, 4))[-1][3]
    steps = play(NormalizeObservation(FlattenObservation(TimeLimit(env, 4))), seed=1)
    assert np.isfinite(steps[-1][0]).all()


def test_nothing_can_be_done_outside_of_an_episode():
    env = make()
    for use in (lambda: env.step(0), env.snapshot):
        with pytest.raises(SimulationError, match="reset"):
            use()
    play(env)
    with pytest.raises(SimulationError, match="reset"):
        env.step(0)


def test_an_option_of_reset_that_does_not_exist_is_named():
    with pytest.raises(ScenarioError, match="reset has no option 'seed'; it has: workload_seed"):
        make("knobs").reset(options={"seed": 3})


@pytest.mark.parametrize(
    ("action", "wrong"),
    [
        ("knobs", 45),
        ("knobs", -1),
        ("knobs", 1.5),
        ("slots", np.full(9, 0.5)),
        ("knobs", "spf"),
        ("slots", np.full(9, 5)),
        ("slots", np.zeros(8)),
        ("slots", 0),
        ("slots", np.zeros((1, 9))),
        ("knobs", np.zeros(2)),
        ("scores", np.full(8, np.nan)),
        ("scores", 0.5),
    ],
)
def test_what_is_no_action_is_refused(action, wrong):
    env = make(action)
    env.reset(seed=0)
    with pytest.raises(PolicyError, match="must lie in"):
        env.step(wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"action": "verbs"}, "action must be one of slots, scores, knobs, index, got 'verbs'"),
        ({"decision": "never"}, "decision must be one of event"),
        ({"length_hint": "exact"}, "length_hint must be one of none, noisy"),
        ({"base": "sjf"}, "base must be one of fcfs"),
        ({"num_slots": 1}, "num_slots must be at least 2, got 1"),
        ({"num_slots": "8"}, "num_slots must be at least 2, got '8'"),
        ({"num_slots": 8.5}, "num_slots must be a whole number, got 8.5"),
        ({"expected_output": float("inf")}, "expected_output must be at least 0, got inf"),
        ({"aging": -1.0}, "aging must be at least 0, got -1.0"),
        ({"interval": -1.0}, "interval must be at least 0"),
        ({"extra_features": ["true_output"]}, "no optional feature; these are: time_left"),
        ({"overrides": {"workload.rte": 1}}, "Did you mean 'rate'"),
    ],
)
def test_a_bad_argument_is_explained(arguments, message):
    with pytest.raises(ScenarioError, match=message):
        sgym.envs.ColocatedEnv(TOY, **arguments)


@pytest.mark.parametrize("seed", [-1, 1.5, "1"])
def test_a_workload_seed_is_a_whole_number(seed):
    with pytest.raises(ScenarioError, match=f"seed must be a whole number .*, got {seed!r}"):
        make().reset(options={"workload_seed": seed})


def test_its_page_of_documentation_lists_every_feature_and_argument():
    page = sgym.envs.ColocatedEnv.__doc__
    for word in ("| 3 | slack | -1 | 1 | s,", "| time_left |", "| `length_hint` |", "## Rewards"):
        assert word in page
