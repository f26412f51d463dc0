"""Generated system prompts and conversations."""

from itertools import pairwise

import numpy as np
import pytest

from sgym.config import Arrivals
from sgym.errors import ScenarioError
from sgym.loading import load_scenario
from sgym.workload import generate
from sgym.workload.arrivals import arrival_times

SYSTEM = {"count": 3, "tokens": 40}
CHAT = {"turns": 4.0, "think_time": 5.0}
FIXED = [{"prompt": 32, "output": 16}]


def scenario(duration=500.0, classes=None, max_model_len=16384, block_size=16, **workload):
    """A scenario of which only the workload matters."""
    return load_scenario(
        {
            "workload": {"rate": 5.0, "lengths": FIXED} | workload,
            "slo": {} if classes is None else {"classes": classes},
            "engine": {"max_model_len": max_model_len, "block_size": block_size},
            "episode": {"duration": duration},
        }
    )


def ids_of(requests):
    """The hashes of each request."""
    rows = requests.arrivals[["first_hash", "num_hashes"]].tolist()
    return [requests.hashes[first : first + count].tolist() for first, count in rows]


def contexts(requests):
    """The requests of each conversation that has several: rows in order of arrival."""
    found = {}
    for row, ids in enumerate(ids_of(requests)):
        found.setdefault(tuple(ids[:1]), []).append(row)
    found.pop((), None)
    return list(found.values())


def test_a_turn_begins_with_the_whole_prompt_of_the_turn_before():
    requests = generate(scenario(prefixes={"conversations": CHAT}), 0)
    prompt, ids = requests.arrivals["prompt"], ids_of(requests)
    lengths = []
    for rows in contexts(requests):
        assert (np.diff(prompt[rows]) == 16 + 32).all()  # the answer, and the next message
        for before, after in pairwise(rows):
            shared = prompt[before] // 16
            assert ids[after][:shared] == ids[before][:shared] == ids[before]
        assert len(ids[rows[-1]]) == prompt[rows[-2]] // 16  # its own end is nobody else's
        lengths.append(len(rows))
    assert len(lengths) > 100
    assert max(lengths) > 8


def test_the_hit_share_of_conversations_is_that_of_their_earlier_prompts():
    requests = generate(scenario(prefixes={"conversations": CHAT}), 0)
    prompt = requests.arrivals["prompt"]
    found = sum(int((prompt[rows[:-1]] // 16 * 16).sum()) for rows in contexts(requests))
    assert requests.hit_share == pytest.approx(found / prompt.sum())


def test_hashes_are_dense_and_of_the_engines_blocks():
    for prefixes in ({"system": SYSTEM}, {"system": SYSTEM, "conversations": CHAT}):
        requests = generate(scenario(prefixes=prefixes, block_size=24), 0)
        assert requests.hash_block == 24
        assert set(requests.hashes.tolist()) == set(range(requests.hashes.max() + 1))
        ends = requests.arrivals["first_hash"] + requests.arrivals["num_hashes"]
        assert ends.max() == len(requests.hashes)


def test_conversations_with_one_system_prompt_share_it_and_nothing_else():
    prefixes = {"system": SYSTEM | {"count": 1}, "conversations": CHAT}
    requests = generate(scenario(prefixes=prefixes), 0)
    assert requests.arrivals["prompt"].min() == 40 + 32
    ids = ids_of(requests)
    assert all(own[:2] == [0, 1] for own in ids)  # 40 tokens fill two blocks
    by_third = {}
    for row, own in enumerate(ids):
        if len(own) > 2:
            by_third.setdefault(own[2], []).append(row)
    for rows in by_third.values():
        assert (np.diff(requests.arrivals["prompt"][rows]) == 48).all()


def test_a_system_prompt_comes_before_the_message_and_changes_nothing_else():
    plain = generate(scenario(lengths=[{"dataset": "sharegpt"}]), 3).arrivals
    mixed = scenario(lengths=[{"dataset": "sharegpt"}], prefixes={"system": SYSTEM})
    requests = generate(mixed, 3)
    assert (requests.arrivals["prompt"] == plain["prompt"] + 40).all()
    for name in ("arrival", "output", "predicted"):
        assert (requests.arrivals[name] == plain[name]).all()
    assert len(requests.hashes) == 3 * 2


def test_popular_system_prompts_follow_zipf_and_some_requests_have_none():
    system = {"count": 3, "tokens": 16, "zipf": 1.0, "share": 0.55}
    requests = generate(scenario(4000.0, prefixes={"system": system}), 0)
    first = [ids[0] if ids else -1 for ids in ids_of(requests)]
    shares = np.bincount(np.array(first) + 1) / len(first)
    assert shares == pytest.approx([0.45, 0.3, 0.15, 0.1], abs=0.01)  # 6 : 3 : 2
    assert set(requests.arrivals["prompt"][np.array(first) == -1]) == {32}


def test_lengths_of_system_prompts_may_vary_but_each_has_one():
    system = {"count": 200, "tokens": 1000, "tokens_sigma": 0.5, "zipf": 0.0}
    requests = generate(scenario(4000.0, prefixes={"system": system}), 0)
    tokens = requests.arrivals["prompt"] - 32
    assert (tokens // 16 == requests.arrivals["num_hashes"]).all()
    assert len(set(zip(tokens, requests.arrivals["first_hash"], strict=True))) == 200
    assert np.log(np.unique(tokens)).std() == pytest.approx(0.5, rel=0.15)
    assert np.median(np.unique(tokens)) == pytest.approx(1000, rel=0.15)


@pytest.mark.parametrize("process", ["poisson", "gamma", "piecewise", "mmpp", "diurnal"])
def test_the_mean_rate_is_that_of_requests_from_the_start(process):
    arrivals = {"process": process, "cv": 1.5, "durations": [6.0, 2.0], "period": 40.0}
    config = scenario(200.0, arrivals=arrivals, prefixes={"conversations": CHAT})
    times = [generate(config, seed).arrivals["arrival"] for seed in range(80)]
    counts = np.array([len(one) for one in times])
    assert abs(counts.mean() - 1000.0) < 4.0 * counts.std() / np.sqrt(len(counts))
    early = np.array([np.count_nonzero(one < 40.0) for one in times])
    assert abs(early.mean() - 200.0) < 4.0 * early.std() / np.sqrt(len(early))


def test_think_times_and_turns_have_their_means():
    requests = generate(scenario(20_000.0, prefixes={"conversations": CHAT}), 0)
    times = requests.arrivals["arrival"]
    gaps = np.concatenate([np.diff(times[rows]) for rows in contexts(requests)])
    assert gaps.mean() == pytest.approx(5.0, rel=0.02)
    assert np.median(gaps) == pytest.approx(5.0 * np.log(2.0), rel=0.03)
    later = len(gaps) / len(requests)  # 3 of 4 requests are not the first
    assert later == pytest.approx(0.75, abs=0.005)


def test_a_turn_that_would_not_fit_starts_over():
    for limits in ({"max_prompt": 100}, {"max_model_len": 116}):
        requests = generate(scenario(prefixes={"conversations": CHAT}, **limits), 0)
        prompt = requests.arrivals["prompt"]
        assert set(prompt) == {32, 80}
        assert len(requests) == len(generate(scenario(prefixes={"conversations": CHAT}), 0))
        for rows in contexts(requests):
            assert list(prompt[rows]) == [32, 80]


def test_prompts_are_cut_to_the_limit_and_outputs_before_they_are_repeated():
    config = scenario(prefixes={"system": SYSTEM, "conversations": CHAT}, max_prompt=60)
    assert set(generate(config, 0).arrivals["prompt"]) == {60}
    config = scenario(prefixes={"system": SYSTEM}, max_prompt=20)
    requests = generate(config, 0)
    assert set(requests.arrivals["prompt"]) == {20}
    assert set(requests.arrivals["num_hashes"]) == {1}
    config = scenario(prefixes={"conversations": CHAT}, max_output=4)
    assert set(generate(config, 0).arrivals["prompt"] % 36) == {32}


def test_num_requests_ends_the_episode():
    lengths = [{"dataset": "sharegpt"}]
    every = generate(scenario(lengths=lengths, prefixes={"conversations": CHAT}), 1)
    few = scenario(1e7, lengths=lengths, prefixes={"conversations": CHAT}, num_requests=50)
    requests = generate(few, 1)
    assert len(requests) == 50
    for name in ("arrival", "prompt", "output", "predicted"):
        np.testing.assert_allclose(requests.arrivals[name], every.arrivals[name][:50], rtol=1e-6)


def test_the_same_seed_gives_the_same_bytes():
    config = scenario(prefixes={"system": SYSTEM, "conversations": CHAT})
    one, two, other = (generate(config, seed) for seed in (4, 4, 5))
    assert one.arrivals.tobytes() == two.arrivals.tobytes()
    assert one.hashes.tobytes() == two.hashes.tobytes()
    assert one.arrivals.tobytes() != other.arrivals.tobytes()


def test_all_turns_of_a_conversation_are_of_one_class():
    classes = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.3}, {"name": "c"}]
    parts = [FIXED[0] | {"share": 0.5}, FIXED[0] | {"user_class": "c", "share": 0.5}]
    config = scenario(classes=classes, lengths=parts, prefixes={"conversations": CHAT})
    requests = generate(config, 0)
    user_class = requests.arrivals["user_class"]
    assert set(user_class) == {0, 1, 2}
    assert (requests.arrivals["tenant"] == user_class).all()
    for rows in contexts(requests):
        assert len(set(user_class[rows])) == 1


def test_an_episode_may_be_empty():
    prefixes = {"system": SYSTEM, "conversations": CHAT}
    requests = generate(scenario(0.001, rate=0.001, prefixes=prefixes), 0)
    assert (len(requests), len(requests.hashes), requests.hit_share) == (0, 0, 0.0)


def test_cycles_begin_at_time_0_whenever_the_process_began():
    levels = Arrivals(process="piecewise", levels=(0.0, 2.0), durations=(10.0, 10.0))
    times = arrival_times(levels, 5.0, 400.0, 0, before=27.0)
    assert (times % 20.0 >= 10.0).all()
    assert -27.0 <= times.min() < -20.0  # at -30 to -20 it is on
    day = Arrivals(process="diurnal", period=100.0, amplitude=1.0)
    times = arrival_times(day, 5.0, 10_000.0, 0, before=130.0) % 100.0
    assert np.mean(times < 50.0) == pytest.approx(0.5 + 1.0 / np.pi, abs=0.01)


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ({"prefixes": {}}, r"give `system`, `conversations` or both"),
        ({"prefixes": {"system": {}}, "trace": "x.csv"}, r"give `trace` or `prefixes`"),
        ({"prefixes": {"conversations": {"turns": 0.5}}}, r"turns"),
        ({"prefixes": {"system": {"share": 0.0}}}, r"share"),
    ],
)
def test_wrong_settings_are_explained(workload, message):
    with pytest.raises(ScenarioError, match=message):
        scenario(**workload)


def test_too_many_requests_or_hashes_are_refused():
    patient = {"turns": 100.0, "think_time": 1e6}
    with pytest.raises(ScenarioError, match=r"7e\+08 s before in which .* at most 50000000"):
        generate(scenario(prefixes={"conversations": patient}), 0)
    endless = {"count": 1, "tokens": 2**31 - 1}
    with pytest.raises(ScenarioError, match=r"2.15e\+09 shared KV blocks"):
        generate(scenario(prefixes={"system": endless}, block_size=1), 0)
