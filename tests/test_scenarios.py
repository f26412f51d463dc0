"""The scenarios that come with sgym: each loads, and is what its name and its comment say."""

import pytest
import yaml

import sgym
from sgym import profiles
from sgym.loading import builtin_scenarios
from sgym.preflight import notes, unserved

NAMES = tuple(builtin_scenarios())
CLUSTERS = {
    name
    for name in NAMES
    if sgym.load_scenario(name).cluster.num_instances > 1 and "tiny" not in name
}


def test_both_models_have_every_load_on_both_cards():
    loads = ("chat", "azure", "azure-code", "summaries", "mixed")
    wanted = {
        f"{model}-{gpu}-{load}"
        for model in ("llama8b", "qwen14b")
        for gpu in ("a100", "h100")
        for load in loads
    }
    others = {"qwen14b-l40s-mixed", "qwen14b-l40s-assistants", "qwen14b-a100-assistants"}
    others |= {"llama8b-a100-assistants-bursts", "llama8b-a100-tiers"}
    assert wanted | others == {name for name in NAMES if "tiny" not in name} - CLUSTERS


def test_both_models_have_clusters_that_part_prefill_and_decode_and_that_migrate():
    kinds = ("1p1d", "2p2d", "4p4d", "4x-migration")
    wanted = {f"{model}-a100-{kind}" for model in ("llama8b", "qwen14b") for kind in kinds}
    others = {"llama8b-h100-a100-2p2d", "llama8b-a100-2p2d-bursts", "llama8b-a100-4x-prefixes"}
    assert wanted | others == CLUSTERS


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_scenario_serves_nearly_all_its_requests(name):
    scenario = sgym.load_scenario(name)
    found = unserved(scenario)
    assert found.refused <= 0.01 * found.requests
    assert found.cut <= 0.01 * found.requests
    assert notes(scenario) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_short_window_of_a_shipped_scenario_runs_under_vllm(name):
    short = {"workload.num_requests": 10, "episode.duration": 120.0}
    scenario = sgym.load_scenario(name, short)
    summary = sgym.simulate(scenario, "vllm", seed=1).summary
    assert summary["num_refused"] <= 0.03 * summary["num_requests"]
    assert summary["throughput_tok_s"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_a_scenario_says_what_it_is(name):
    text = builtin_scenarios()[name].read_text(encoding="utf-8")
    assert text.startswith("#")  # a comment with the reasons comes first
    assert "sgym compare " + name in text  # and how the rate was chosen
    assert yaml.safe_load(text)["description"]


def test_the_mixed_scenarios_are_short_of_memory():
    for name in NAMES:
        if name.endswith("-mixed"):
            assert profiles.for_scenario(sgym.load_scenario(name))[1] <= 4000, name
