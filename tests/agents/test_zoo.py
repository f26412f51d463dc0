"""The zoo: every entry is complete, loads, plays, and is what its numbers say."""

import json

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import numpy_helper

from agents.entry import ZOO, load_entry
from agents.evaluate import contenders_of
from agents.evolve import with_rest
from agents.onnx_files import scorer_action
from agents.report import markdown
from agents.scorers import Scorer
from agents.tuning import Tuned
from sgym.export import load_bundle

NAMES = sorted(path.parent.name for path in ZOO.glob("*/config.yml"))
SEARCHED_ONCE = ("assistants_14b", "assistants_a100_14b", "assistants_bursts_8b", "azure_14b")
"""Where lightllm-pf was, as the zoo's README says."""


def test_the_zoo_covers_what_people_look_for():
    entries = dict(load_entry(name) for name in NAMES)
    assert len(entries) >= 6
    assert {entry.env for entry in entries.values()} == {
        "sgym/Colocated-v0", "sgym/Disaggregated-v0", "sgym/Router-v0"
    }  # fmt: skip
    models = {
        entry.loaded(entry.rates[0]).cluster.model.split("-")[0] for entry in entries.values()
    }
    assert len(models) >= 2
    for entry in entries.values():
        assert entry.rates[1] == pytest.approx(1.2 * entry.rates[0])


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_has_a_policy_and_tuned_heuristics(name):
    found, entry = load_entry(name)
    assert found == name
    kinds = [one.kind for one in contenders_of(name, entry, ZOO / name)]
    colocated = entry.env == "sgym/Colocated-v0"
    others = ["learned", "bound", *(["look-ahead"] if colocated else [])]
    assert kinds == ["heuristic"] * len(entry.heuristics) + others
    kept = json.loads((ZOO / name / "heuristics.json").read_text("utf-8"))
    assert set(entry.heuristics) <= set(kept)
    for policy, tuned in kept.items():
        once = policy == "lightllm-pf" and name in SEARCHED_ONCE
        least = 1 if once else entry.searches
        assert tuned["evaluations"] >= least * entry.search.evaluations
        assert tuned["validation"] >= tuned["default"]


def numbers_in(model: bytes) -> dict[str, np.ndarray]:
    graph = onnx.load_from_string(model).graph
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_is_the_scorer_that_its_provenance_says(name):
    _, entry = load_entry(name)
    about = load_bundle(f"zoo:{name}").about
    kept = json.loads((ZOO / name / "heuristics.json").read_text("utf-8"))
    tuned = [Tuned(**kept[label]) for label in entry.heuristics]
    entry = with_rest(entry, tuned, max(tuned, key=lambda one: one.validation))
    own, chosen = about.environment, entry.environment(entry.loaded(entry.rates[0])).plan.options
    assert (own.aging, own.expected_output) == (chosen.aging, chosen.expected_output)
    scorer = Scorer.of(entry.environment(entry.loaded(entry.rates[0])).plan)
    parameters = np.array(about.provenance["parameters"])
    ours = numbers_in(scorer_action(scorer, parameters))
    kept = numbers_in((ZOO / name / "policy.onnx").read_bytes())
    assert ours.keys() == kept.keys()
    for part, numbers in kept.items():  # the provenance has six digits
        np.testing.assert_allclose(ours[part], numbers, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_plays_its_scenario(name):
    _, entry = load_entry(name)
    scenario = entry.loaded(entry.rates[0], {"episode.duration": 2.0})
    result = load_bundle(f"zoo:{name}").simulate(scenario, seed=1)
    assert result.policy == f"zoo:{name}"
    assert np.isfinite(result.summary["smooth_goodput"])
    again = load_bundle(f"zoo:{name}").simulate(scenario, seed=1)
    assert again.summary == pytest.approx(result.summary, nan_ok=True)


def test_the_readme_has_the_table_that_was_measured():
    measured = markdown(pd.read_csv(ZOO / "table.csv"))
    assert (ZOO / "table.md").read_text("utf-8") == measured
    assert measured in (ZOO / "README.md").read_text("utf-8")
