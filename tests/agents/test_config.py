from pathlib import Path

import pytest
import yaml

from agents.config import ConfigError, Training, parse, read
from agents.learner import variations

CONFIGS = sorted((Path(__file__).parents[2] / "agents" / "configs").glob("*.yml"))


def refused(settings, name="tiny"):
    with pytest.raises(ConfigError) as caught:
        parse(name, settings)
    return str(caught.value)


def test_a_section_is_named_after_a_scenario_or_an_environment():
    assert parse("tiny", {}).scenario == "tiny"
    routed = parse("sgym/Router-v0", {"algo": "ppo_mask"})
    assert (routed.env, routed.scenario) == ("sgym/Router-v0", None)


def test_words_that_are_numbers_are_numbers():
    assert parse("tiny", {"n_timesteps": "1e5"}).n_timesteps == 100_000
    assert parse("tiny", {"learning_rate": "5e-4"}).learning_rate == 5e-4


def test_errors_name_the_field_the_value_and_the_rule():
    said = refused({"n_step": 5})
    assert said == "config: tiny.n_step is no known key. Did you mean 'n_steps'?"
    assert "tiny.n_envs: Input should be greater than or equal to 1, got 0" in refused(
        {"n_envs": 0}
    )
    assert "`buffer_size` is no setting of algo ppo_mask" in refused({"buffer_size": 9})
    assert "`policy` of algo dqn must be one of MultiInputPolicy, got 'SchedulerPolicy'" in (
        refused({"algo": "dqn"})
    )
    assert "`warm_start` needs algo ppo or ppo_mask, got dqn" in (
        refused({"algo": "dqn", "policy": "MultiInputPolicy", "warm_start": "spf"})
    )
    assert "got 'spf+0.2+opne'. Did you mean 'spf+0.2+open'?" in (
        refused({"warm_start": "spf+0.2+opne"})
    )
    assert "give `gamma` or `gamma_per_second`" in refused({"gamma": 0.9, "gamma_per_second": 0.9})
    assert "must be a built-in policy, got 'best'" in refused({"evaluation": {"reference": "best"}})
    assert "no scenario 'tinny'" in refused({}, "tinny")
    assert "section tiny must hold settings, got 3" in refused(3)


def test_an_override_that_the_scenario_refuses_is_found_before_training():
    said = refused({"variations": [{}, {"overrides": {"workload.rate": -1}}]})
    assert "workload.rate: Input should be greater than 0, got -1" in said


def test_environments_are_shared_out_between_variations():
    chosen = parse("tiny", {"n_envs": 9, "variations": [{}, {"n_envs": 4}, {}]})
    assert [one.n_envs for one in variations(chosen)] == [3, 4, 2]
    assert "`n_envs` must be at least 3" in refused({"n_envs": 2, "variations": [{}, {}, {}]})


def test_a_file_with_several_sections_asks_which(tmp_path):
    path = tmp_path / "c.yml"
    path.write_text("tiny: {algo: ppo}\nother: {scenario: tiny}\n")
    with pytest.raises(ConfigError, match=r"several sections: choose by --only tiny\|other"):
        read(path)
    assert read(path, "other")[1].scenario == "tiny"
    with pytest.raises(ConfigError, match="no section 'third'; it has: tiny, other"):
        read(path, "third")
    path.write_text("tiny: [")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read(path)
    path.write_text("")
    with pytest.raises(ConfigError, match="must hold sections"):
        read(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read(tmp_path / "none.yml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_configurations_that_come_with_it_are_fine(path):
    for name in yaml.safe_load(path.read_text()):
        assert isinstance(read(path, name)[1], Training)


def test_the_configuration_for_rl_zoo_has_only_what_rl_zoo_and_the_algorithm_know():
    path = Path(__file__).parents[2] / "agents" / "configs" / "rl_zoo" / "ppo.yml"
    from stable_baselines3 import PPO

    known = {"n_envs", "n_timesteps", "env_kwargs", *PPO.__init__.__code__.co_varnames}
    for name, settings in yaml.safe_load(path.read_text()).items():
        assert name.startswith("sgym/")
        assert set(settings) <= known
