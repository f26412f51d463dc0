"""Models of agents.train become bundles that decide as the network in torch does."""

import numpy as np
import pytest
import torch

from agents.config import parse
from agents.export import compare, environment, main
from agents.train import train
from agents.trained import Trained
from experiments.export_runtime.states import carried_out, differences, views
from sgym.export import PolicyRuntime, load_bundle

SETTINGS = {
    "scenario": "tiny",
    "overrides": {"episode.duration": 3.0, "workload.rate": 12.0},
    "n_envs": 2,
    "n_timesteps": 64,
    "n_steps": 32,
    "batch_size": 32,
    "n_epochs": 1,
    "evaluation": {"seeds": 2},
}
KINDS = {
    "knobs": {"env_kwargs": {"action": "knobs", "num_slots": 8}},
    "slots": {
        "env_kwargs": {"action": "slots", "num_slots": 8},
        "policy_kwargs": {"attention": True},
    },
    "scores": {"algo": "ppo", "env_kwargs": {"action": "scores", "num_slots": 8}},
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def trained(tmp_path, kind, **more):
    train(parse("quick", {**SETTINGS, **KINDS[kind], **more}), 0, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_and_an_engine_decide_as_the_model(tmp_path, capsys, kind):
    run, folder = trained(tmp_path, kind), tmp_path / "bundle"
    assert main([str(run), "-o", str(folder), "--name", "mine", "--states", "60"]) == 0
    assert "60 decisions as the model's" in capsys.readouterr().out

    bundle, runtime, model = load_bundle(folder), PolicyRuntime(folder), Trained(run)
    assert bundle.about.name == runtime.name == "mine"
    env, said = environment(model), []

    def choose(seen, mask):
        more = {} if mask is None else {"action_masks": mask}
        return model.model.predict(seen, deterministic=True, **more)[0]

    for view, action in views(env, choose, 100):
        expected, _ = carried_out(env, action, view)
        found = runtime.decide(view)
        if kind == "scores":  # float32 sums in another order
            np.testing.assert_allclose(found.running_score, expected.running_score, atol=1e-5)
        else:
            assert differences(expected, found) == []
        said.append(found)
    assert len(said) == 100

    with np.load(folder / "policy.npz") as weights:
        assert sum(weights[key].size for key in weights.files) > 1000
    card = (folder / "card.md").read_text()
    assert card.startswith(f"ppo{'' if kind == 'scores' else '_mask'} with SchedulerPolicy, {kind}")
    assert "tokens/s smooth goodput" in card


def test_a_bundle_that_decides_otherwise_is_noticed(tmp_path, capsys):
    run, folder = trained(tmp_path, "knobs"), tmp_path / "bundle"
    assert main([str(run), "-o", str(folder), "--states", "5"]) == 0
    model = Trained(run)
    with torch.no_grad():
        model.model.policy.action_net.whole_head.bias[7] += 100.0
    env = environment(model)
    assert compare(load_bundle(folder), model, env, 20) == 20


def test_what_cannot_be_exported_is_said(tmp_path, capsys):
    assert main([str(tmp_path), "-o", str(tmp_path / "b")]) == 2
    assert "is no folder of `python -m agents.train`" in capsys.readouterr().err
    run = trained(
        tmp_path, "knobs", algo="ppo_lstm", policy="MultiInputLstmPolicy", n_timesteps=32,
        policy_kwargs={"lstm_hidden_size": 8},
    )  # fmt: skip
    assert main([str(run), "-o", str(tmp_path / "b")]) == 2
    assert "a policy with a memory (algo ppo_lstm) cannot be exported" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
