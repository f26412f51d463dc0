"""From a scenario to its requests."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgym.core.layout import ARRIVAL
from sgym.errors import ScenarioError, TraceError
from sgym.loading import load_scenario
from sgym.workload import describe, read_trace
from sgym.workload import generate as draw

NOTHING = {"kind": "none"}  # no prediction


def scenario(duration=100.0, warm_start=0.0, classes=None, max_model_len=16384, **workload):
    """A scenario of which only the workload matters."""
    slo = {} if classes is None else {"classes": classes}
    return load_scenario(
        {
            "workload": {"lengths": [{"prompt": 10, "output": 5}]} | workload,
            "slo": slo,
            "engine": {"max_model_len": max_model_len},
            "episode": {"duration": duration, "warm_start": warm_start},
        }
    )


def generate(config, seed):
    """The arrivals alone; what prompts share has a file of its own."""
    return draw(config, seed).arrivals


@pytest.fixture
def csv(tmp_path):
    """Write a plain CSV trace and return its path as text."""

    def write(text, name="trace.csv"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_constant_arrivals_are_evenly_spaced():
    requests = generate(
        scenario(2.0, rate=2.0, arrivals={"process": "constant"}, prediction=NOTHING), 0
    )
    assert requests.dtype == ARRIVAL
    assert list(requests["arrival"]) == [0.0, 0.5, 1.0, 1.5]
    assert list(requests["prompt"]) == [10] * 4
    assert list(requests["output"]) == [5] * 4
    assert np.isnan(requests["predicted"]).all()


def test_arrivals_cover_the_warm_start_and_the_window():
    requests = generate(scenario(10.0, warm_start=20.0, rate=50.0), 0)
    assert 29.0 < requests["arrival"].max() < 30.0


def test_num_requests_ends_the_workload():
    every = generate(scenario(rate=5.0), 3)
    assert generate(scenario(rate=5.0, num_requests=7), 3).tobytes() == every[:7].tobytes()
    few = scenario(rate=5.0, num_requests=3, arrivals={"process": "constant"})
    assert len(generate(few, 3)) == 3


PROCESSES = [
    {"process": "poisson"},
    {"process": "gamma", "cv": 4.0},
    {"process": "gamma", "cv": 0.25},
    {"process": "constant"},
    {"process": "mmpp", "levels": [0.5, 2.0], "durations": [6.0, 2.0]},
    {"process": "mmpp", "levels": [0.0, 1.0, 5.0], "durations": [3.0, 2.0, 1.0]},
    {"process": "mmpp", "levels": [3.0], "durations": [5.0]},
    {"process": "piecewise", "levels": [0.0, 3.0, 1.0], "durations": [5.0, 10.0, 10.0]},
    {"process": "diurnal", "period": 50.0, "amplitude": 1.0, "phase": 10.0},
]


@pytest.mark.parametrize("arrivals", PROCESSES, ids=lambda arrivals: arrivals["process"])
def test_every_process_has_the_mean_rate_that_was_asked(arrivals):
    config = scenario(200.0, rate=10.0, arrivals=arrivals)
    counts = np.array([len(generate(config, seed)) for seed in range(100)])
    error = max(counts.std() / np.sqrt(len(counts)), 0.1)
    assert abs(counts.mean() - 2000.0) < 4.0 * error


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.sampled_from(PROCESSES),
    rate=st.floats(0.01, 50.0),
    duration=st.floats(0.1, 60.0),
    seed=st.integers(0, 2**40),
)
def test_arrivals_are_sorted_and_inside_the_window(arrivals, rate, duration, seed):
    times = generate(scenario(duration, rate=rate, arrivals=arrivals), seed)["arrival"]
    assert (np.diff(times) >= 0).all()
    assert ((times >= 0) & (times < duration)).all()


@pytest.mark.parametrize("cv", [0.25, 1.0, 3.0])
def test_gaps_have_the_coefficient_of_variation_that_was_asked(cv):
    config = scenario(20_000.0, rate=5.0, arrivals={"process": "gamma", "cv": cv})
    gaps = np.diff(generate(config, 1)["arrival"])
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_gamma_arrivals_do_not_crowd_at_the_start():
    config = scenario(40.0, rate=10.0, arrivals={"process": "gamma", "cv": 4.0})
    times = np.concatenate([generate(config, seed)["arrival"] for seed in range(400)])
    first, rest = np.mean(times < 4.0), 0.1
    assert first == pytest.approx(rest, abs=0.015)


def test_piecewise_rates_follow_the_levels():
    arrivals = {"process": "piecewise", "levels": [0.0, 2.0], "durations": [10.0, 10.0]}
    times = generate(scenario(4000.0, rate=5.0, arrivals=arrivals), 0)["arrival"]
    assert (times % 20.0 >= 10.0).all()


def test_diurnal_rates_peak_a_quarter_into_the_cycle():
    arrivals = {"process": "diurnal", "period": 100.0, "amplitude": 0.8}
    times = generate(scenario(10_000.0, rate=5.0, arrivals=arrivals), 0)["arrival"] % 100.0
    shares = np.histogram(times, bins=4, range=(0.0, 100.0))[0] / len(times)
    swing = 0.8 * 2.0 / np.pi / 4.0  # mean of the sine over a quarter around its peak is 2 / pi
    np.testing.assert_allclose(shares, [0.25 + swing] * 2 + [0.25 - swing] * 2, atol=0.01)


def test_levels_of_an_mmpp_burst():
    bursty = {"process": "mmpp", "levels": [0.1, 10.0], "durations": [50.0, 10.0]}
    times = generate(scenario(5000.0, rate=5.0, arrivals=bursty), 0)["arrival"]
    per_second = np.bincount(times.astype(int), minlength=5000)
    assert per_second.var() / per_second.mean() > 10.0


def test_the_rate_changes_only_the_clock():
    lengths = [{"dataset": "sharegpt"}, {"prompt": 9, "output": 3, "output_sigma": 1.0}]
    classes = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]
    common = {"lengths": lengths, "classes": classes, "prediction": {"kind": "noisy"}}
    slow, fast = (generate(scenario(50.0, rate=rate, **common), 5) for rate in (2.0, 8.0))
    assert len(slow) < len(fast)
    for name in ("prompt", "output", "user_class", "predicted"):
        assert (slow[name] == fast[name][: len(slow)]).all()
    np.testing.assert_allclose(slow["arrival"] / 4.0, fast["arrival"][: len(slow)])


def test_longer_episodes_begin_like_shorter_ones():
    for arrivals in PROCESSES:
        short, long = (generate(scenario(d, rate=3.0, arrivals=arrivals), 2) for d in (20.0, 90.0))
        np.testing.assert_allclose(short["arrival"], long["arrival"][: len(short)], atol=0.02)


def test_the_same_seed_gives_the_same_bytes_in_another_process():
    code = (
        "import hashlib; from sgym import load_scenario; from sgym.workload import generate;"
        "s = load_scenario({'workload': {'rate': 9.0, 'arrivals': {'process': 'gamma', 'cv': 2.0},"
        "'prediction': {'kind': 'noisy'}}});"
        "print(hashlib.sha256(generate(s, 4).arrivals.tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
    config = scenario(rate=9.0)
    assert generate(config, 4).tobytes() == generate(config, 4).tobytes()
    assert generate(config, 4).tobytes() != generate(config, 5).tobytes()


def test_a_negative_seed_is_refused():
    with pytest.raises(ScenarioError, match="seed must be a whole number of at least 0, got -1"):
        generate(scenario(rate=1.0), -1)


def test_classes_come_by_share_with_their_priority_and_tenant():
    classes = [
        {"name": "reader", "share": 0.75, "priority": 1},
        {"name": "agent", "share": 0.25, "priority": -2},
    ]
    requests = generate(scenario(1000.0, rate=10.0, classes=classes), 0)
    agents = requests["user_class"] == 1
    assert agents.mean() == pytest.approx(0.25, abs=0.02)
    assert set(requests["priority"][agents]) == {-2}
    assert set(requests["priority"][~agents]) == {1}
    assert (requests["tenant"] == requests["user_class"]).all()


def test_components_mix_by_share_and_may_have_a_class():
    lengths = [
        {"prompt": 10, "output": 1, "share": 0.9, "user_class": "chat"},
        {"prompt": 5000, "output": 2, "share": 0.1, "user_class": "batch"},
    ]
    classes = [{"name": "chat"}, {"name": "batch"}]
    requests = generate(scenario(1000.0, rate=10.0, lengths=lengths, classes=classes), 0)
    assert (requests["prompt"] == 5000).mean() == pytest.approx(0.1, abs=0.01)
    assert ((requests["prompt"] == 5000) == (requests["user_class"] == 1)).all()


def test_lognormal_lengths_have_their_median_and_spread():
    lengths = [{"prompt": 1000, "output": 1, "prompt_sigma": 0.5, "output_sigma": 1.0}]
    requests = generate(scenario(1000.0, rate=20.0, lengths=lengths), 0)
    assert np.median(requests["prompt"]) == pytest.approx(1000, rel=0.02)
    assert np.log(requests["prompt"]).std() == pytest.approx(0.5, rel=0.02)
    assert requests["output"].min() == 1


def test_too_long_prompts_are_drawn_again_and_long_outputs_are_cut():
    common = {"rate": 20.0, "lengths": [{"dataset": "sharegpt"}]}
    free = generate(scenario(**common), 0)
    limited = generate(scenario(**common, max_prompt=100, max_output=50), 0)
    assert len(limited) == len(free)
    assert limited["prompt"].max() <= 100
    assert limited["output"].max() == 50
    short = free["output"][free["prompt"] <= 100]
    assert (limited["output"][: len(short)] == np.minimum(short, 50)).all()


def test_an_impossible_max_prompt_is_an_error():
    with pytest.raises(ScenarioError, match="max_prompt=5 leaves nothing"):
        generate(scenario(500.0, rate=1000.0, max_prompt=5), 0)


def test_predictions_follow_the_truth_as_well_as_they_claim():
    common = {"rate": 50.0, "lengths": [{"prompt": 1, "output": 100, "output_sigma": 1.0}]}

    def predict(**prediction):
        requests = generate(scenario(**common, prediction=prediction), 0)
        return requests["output"], requests["predicted"]

    output, predicted = predict(kind="oracle")
    assert (output == predicted).all()
    output, predicted = predict(kind="noisy", sigma=0.5)
    assert np.log(predicted / output).std() == pytest.approx(0.5, rel=0.05)
    assert predicted.min() >= 1.0
    output, predicted = predict(kind="bucket", buckets=[256, 64])
    assert (predicted == np.where(output <= 64, 64, 256)).all()


def test_requests_that_the_engine_would_refuse_stay_and_are_counted():
    config = scenario(2.0, rate=1.0, arrivals={"process": "constant"}, max_model_len=14)
    assert len(generate(config, 0)) == 2
    counts = describe(config)
    assert counts["requests"] == 2.0
    assert (counts["prompt_too_long"], counts["sequence_too_long"]) == (0.0, 2.0)
    assert (counts["prompt_mean"], counts["output_max"], counts["rate_rps"]) == (10.0, 5.0, 1.0)
    assert describe(scenario(2.0, rate=50.0, max_model_len=10))["prompt_too_long"] > 0
    assert describe(scenario(0.001, rate=0.001))["prompt_mean"] == 0.0


# --- traces --------------------------------------------------------------------------------------

EVEN = "arrival,prompt,output\n" + "".join(f"{i},{i + 1},5\n" for i in range(100))


def test_a_trace_is_replayed_from_its_start_without_random_windows(csv):
    config = scenario(4.0, trace=csv(EVEN), random_window=False)
    requests = generate(config, 0)
    assert list(requests["arrival"]) == [0.0, 1.0, 2.0, 3.0]
    assert list(requests["prompt"]) == [1, 2, 3, 4]


def test_a_window_is_cut_from_the_trace(csv):
    config = scenario(50.0, trace=csv(EVEN), random_window=False, window=[10.0, 13.0])
    requests = generate(config, 0)
    assert list(requests["arrival"]) == [0.0, 1.0, 2.0]
    assert list(requests["prompt"]) == [11, 12, 13]
    config = scenario(50.0, trace=csv(EVEN), window=[500.0, 600.0])
    with pytest.raises(TraceError, match="holds no row of the trace, which lasts 100 s"):
        generate(config, 0)


def test_random_windows_lie_inside_the_window_and_differ_by_seed(csv):
    config = scenario(10.0, trace=csv(EVEN), window=[20.0, 60.0])
    starts = set()
    for seed in range(20):
        requests = generate(config, seed)
        assert 10 <= len(requests) <= 11
        assert requests["prompt"].min() >= 21
        assert requests["prompt"].max() <= 60
        starts.add(requests["prompt"][0])
    assert len(starts) > 5


def test_the_rate_of_a_trace_is_scaled(csv):
    faster = generate(scenario(10.0, trace=csv(EVEN), rate=4.0, random_window=False), 0)
    assert list(faster["arrival"][:4]) == [0.0, 0.25, 0.5, 0.75]
    assert len(faster) == 40
    slower = generate(scenario(10.0, trace=csv(EVEN), rate_scale=0.5, random_window=False), 0)
    assert list(slower["arrival"]) == [0.0, 2.0, 4.0, 6.0, 8.0]
    few = generate(scenario(10.0, trace=csv(EVEN), rate_scale=0.5, num_requests=2), 0)
    assert len(few) == 2


def test_a_trace_that_runs_out_when_sped_up_warns(csv):
    config = scenario(60.0, trace=csv(EVEN), rate=2.0)
    with pytest.warns(UserWarning, match=r"sped up 2 times and ends after 50 s of 60 s"):
        requests = generate(config, 0)
    assert len(requests) == 100
    assert len(generate(scenario(200.0, trace=csv(EVEN)), 0)) == 100


BATCHED = "arrival,prompt,output\n" + "".join(f"{i // 10 * 3},{i + 1},5\n" for i in range(1000))


def test_batched_time_stamps_are_spread_over_their_step_in_order(csv):
    requests = generate(scenario(300.0, trace=csv(BATCHED), random_window=False), 0)
    assert list(requests["prompt"]) == list(range(1, 1001))
    assert (requests["arrival"] // 3 == np.arange(1000) // 10).all()
    assert len(np.unique(requests["arrival"])) == 1000
    other = generate(scenario(300.0, trace=csv(BATCHED), random_window=False), 1)
    assert (other["arrival"] != requests["arrival"]).any()


def test_tie_jitter_can_be_switched_off_or_forced(csv):
    config = scenario(300.0, trace=csv(BATCHED), random_window=False, tie_jitter="none")
    assert len(np.unique(generate(config, 0)["arrival"])) == 100
    one_tie = EVEN + "99,200,5\n"
    for jitter, expected in (("none", 100), ("uniform", 101)):
        config = scenario(200.0, trace=csv(one_tie), random_window=False, tie_jitter=jitter)
        assert len(np.unique(generate(config, 0)["arrival"])) == expected


def test_random_windows_of_batched_traces_lose_nothing_at_the_edges(csv):
    config = scenario(60.0, trace=csv(BATCHED))
    counts = [len(generate(config, seed)) for seed in range(300)]
    assert np.mean(counts) == pytest.approx(200.0, abs=1.0)


def test_prompts_above_the_limit_leave_a_trace(csv):
    config = scenario(200.0, trace=csv(EVEN), max_prompt=10, max_output=3, random_window=False)
    requests = generate(config, 0)
    assert list(requests["prompt"]) == list(range(1, 11))
    assert set(requests["output"]) == {3}
    with pytest.raises(TraceError, match="no row has a prompt of at most max_prompt=1 tokens"):
        generate(scenario(trace=csv("arrival,prompt,output\n0,9,9\n"), max_prompt=1), 0)


def test_a_trace_of_one_row_is_replayed(csv):
    requests = generate(scenario(trace=csv("arrival,prompt,output\n5,9,8\n")), 0)
    assert requests[["arrival", "prompt", "output"]].tolist() == [(0.0, 9, 8)]


def test_columns_of_the_trace_win_over_shares(csv):
    text = "arrival,prompt,output,user_class,tenant,priority\n0,1,1,b,7,\n1,2,1,a,3,\n2,3,1,1,7,\n"
    classes = [{"name": "a", "priority": 4}, {"name": "b", "priority": 5}]
    requests = generate(scenario(trace=csv(text), classes=classes), 0)
    assert list(requests["user_class"]) == [1, 0, 1]
    assert list(requests["priority"]) == [5, 4, 5]
    assert list(requests["tenant"]) == [7, 3, 7]
    text = "arrival,prompt,output,priority\n0,1,1,9\n"
    assert generate(scenario(trace=csv(text), classes=classes), 0)["priority"][0] == 9


def test_a_class_that_the_scenario_lacks_is_named(csv):
    text = "arrival,prompt,output,user_class\n0,1,1,robot\n"
    with pytest.raises(ScenarioError, match=r"user_class 'robot', but slo.classes has default"):
        generate(scenario(trace=csv(text)), 0)


def test_a_trace_without_time_stamps_needs_a_rate(csv):
    lengths = csv("prompt,output\n1,10\n2,20\n3,30\n")
    with pytest.raises(ScenarioError, match=r"has no time stamps: give workload\.rate"):
        generate(scenario(trace=lengths), 0)
    arrivals = {"process": "constant"}
    config = scenario(4.0, trace=lengths, rate=1.0, arrivals=arrivals, random_window=False)
    assert list(generate(config, 0)["prompt"]) == [1, 2, 3, 1]
    drawn = generate(scenario(1000.0, trace=lengths, rate=3.0), 0)
    assert np.bincount(drawn["prompt"])[1:] == pytest.approx([1000] * 3, rel=0.15)
    assert (drawn["output"] == 10 * drawn["prompt"]).all()


def test_a_file_that_changes_is_read_again(csv):
    path = csv("arrival,prompt,output\n0,1,1\n")
    assert generate(scenario(trace=path), 0)["prompt"][0] == 1
    csv("arrival,prompt,output\n0,1000,1\n")
    assert generate(scenario(trace=path), 0)["prompt"][0] == 1000


def test_real_azure_load_keeps_its_rate_and_lengths(shared_data):
    path = shared_data / "traces" / "AzureLLMInferenceTrace_conv.csv"
    table = read_trace(path).table
    config = scenario(300.0, trace=str(path), rate=6.0)
    batches = [generate(config, seed) for seed in range(40)]
    assert np.mean([len(batch) for batch in batches]) / 300.0 == pytest.approx(6.0, rel=0.05)
    prompts = np.concatenate([batch["prompt"] for batch in batches])
    assert prompts.mean() == pytest.approx(table["prompt"].mean(), rel=0.03)


def test_mooncake_arrivals_are_nearly_poisson_once_spread(shared_data):
    path = shared_data / "traces" / "mooncake_conversation_trace.jsonl"
    gaps = np.diff(generate(scenario(1800.0, trace=str(path), random_window=False), 0)["arrival"])
    assert gaps.std() / gaps.mean() == pytest.approx(1.01, abs=0.05)
