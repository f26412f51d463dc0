"""Bundles are written, loaded and played; what they decide is what they would have decided."""

import dataclasses
import json
import pickle
import threading

import gymnasium as gym
import numpy as np
import pytest
from graphs import linear
from playing import TOY, make, make_router, make_split, play, toy

import sgym
from agents.onnx_files import constant_action, instance_scores
from sgym.errors import PolicyError, ScenarioError
from sgym.export import describe, load_bundle, resolve, write_bundle


def test_what_is_written_is_loaded_again(zeros):
    bundle = load_bundle(zeros)

    files = sorted(path.name for path in zeros.iterdir())
    assert files == ["bundle.json", "card.md", "policy.onnx"]
    assert (zeros / "card.md").read_text() == "# Does nothing.\nIt never will.\n"
    assert bundle.label == f"bundle:{zeros}"
    assert bundle.about.name == "zeros"
    assert bundle.about.scenario == "tiny"
    assert bundle.about.provenance == {"seed": 3, "commit": "abc"}
    assert bundle.about.summary == "Does nothing."
    assert bundle.about.environment.base == "fcfs"
    assert bundle.about.environment.num_slots == 8
    assert len(bundle.about.observation.requests) == 18
    assert len(bundle.about.action.meaning) == 40
    assert bundle.about.action.constants == {"gain": 4.0}
    assert repr(bundle) == f"<Bundle bundle:{zeros}: index of tiny>"


@pytest.mark.parametrize("base", ["fcfs", "spf", "llf"])
def test_weights_of_zero_are_the_base_policy(tmp_path, base):
    env = make("index", base=base)
    folder = write_bundle(tmp_path / "b", constant_action(np.zeros(40)), describe(env, "zeros"))
    steps = play(env, lambda env, info: np.zeros(40), options={"workload_seed": 4})

    result = sgym.simulate(TOY, f"bundle:{folder}", seed=4)

    assert result.summary["smooth_goodput"] == steps[-1][4]["smooth_goodput"]
    if base == "fcfs":
        assert result.summary == sgym.simulate(TOY, "vllm", seed=4).summary


def test_a_result_has_the_label_the_seed_and_the_logs(zeros):
    result = sgym.simulate(TOY, f"bundle:{zeros}", seed=4, log=("tokens", "moves"))
    expected = sgym.simulate(TOY, "vllm", seed=4, log=("tokens", "moves"))

    assert (result.policy, result.seed) == (f"bundle:{zeros}", 4)
    assert result.tokens.equals(expected.tokens)
    assert result.moves.equals(expected.moves)


def test_a_bundle_serves_requests_of_ones_own_and_then_the_scenarios_again(zeros):
    bundle = load_bundle(zeros)
    own = [{"arrival": 0.1 * k, "prompt": 40, "output": 5} for k in range(7)]

    mine = bundle.simulate(TOY, arrivals=own)
    other = bundle.simulate(TOY, seed=4)

    assert len(mine.requests) == 7
    assert mine.summary == sgym.simulate(TOY, "vllm", arrivals=own).summary
    assert other.summary == sgym.simulate(TOY, "vllm", seed=4).summary


def test_the_environment_is_kept_for_the_same_scenario_and_results_stay_as_they_were(zeros):
    bundle = load_bundle(zeros)
    made = []
    bundle.environment = lambda scenario, make=bundle.environment: made.append(1) or make(scenario)

    first = bundle.simulate(TOY, seed=1)
    finish = first.state.requests["finish"].copy()
    bundle.simulate(dict(TOY), seed=2)
    assert len(made) == 1
    bundle.simulate(toy(workload__rate=4.0), seed=2)
    assert len(made) == 2
    np.testing.assert_array_equal(first.state.requests["finish"], finish)


def test_threads_may_share_a_bundle(zeros):
    bundle, found = load_bundle(zeros), {}

    def run(seed):
        found[seed] = bundle.simulate(TOY, seed=seed).summary

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {seed: sgym.simulate(TOY, "vllm", seed=seed).summary for seed in range(4)}


def test_a_bundle_may_be_given_as_an_object_and_is_copied_by_its_name(zeros):
    bundle = load_bundle(f"bundle:{zeros}")
    copied = pickle.loads(pickle.dumps(bundle))

    assert resolve(bundle) is bundle
    assert copied.digest == bundle.digest
    assert sgym.simulate(TOY, bundle, seed=4).policy == f"bundle:{zeros}"


def test_a_named_bundle_is_loaded_again_only_if_it_has_changed(zeros):
    name = f"bundle:{zeros}"
    first = resolve(name)
    assert resolve(name) is first

    about = first.about
    write_bundle(zeros, constant_action(np.ones(40)), about)

    assert resolve(name) is not first
    assert resolve(name).digest != first.digest
    digest = resolve(name).digest
    write_bundle(zeros, constant_action(np.ones(40)), about.model_copy(update={"card": "Other."}))
    assert resolve(name).about.card == "Other."
    assert resolve(name).digest == digest  # nothing that it decides depends on its card
    assert resolve(name).policy.act(make("index").reset(seed=0)[0]).tolist() == [1.0] * 40


def test_writing_keeps_the_other_files_and_leaves_nothing_if_it_fails(zeros):
    (zeros / "curve.csv").write_text("step,worth\n", encoding="utf-8")
    about = load_bundle(zeros).about
    before = (zeros / "policy.onnx").read_bytes()

    with pytest.raises(PolicyError, match="no ONNX graph"):
        write_bundle(zeros, b"nothing", about)
    assert (zeros / "policy.onnx").read_bytes() == before
    with pytest.raises(PolicyError, match="provenance must be JSON"):
        write_bundle(zeros, before, about.model_copy(update={"provenance": {"x": float("nan")}}))
    with pytest.raises(PolicyError, match="provenance must be JSON"):
        write_bundle(zeros, before, about.model_copy(update={"provenance": {"x": {1}}}))

    write_bundle(zeros, constant_action(np.ones(40)), about)
    assert (zeros / "policy.onnx").read_bytes() != before
    assert (zeros / "curve.csv").is_file()
    assert [path.name for path in zeros.parent.iterdir()] == ["zeros"]


def greedy(env, weights):
    """An episode of `argmax(instances . weights)`, in numpy."""
    observation, info = env.reset(options={"workload_seed": 3})
    over = False
    while not over:
        scores = observation["instances"].reshape(-1, len(weights)) @ weights
        allowed = np.where(info["action_mask"], scores, -np.inf)
        observation, _, terminated, truncated, info = env.step(int(np.argmax(allowed)))
        over = terminated or truncated
    return env.result()


def test_a_router_runs_with_any_number_of_instances(tmp_path):
    env = make_router()
    names = [feature.name for feature in env.seen["instances"]]
    weights = np.zeros(len(names))
    weights[names.index("in_flight")] = -1.0  # equal at first: the lowest index takes it
    folder = write_bundle(tmp_path / "r", instance_scores(weights), describe(env, "least"))
    bundle = load_bundle(folder)

    for pools in ([{}, {"instances": 2}], [{"instances": 2}]):
        scenario = toy(cluster__pools=pools, workload__rate=15.0)
        expected = greedy(make_router(scenario=scenario), weights)
        result = bundle.simulate(scenario, seed=3)
        np.testing.assert_array_equal(
            result.state.requests["instance"], expected.state.requests["instance"]
        )
        assert result.summary == expected.summary
    with pytest.raises(ScenarioError, match="has one instance"):
        bundle.simulate(TOY)


def test_overrides_say_what_decides_beside_the_agent(tmp_path):
    env = make_router(overrides={"policy.name": "llf"})
    weights = np.zeros(len(env.seen["instances"]))
    about = describe(env, "r", overrides={"policy.name": "llf"})
    bundle = load_bundle(write_bundle(tmp_path / "r", instance_scores(weights), about))

    result = bundle.simulate(
        env.scenario.model_copy(update={"policy": type(env.scenario.policy)()})
    )

    assert result.scenario.policy.name == "llf"


@pytest.mark.parametrize("mask", ["", "float", "bool"])
def test_slots_and_knobs_run_with_the_mask_inside_and_outside(tmp_path, mask):
    random = np.random.default_rng(0)
    for kind, env in (("knobs", make("knobs")), ("slots", make_split("slots"))):
        width = env.observation_space["cluster"].shape[0]
        weights = random.normal(size=(width, env.plan.layout.mask_length))
        model = linear(weights, mask=mask)
        folder = write_bundle(tmp_path / f"{kind}{mask}", model, describe(env, kind))
        result = load_bundle(folder).simulate(env.scenario, seed=2)
        assert result.summary["num_finished"] > 3


def test_what_a_vector_environment_shows_is_described_alike():
    arguments = {"scenario": TOY, "action": "slots", "num_slots": 8}
    single = gym.make("sgym/Colocated-v0", **arguments)
    many = gym.make_vec("sgym/Colocated-v0", num_envs=3, **arguments)

    assert describe(single, "a") == describe(many, "a")
    assert describe(single, "a").action.meaning == single.unwrapped.plan.layout.verbs
    with pytest.raises(PolicyError, match="env must be one of sgym/Colocated-v0"):
        describe(gym.make("CartPole-v1"), "a")


def test_all_arguments_of_an_environment_are_kept(tmp_path):
    env = make(
        "index", base="edf", decision="interval", interval=0.2, length_hint="oracle",
        expected_output=99.0, extra_features=["time_left"], num_slots=5,
    )  # fmt: skip
    numbers = env.action_space.shape[0]
    about = describe(env, "a")
    folder = write_bundle(tmp_path / "a", constant_action(np.zeros(numbers)), about)

    again = load_bundle(folder).environment(TOY)

    assert again.plan.options == env.plan.options
    assert dataclasses.asdict(again.plan.options)["interval"] == 0.2
    assert json.loads((folder / "bundle.json").read_text())["environment"]["base"] == "edf"
