"""The migration experiment on settings small enough for a test."""

import sys
from pathlib import Path

import numpy as np
import pytest

from sgym import simulate
from sgym.core.layout import Move

FOLDER = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture(scope="module")
def noticed():
    sys.path.insert(0, str(FOLDER / "migration"))
    try:
        import noticed
    finally:
        sys.path.remove(str(FOLDER / "migration"))
    return noticed


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(FOLDER / "migration"))
    try:
        import example
    finally:
        sys.path.remove(str(FOLDER / "migration"))
    return example


SCENARIO = {
    "cluster": {"instances": 2, "link": {"bandwidth": 1e9}},
    "engine": {"num_gpu_blocks": 40, "max_model_len": 512},
    "latency": {"linear": {"iteration": 0.05}},
    "workload": {"rate": 6.0, "lengths": [{"prompt": 100, "output": 60, "output_sigma": 0.5}]},
    "slo": {"classes": [{"token_time": 0.05, "first_delay": 0.5}]},
    "episode": {"duration": 30.0},
}


@pytest.fixture(scope="module")
def result():
    return simulate(SCENARIO, "vllm", seed=3, log=("tokens", "moves"))


def test_smooth_goodput_from_the_tokens_is_that_of_the_summary(noticed, result):
    sent = noticed.deliveries(result)
    found = noticed.smooth_goodput(result, sent, noticed.READERS["strict"])
    assert found == pytest.approx(result.summary["smooth_goodput"], rel=1e-9)


def test_requests_on_time_from_the_tokens_are_those_of_the_summary(noticed, result):
    sent = noticed.deliveries(result)
    found = noticed.on_time(result, sent, noticed.READERS["strict"])
    assert found == pytest.approx(result.summary["slo_attainment_decided"])


def test_every_preemption_between_tokens_has_one_outcome_per_reader(noticed, result):
    found = noticed.events(result, noticed.deliveries(result), Move.PREEMPTION)
    assert 0 < found["num"] <= result.summary["num_preemptions"]
    for reader in noticed.READERS:
        assert sum(found[f"{reader}_{what}"] for what in noticed.OUTCOMES) == found["num"]


def test_in_the_example_only_who_stays_keeps_the_strict_reader_waiting(noticed, example):
    told = example.tell()
    reader = noticed.READERS["strict"]
    late = {
        name: (times - noticed.due(0.0, np.arange(1, len(times) + 1), reader)).max()
        for name, times in told.items()
    }
    assert [name for name, worst in late.items() if worst > 0] == ["stays, is preempted"]
    gaps = {name: np.diff(times).max() for name, times in told.items()}
    assert gaps["migrates live"] < noticed.TBT < gaps["is stopped and copied"]
