"""snapshot() and restore(): the same future again, as often as one likes."""

import numpy as np
import pytest
from playing import CLUSTERS, UNEQUAL, digest, make, make_router, play, sampled, toy

BUSY = toy(cluster__instances=2, latency__noise=0.2, workload__rate=20.0)
MAKERS = CLUSTERS | {
    action: lambda action=action: make(action, scenario=BUSY)
    for action in ("slots", "knobs", "scores", "index")
}
MAKERS |= {
    f"router of {policy}": lambda policy=policy: make_router(
        scenario=UNEQUAL | {"policy": {"name": policy}}
    )
    for policy in ("vtc", "fastserve", "ltr", "random")
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_restored_environment_goes_on_exactly_as_before(name):
    env = MAKERS[name]()
    _, info = env.reset(seed=2)
    for _ in range(12):
        info = env.step(sampled(env, info))[4]
    here = env.snapshot()
    first, taken = [], []
    for _ in range(15):
        taken.append(sampled(env, info))
        first.append(env.step(taken[-1]))
        info = first[-1][4]
    for _ in range(2):
        env.restore(here)
        assert digest([env.step(each) for each in taken]) == digest(first)


def test_a_snapshot_includes_the_random_numbers_of_later_episodes():
    env = make()
    env.reset(seed=2)
    here = env.snapshot()
    env.reset()
    following = env.workload_seed
    env.reset()
    env.restore(here)
    env.reset()
    assert env.workload_seed == following


def test_restore_returns_what_is_seen_there():
    env = make("slots")
    observation, info = env.reset(seed=2)
    here = env.snapshot()
    play(env)
    again, info_again = env.restore(here)
    assert all(again[part].tobytes() == observation[part].tobytes() for part in observation)
    assert info_again["dt"] == pytest.approx(info["dt"])
    assert np.array_equal(
        np.concatenate(info_again["action_mask"]), np.concatenate(info["action_mask"])
    )
    env.step(np.zeros(9, int))  # not over any more
