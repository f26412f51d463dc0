"""What policies remember is part of a snapshot."""

import pytest
from playing import toy

import sgym

REMEMBERING = ["vtc", "ltr", "andes", "lightllm-pf", "fastserve"]


@pytest.mark.parametrize("policy", REMEMBERING)
def test_a_restored_simulation_runs_as_the_first_time(policy):
    simulator = sgym.Simulator(toy(episode__warm_start=1.0), policy=policy, seed=3)
    snapshot = simulator.snapshot()
    first = simulator.run().state.requests.tobytes()
    simulator.restore(snapshot)
    assert simulator.run().state.requests.tobytes() == first
