"""The native vector environment: the same bytes as single ones, in every autoreset mode."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from sgym.errors import PolicyError, ScenarioError, SgymError, SimulationError

COUNT = 3
SHORT = {"episode.duration": 3.0, "workload.rate": 12.0}
CASES = [
    ("sgym/Colocated-v0", {"action": "slots", "num_slots": 8}),
    ("sgym/Colocated-v0", {"action": "knobs", "decision": "iteration", "num_slots": 8}),
    ("sgym/Colocated-v0", {"action": "index", "num_slots": 8}),
    ("sgym/Disaggregated-v0", {"action": "slots", "num_slots": 8}),
    ("sgym/Router-v0", {}),
]
NAMES = ["slots", "knobs", "index", "disaggregated", "router"]


def many(env_id="sgym/Colocated-v0", count=COUNT, **arguments):
    return gym.make_vec(env_id, count, overrides=SHORT, **arguments)


def both(env_id, arguments, mode):
    """The native environment, and Gymnasium's over single ones."""

    def one():
        return gym.make(env_id, overrides=SHORT, disable_env_checker=True, **arguments)

    return many(env_id, autoreset_mode=mode, **arguments), SyncVectorEnv(
        [one] * COUNT, autoreset_mode=mode
    )


def assert_same_seen(ours, theirs):
    assert ours.keys() == theirs.keys()
    for part in ours:
        assert ours[part].tobytes() == theirs[part].tobytes()


def assert_same_infos(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"action_mask", "final_obs"}:
        if name == "final_info":
            assert_same_infos(ours[name], theirs[name])
        elif name.startswith("_"):
            assert ours[name].tolist() == theirs[name].tolist()
        else:  # masks have one shape in both: see the test of masks
            said = ours[f"_{name}"]
            assert ours[name][said].tolist() == theirs[name][said].tolist()


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(("env_id", "arguments"), CASES, ids=NAMES)
def test_environment_i_is_a_single_one_with_seed_plus_i(env_id, arguments, mode):
    ours, theirs = both(env_id, arguments, mode)
    ours.action_space.seed(0)
    seen, infos = ours.reset(seed=7)
    their_seen, their_infos = theirs.reset(seed=7)
    assert_same_seen(seen, their_seen)
    assert_same_infos(infos, their_infos)
    num_ended = 0
    for _ in range(300):
        actions = ours.action_space.sample()
        seen, rewards, terminated, truncated, infos = ours.step(actions)
        again = theirs.step(actions)
        assert_same_seen(seen, again[0])
        assert rewards.tobytes() == again[1].tobytes()
        assert terminated.tolist() == again[2].tolist()
        assert truncated.tolist() == again[3].tolist()
        assert_same_infos(infos, again[4])
        ended = terminated | truncated
        num_ended += ended.sum()
        if mode == AutoresetMode.SAME_STEP:
            for k in np.flatnonzero(ended):
                assert_same_seen(infos["final_obs"][k], again[4]["final_obs"][k])
        if mode == AutoresetMode.DISABLED and ended.any():
            seen, _ = ours.reset(options={"reset_mask": ended})
            assert_same_seen(seen, theirs.reset(options={"reset_mask": ended})[0])
        if num_ended > 2 * COUNT:
            break
    assert num_ended > COUNT


@pytest.mark.parametrize(("env_id", "arguments"), CASES[:2] + CASES[3:4], ids=["a", "b", "c"])
def test_masks_are_those_of_the_single_environments(env_id, arguments):
    env = many(env_id, **arguments)
    _, infos = env.reset(seed=0)
    for k in range(COUNT):
        single = gym.make(env_id, overrides=SHORT, **arguments)
        single.reset(seed=k)
        expected = single.get_wrapper_attr("action_masks")()
        assert infos["action_mask"][k].tolist() == expected.tolist()
        assert env.action_masks()[k].tolist() == expected.tolist()


def test_threads_change_nothing():
    runs = []
    for threads in (1, 2):
        env = many(count=5, action="knobs", num_slots=8, threads=threads)
        env.reset(seed=3)
        env.action_space.seed(0)
        steps = [env.step(env.action_space.sample()) for _ in range(60)]
        runs.append(b"".join(s[0]["requests"].tobytes() + s[1].tobytes() for s in steps))
        env.close()
    assert runs[0] == runs[1]


def test_the_rewards_of_an_episode_add_up_to_its_smooth_goodput():
    env = many(action="knobs", autoreset_mode="SameStep")
    env.reset(seed=0)
    total, found = np.zeros(COUNT), {}
    while len(found) < COUNT:
        _, rewards, terminated, truncated, infos = env.step(np.zeros(COUNT, int))
        total += rewards
        for k in np.flatnonzero(terminated | truncated).tolist():
            found.setdefault(k, (total[k], infos["final_info"]["smooth_goodput"][k]))
            total[k] = 0.0
    for earned, goodput in found.values():
        assert earned == pytest.approx(goodput, abs=1e-9)


def test_a_lane_whose_pools_are_full_goes_on_as_if_they_were_larger():
    env, twin = (
        gym.make_vec("sgym/Disaggregated-v0", 2, overrides=SHORT, action="knobs") for _ in range(2)
    )
    env.reset(seed=0)
    twin.reset(seed=0)
    simulator = env._lanes.simulators[1]
    simulator.state = simulator.state._replace(transfers=simulator.state.transfers[:1].copy())
    env._lanes._point(1)
    for _ in range(20):
        ours, theirs = env.step([0, 0]), twin.step([0, 0])
        assert_same_seen(ours[0], theirs[0])
        assert ours[1].tobytes() == theirs[1].tobytes()
    assert simulator.state.transfers.size > 1


def test_a_single_episode_does_not_end_because_a_pool_was_full():
    env, twin = (
        gym.make("sgym/Disaggregated-v0", overrides=SHORT, action="knobs").unwrapped
        for _ in range(2)
    )
    env.reset(seed=0)
    twin.reset(seed=0)
    simulator = env._simulator
    simulator.state = simulator.state._replace(transfers=simulator.state.transfers[:1].copy())
    env._lanes._point(0)
    over = False
    while not over:
        ours, theirs = env.step(0), twin.step(0)
        assert ours[1:4] == theirs[1:4]
        over = ours[2] or ours[3]
    assert ours[4]["smooth_goodput"] == theirs[4]["smooth_goodput"]


def test_episodes_may_be_cut_after_some_steps():
    env = many(action="knobs", max_episode_steps=4, autoreset_mode="Disabled")
    env.reset(seed=0)
    ends = [env.step(np.zeros(COUNT, int))[3].tolist() for _ in range(4)]
    assert ends == [[False] * COUNT] * 3 + [[True] * COUNT]


def test_workloads_may_be_chosen_for_each_environment():
    env = many(action="knobs")
    env.reset(seed=0, options={"workload_seed": [5, 6, 5]})
    assert env.workload_seeds.tolist() == [5, 6, 5]
    env.reset(options={"workload_seed": 9})
    assert env.workload_seeds.tolist() == [9, 9, 9]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_alike_and_apart(copied):
    env = many(action="knobs", num_slots=8)
    env.reset(seed=1)
    env.step([1, 2, 3])
    twin = copied(env)
    steps = [env.step([k, k, k]) for k in range(10)]
    again = [twin.step([k, k, k]) for k in range(10)]
    for ours, theirs in zip(steps, again, strict=True):
        assert_same_seen(ours[0], theirs[0])
        assert ours[1].tobytes() == theirs[1].tobytes()


def test_without_copies_the_next_step_overwrites_what_was_seen():
    env = many(action="knobs", copy=False)
    seen, _ = env.reset(seed=0)
    again, *_ = env.step([0, 0, 0])
    assert seen["requests"] is again["requests"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "num_envs must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"autoreset_mode": "never"}, "autoreset_mode must be one of NextStep, .*got 'never'"),
        ({"render_mode": "ansi"}, "render_mode must be None for many environments"),
        ({"action": "levers"}, "action must be one of slots"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ScenarioError, match=message):
        many(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset_mask": [True] * COUNT}, "reset_mask.* must be a bool array of shape"),
        ({"reset_mask": np.zeros(COUNT, bool)}, "at least one True"),
        ({"workload_seed": [1]}, "workload_seed must have one entry for each of 3, got 1"),
        ({"seeds": 1}, "reset has no option 'seeds'"),
    ],
)
def test_wrong_options_of_reset_are_refused(options, message):
    env = many(action="knobs")
    with pytest.raises(ScenarioError, match=message):
        env.reset(seed=0, options=options)


def test_wrong_actions_change_nothing():
    env = many(action="knobs")
    env.reset(seed=0)
    before = env._lanes.fleet.lanes["time"].tolist()
    for action in ([0, 1], [0, 1, 99], [0.5, 0, 0], ["a", 0, 0]):
        with pytest.raises(PolicyError, match="the action must lie in"):
            env.step(action)
    assert env._lanes.fleet.lanes["time"].tolist() == before


def test_steps_before_a_reset_and_after_an_end_are_refused():
    env = many(action="knobs", autoreset_mode="Disabled")
    with pytest.raises(SimulationError, match="call reset"):
        env.step([0, 0, 0])
    env.reset(seed=0)
    while not env._ended.size:
        env.step([0, 0, 0])
    with pytest.raises(SimulationError, match="is in no episode: call reset"):
        env.step([0, 0, 0])


def test_boxes_have_no_masks():
    env = many(action="scores")
    env.reset(seed=0)
    with pytest.raises(SgymError, match="is a Box, which has no masks"):
        env.action_masks()


def test_wrappers_of_gymnasium_go_around_it():
    env = gym.wrappers.vector.RecordEpisodeStatistics(many(action="knobs"))
    env.reset(seed=0)
    for _ in range(400):
        *_, infos = env.step(env.action_space.sample())
        if "episode" in infos:
            assert infos["episode"]["l"].max() > 0
            return
    raise AssertionError("no episode ended")
