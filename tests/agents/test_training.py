import pytest
import torch
from stable_baselines3.common.vec_env import VecNormalize

from agents import checkpoint, known_answers
from agents.callbacks import Interrupted
from agents.cloning import clone
from agents.config import Variation, WarmStart, parse
from agents.evaluation import greedy, play
from agents.experts import Expert
from agents.known_answers import KNOWN_ANSWERS, SEEDS, solve, training, yardsticks
from agents.learner import ALGORITHMS, bare_environments, build, environment
from agents.train import main, train

SHORT = {"episode.duration": 3.0, "workload.rate": 12.0}
QUICK = {
    "algo": "ppo_mask",
    "scenario": "tiny",
    "overrides": SHORT,
    "env_kwargs": {"action": "knobs", "num_slots": 8},
    "n_envs": 4,
    "n_timesteps": 512,
    "n_steps": 32,
    "batch_size": 64,
    "n_epochs": 2,
    "normalize": True,
    "checkpoint_freq": 128,
    "evaluation": {"freq": 256, "seeds": 3},
}
FEW = {
    "ppo_mask": {"reward": "paired", "gamma_per_second": 0.98, "warm_start": "spf"},
    "ppo": {"algo": "ppo", "env_kwargs": {"action": "scores", "num_slots": 8}},
    "ppo_lstm": {
        "algo": "ppo_lstm",
        "policy": "MultiInputLstmPolicy",
        "policy_kwargs": {"lstm_hidden_size": 8},
    },
    "dqn": {
        "algo": "dqn",
        "policy": "MultiInputPolicy",
        "policy_kwargs": {"features_extractor_class": "SetExtractor"},
        "learning_starts": 100,
    },
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def quick(algo="ppo_mask", **changes):
    settings = {**QUICK, **FEW[algo], **changes}
    if algo == "dqn":
        settings = {k: v for k, v in settings.items() if k not in ("n_steps", "n_epochs")}
    return parse("quick", settings)


def weights(model):
    return {name: value.numpy().tobytes() for name, value in model.policy.state_dict().items()}


@pytest.mark.parametrize("algo", FEW)
def test_the_same_seed_gives_the_same_weights_interrupted_or_not(algo, tmp_path):
    chosen = quick(algo)
    through = train(chosen, 3, tmp_path / "through")
    with pytest.raises(Interrupted):
        train(chosen, 3, tmp_path / "halved", stop_after=200)
    torch.manual_seed(99)  # what happens in between does not matter
    resumed = train(chosen, 3, tmp_path / "halved", resume=True)
    assert resumed.num_timesteps == through.num_timesteps
    assert weights(resumed) == weights(through)
    assert (tmp_path / "halved" / "evaluations.csv").read_text() == (
        (tmp_path / "through" / "evaluations.csv").read_text()
    )
    if algo == "ppo_mask":
        assert weights(train(chosen, 4, tmp_path / "other")) != weights(through)


def test_a_training_leaves_its_files_and_no_partial_ones(tmp_path):
    model = train(quick(), 0, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "best_model.zip",
        "checkpoint.pkl",
        "config.yml",
        "evaluations.csv",
        "model.zip",
        "tensorboard",
    }
    rows = (tmp_path / "evaluations.csv").read_text().splitlines()
    assert rows[0] == "steps,scenario,smooth_goodput,reference,gain,standard_error"
    assert [row.split(",")[0] for row in rows[1:]] == ["0", "256", "512"]
    again = ALGORITHMS["ppo_mask"].load(tmp_path / "model.zip")
    assert weights(again) == weights(model)


def test_variations_are_trained_and_evaluated_side_by_side(tmp_path):
    mixture = [{}, {"overrides": {"workload.rate": 20.0}}]
    chosen = quick(variations=mixture, n_timesteps=128)
    model = train(chosen, 0, tmp_path)
    assert model.n_envs == 4
    rows = (tmp_path / "evaluations.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [
        ["0", "0"],
        ["0", "1"],
        ["128", "0"],
        ["128", "1"],
    ]
    path = tmp_path / "checkpoint.pkl"
    resumed, extra = checkpoint.load(path, ALGORITHMS["ppo_mask"])
    assert len(extra["rows"]) == 4
    assert isinstance(resumed.env, VecNormalize)


def test_the_command_line_explains_what_is_wrong(tmp_path, capsys):
    path = tmp_path / "c.yml"
    path.write_text("tiny: {n_step: 3}")
    assert main([str(path)]) == 2
    assert capsys.readouterr().err == (
        "error: c.yml: tiny.n_step is no known key. Did you mean 'n_steps'?\n"
    )


def test_the_command_line_trains_and_does_not_overwrite(tmp_path, capsys):
    path, folder = tmp_path / "c.yml", tmp_path / "run"
    path.write_text(
        "tiny: {overrides: {episode.duration: 3.0}, n_envs: 2, n_timesteps: 64, n_steps: 32,"
        " batch_size: 32, n_epochs: 1, env_kwargs: {action: knobs, num_slots: 4},"
        " evaluation: {seeds: 2}}"
    )
    command = [str(path), "--out", str(folder)]
    assert main(command) == 0
    assert "64 steps in" in capsys.readouterr().out
    assert main(command) == 2
    assert "holds a training already" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0


@pytest.mark.parametrize("action", ["knobs", "slots", "scores"])
def test_cloning_reaches_the_return_of_the_expert(action):
    learner = "ppo, scores" if action == "scores" else f"ppo_mask, {action}"
    chosen = training(learner, "shortest", n_envs=8)
    model, env = build(chosen, 0), bare_environments(chosen)
    expert = Expert("spf", env.get_attr("plan")[0])
    steps, size = (128, 64) if action == "slots" else (64, 256)
    settings = WarmStart(
        expert="spf", steps=steps, iterations=3, epochs=8, batch_size=size, learning_rate=3e-3
    )
    losses = clone(model, env, expert, settings, seed=0)
    assert losses[-1] < losses[0] / 2
    found = play(environment(chosen, Variation(), len(SEEDS)), greedy(model), SEEDS)
    best, random = yardsticks("shortest", action)
    assert found.mean() > random + 0.9 * (best - random)


def test_a_short_training_solves_the_first_known_answer():
    found, _ = solve("ppo_mask, knobs", "shortest", n_timesteps=8_000)
    assert found > KNOWN_ANSWERS["shortest"].threshold


def test_the_table_of_known_answers_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["known_answers", "--learner", "ppo, knobs", "--only", "urgent"]
    )
    monkeypatch.setattr(known_answers, "solve", lambda *_: (0.5, 1.0))
    with pytest.raises(SystemExit):
        known_answers.main()
    assert "| ppo, knobs | 0.50 (not solved) | 1 |" in capsys.readouterr().out
