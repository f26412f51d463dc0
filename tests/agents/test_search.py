"""The search: it finds optima, tunes heuristics, goes on after an interruption."""

import numpy as np
import pytest
from toy_entries import toy_entry

from agents.known_answers import KNOWN_ANSWERS, solve_by_search
from agents.search import VALIDATION, Budget, search
from agents.tuning import Range, Tuner, overrides_of, tune

GOAL = np.array([0.3, -0.2, 0.5])


def score(candidates, seeds):
    """Highest at GOAL; a workload adds the same noise to all."""
    value = -((candidates - GOAL) ** 2).sum(axis=1)
    noise = np.array([np.random.default_rng(seed).normal() for seed in seeds])
    return value[:, None] + 0.01 * noise


def test_it_finds_the_highest_point():
    found = search(score, np.zeros(3), Budget(generations=60, seeds=2, sigma=0.3))
    assert np.abs(found.best - GOAL).max() < 0.05
    assert found.curve[0][0] == 0
    assert found.curve[-1][0] == 60


def test_the_start_stays_the_best_where_nothing_is_better():
    found = search(score, GOAL.copy(), Budget(generations=3, seeds=2, sigma=0.5, check=1))
    assert np.abs(found.best - GOAL).max() < 0.1


def test_training_and_validation_never_share_a_workload():
    asked = []

    def noted(candidates, seeds):
        asked.append(list(seeds))
        return score(candidates, seeds)

    search(noted, np.zeros(3), Budget(generations=4, seeds=3, check=2, validation=5))
    training = [seeds for seeds in asked if seeds[0] < VALIDATION]
    assert training == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert [s for s in asked if s[0] >= VALIDATION] == [list(range(VALIDATION, VALIDATION + 5))] * 3


def test_an_interrupted_search_ends_as_if_it_had_not_been(tmp_path):
    whole = search(score, np.zeros(3), Budget(generations=8, seeds=2))
    count = 0

    def fails(candidates, seeds):
        nonlocal count
        count += 1
        if count == 6:
            raise KeyboardInterrupt
        return score(candidates, seeds)

    kept = tmp_path / "search.state"
    with pytest.raises(KeyboardInterrupt):
        search(fails, np.zeros(3), Budget(generations=8, seeds=2), kept)
    again = search(score, np.zeros(3), Budget(generations=8, seeds=2), kept)
    assert again.best.tobytes() == whole.best.tobytes()
    assert again.generation == 8
    assert again.seconds > 0.0


def test_ranges_may_be_logarithmic_and_whole():
    ranges = Range(1.0, 256.0, log=True, whole=True)
    assert [ranges.value(place) for place in (0.0, 0.5, 1.0, 1.7)] == [1, 16, 256, 256]
    assert ranges.place(16.0) == pytest.approx(0.5)
    assert Range(2.0, 4.0).value(0.25) == 2.5


def test_a_range_is_widened_only_beyond_what_is_no_natural_limit():
    free, limited = Range(1.0, 8.0, log=True), Range(1.0, 8.0, fixed=(True, True))
    assert free.widened(0.99).high == 32.0
    assert free.widened(0.0).low == 0.25
    assert free.widened(0.5) == free
    assert limited.widened(1.0) == limited


def test_a_tuner_starts_from_the_defaults():
    tuner = Tuner(toy_entry(), "spf", 1)
    own, engine = tuner.named(tuner.start)
    assert own == pytest.approx({"aging": 20.0, "reservation": 0.2, "expected_output": 256.0})
    assert engine == {
        "max_num_seqs": 32, "max_num_batched_tokens": 512, "long_prefill_token_threshold": 512
    }  # fmt: skip


def test_a_router_may_stand_behind_a_policy():
    changes = overrides_of("spf", "llm_d", {"aging": 3.0}, {"max_num_seqs": 8.0})
    assert changes == {
        "policy": {"name": "spf", "aging": 3.0},
        "engine.max_num_seqs": 8,
        "cluster.router": "llm_d",
    }


def test_a_tuned_heuristic_is_no_worse_than_its_defaults_on_validation():
    budget = {"generations": 2, "population": 4, "seeds": 2, "validation": 4, "check": 1}
    tuned = tune(toy_entry(search=budget), "spf")
    assert tuned.validation >= tuned.default
    assert tuned.evaluations >= 16
    assert tuned.label == "spf"


def test_more_searches_add_to_what_is_kept_and_the_best_counts():
    budget = {"generations": 2, "population": 4, "seeds": 2, "validation": 4, "check": 1}
    one, three = (toy_entry(search=budget, searches=number) for number in (1, 3))
    first = tune(one, "spf")
    found = tune(three, "spf", kept=first)
    assert found == tune(three, "spf")
    assert found.searches == 3
    assert found.evaluations >= 3 * 16
    assert found.validation >= first.validation
    assert (found.first is None) == (found.validation == first.validation)
    start = found.as_first_found
    assert (start.parameters, start.engine) == (first.parameters, first.engine)


def test_ranges_are_widened_as_long_as_that_helps(monkeypatch):
    """The optimum lies at a reservation of 10, of which the first range ends at 1."""

    def score(tuner, candidates, seeds):
        values = [-abs(tuner.named(places)[0]["reservation"] - 10.0) for places in candidates]
        return np.repeat(np.array(values)[:, None], len(seeds), axis=1)

    monkeypatch.setattr(Tuner, "score", score)
    budget = {"generations": 60, "population": 8, "seeds": 1, "validation": 2, "sigma": 0.3}
    tuned = tune(toy_entry(search=budget, searches=1), "spf")
    assert tuned.parameters["reservation"] == pytest.approx(10.0, abs=0.3)
    assert tuned.evaluations == 3 * 60 * 8


def test_a_heuristic_without_parameters_is_what_it_is():
    budget = {"generations": 2, "population": 4, "seeds": 2, "validation": 4}
    entry = toy_entry(search=budget).model_copy(update={"env": "sgym/Router-v0"})
    tuned = tune(entry, "vllm")
    assert tuned.parameters == tuned.engine == {}
    assert tuned.validation == tuned.default


@pytest.mark.parametrize("name", ["shortest", "urgent"])
def test_it_finds_known_answers_from_first_come_first_served(name):
    assert solve_by_search(name)[0] >= KNOWN_ANSWERS[name].threshold
