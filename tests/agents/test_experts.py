import numpy as np
import pytest
import torch

from agents.config import Variation
from agents.evaluation import play
from agents.experts import Expert
from agents.known_answers import KNOWN_ANSWERS, SEEDS, training, yardsticks
from agents.learner import environment
from sgym.envs.actions import PROMOTE
from sgym.envs.sb3 import SgymVecEnv

SHORT = {"episode.duration": 3.0, "workload.rate": 12.0}


def made(action, count=2, env_id="sgym/Colocated-v0", **more):
    return SgymVecEnv(env_id, count, action=action, num_slots=4, **more)


def plan_of(env):
    return env.get_attr("plan")[0]


def moment(env, **columns):
    """An observation of four slots, with features written out in their own units."""
    features = plan_of(env).features["requests"]
    rows = np.zeros((1, 4, len(features)), np.float32)
    for place, feature in enumerate(features):
        values = np.array(columns.get(feature.name, [0.0] * 4))
        shown = values / (np.abs(values) + feature.scale) if feature.squash else values
        rows[0, :, place] = shown
    cluster = np.zeros((1, len(plan_of(env).features["cluster"])), np.float32)
    cluster[0, 0] = 1.0  # decides_schedule
    return {"requests": rows.reshape(1, -1), "cluster": cluster}


QUEUES = {"present": [1, 1, 1, 1], "running": [1, 1, 0, 0]}


def test_scores_are_ranks_within_each_queue():
    env = made("scores")
    seen = moment(env, **QUEUES, prompt=[9, 9, 300, 20], slack=[5.0, -1.0, 2.0, 1.0])
    assert Expert("spf", plan_of(env))(seen, None).tolist() == [[0.5, 1.0, 0.5, 1.0]]
    assert Expert("edf", plan_of(env))(seen, None).tolist() == [[0.5, 1.0, 0.5, 1.0]]
    seen = moment(env, **QUEUES, prompt=[9, 9, 20, 300], slack=[-1.0, 5.0, 2.0, 1.0])
    assert Expert("spf", plan_of(env))(seen, None).tolist() == [[0.5, 1.0, 1.0, 0.5]]
    assert Expert("llf", plan_of(env))(seen, None).tolist() == [[1.0, 0.5, 0.5, 1.0]]
    waited = moment(env, **QUEUES, waited=[0, 0, 3.0, 4.0])
    assert Expert("fcfs", plan_of(env))(waited, None).tolist() == [[0.5, 1.0, 0.5, 1.0]]


def test_slots_promote_the_first_choice_and_protect_all_but_the_first_victim():
    env = made("slots")
    seen = moment(env, **QUEUES, prompt=[9, 9, 300, 20], slack=[5.0, -1.0, 2.0, 1.0])
    assert Expert("edf", plan_of(env))(seen, None).tolist() == [[0, PROMOTE, 0, PROMOTE, 0]]
    alone = moment(env, present=[0, 0, 1, 0], prompt=[0, 0, 5, 0])
    assert Expert("spf", plan_of(env))(alone, None).tolist() == [[0, 0, PROMOTE, 0, 0]]
    nothing = moment(env)
    assert Expert("spf", plan_of(env))(nothing, None).tolist() == [[0] * 5]


def test_an_ordering_stands_for_its_knobs():
    env = made("knobs")
    masks = np.ones((1, 45), bool)
    expert = Expert("spf", plan_of(env))
    assert expert.knob == Expert("spf+0.2+open", plan_of(env)).knob == 12
    assert expert(moment(env), masks).tolist() == [12]


def test_experts_of_cluster_environments_act_validly():
    for action in ("slots", "scores", "knobs"):
        env = made(action, env_id="sgym/Disaggregated-v0", overrides={"episode.duration": 4.0})
        expert, seen, invalid = Expert("edf", plan_of(env)), env.reset(), 0
        for _ in range(60):
            masks = env.env_method("action_masks") if action != "scores" else None
            seen, *_ = env.step(expert(seen, masks))
            invalid += int(env.env._lanes.fleet.lanes["invalid"].sum())
        assert invalid == 0


def test_a_router_is_told_the_least_loaded_instance():
    env = SgymVecEnv("sgym/Router-v0", 2)
    expert, seen = Expert("least_outstanding", plan_of(env)), env.reset()
    masks = env.env_method("action_masks")
    load = expert.raw(seen, "instances", "outstanding")
    assert expert(seen, masks).tolist() == load.argmin(1).tolist()
    masks[:, expert(seen, masks)] = False
    assert masks[0, expert(seen, masks)[0]]


def test_experts_that_cannot_speak_are_refused():
    with pytest.raises(ValueError, match="cannot say anything under action='route'"):
        Expert("spf", plan_of(SgymVecEnv("sgym/Router-v0", 1)))
    with pytest.raises(ValueError, match="must be its base 'spf', got 'edf'"):
        Expert("edf", plan_of(made("index")))
    index = made("index")
    assert Expert("spf", plan_of(index))(moment(index), None).shape == (1, 40)


@pytest.mark.parametrize("action", ["knobs", "slots", "scores"])
@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_the_right_answer_solves_each_environment_under_each_action_and_random_does_not(
    name, action
):
    torch.set_num_threads(1)
    known = KNOWN_ANSWERS[name]
    best, random = yardsticks(name, action)
    assert best > known.best - 0.02 * abs(known.best)
    assert random < known.threshold


def test_no_other_constant_knob_of_another_ordering_solves_a_known_answer():
    for name, known in KNOWN_ANSWERS.items():
        env = environment(training("ppo_mask, knobs", name), Variation(), len(SEEDS))
        for other in ("fcfs", "slack-victim", "spf" if known.answer == "edf" else "edf"):
            expert = Expert(f"{other}+0+open", plan_of(env))
            found = play(env, lambda seen, masks, _, e=expert: e(seen, masks), SEEDS)
            assert found.mean() < known.threshold
