"""Reading a scenario: overrides, and what is said of a bad one."""

import pytest

import sgym
from sgym import load_scenario
from sgym.errors import ScenarioError, SgymError

SMALL = {
    "engine": {"num_gpu_blocks": 64, "max_model_len": 256},
    "latency": {"linear": {"iteration": 0.01}},
    "workload": {"rate": 4.0},
    "episode": {"duration": 5.0},
}


def test_an_override_reaches_into_a_list_that_the_scenario_leaves_out():
    slower = sgym.load_scenario(SMALL, {"slo.classes.0.alpha": 0.5, "workload.arrivals.cv": 2.0})
    assert [user.alpha for user in slower.slo.classes] == [0.5]
    assert slower.slo.classes[0].token_time == 0.2
    other = sgym.load_scenario(SMALL, {"workload.lengths.0.dataset": "summarization"})
    assert [part.dataset for part in other.workload.lengths] == ["summarization"]
    levels = sgym.load_scenario(SMALL, {"workload.arrivals.levels.1": 9.0}).workload.arrivals.levels
    assert levels == (0.5, 9.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"slo.classes.1.alpha": 1},
            "override 'slo.classes.1.alpha': '1' is no index into 1 items",
        ),
        ({"slo.users.0.alpha": 1}, "override 'slo.users.0.alpha': '0' is no known key"),
        ({"workload.0": 1}, "workload.0 is no known key"),
        ({"workload.lengths": []}, "workload.lengths: .* at least 1 item"),
        ({"workload.lengths": {"prompt": 3}}, "workload.lengths: must be a list"),
        ({"workload.prediction.buckets": []}, "workload.prediction.buckets: .* at least 1 item"),
        ({"workload.arrivals.cv": 1e-9}, "workload.arrivals.cv: .* got 1e-09"),
        ({"engine": 5}, "engine: must be a section of keys and values, got 5"),
        ({"slo.classes.0.priority": 2**31}, "slo.classes.0.priority: .* got 2147483648"),
        ({"slo.classes.0.alpha": 1e13}, "slo.classes.0.alpha: .* got 10000000000000.0"),
        ({"slo.classes.0.weight": 1e308}, r"slo.classes.0.weight: .* got 1e\+308"),
        (
            {"latency.linear": {"iteration": 0.0, "decode_seq": 0.1}},
            "latency.linear: an iteration of one token takes 0 s, must be at least 1e-06",
        ),
    ],
)
def test_a_bad_value_is_explained(overrides, message):
    with pytest.raises(ScenarioError, match=message):
        sgym.load_scenario(SMALL, overrides)


def test_an_iteration_may_take_time_for_its_tokens_alone():
    linear = {"iteration": 0.0, "prefill_token": 1e-4, "decode_seq": 1e-3}
    scenario = sgym.load_scenario(SMALL, {"latency.linear": linear, "engine.max_model_len": 1000})
    assert sgym.simulate(scenario, "vllm").summary["num_requests"] > 0


def test_a_trace_may_lie_beside_the_file_of_its_scenario(tmp_path, monkeypatch):
    folder = tmp_path / "scenarios"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "workload: {trace: mine.csv}\nlatency: {linear: {iteration: 0.01}}\n"
    )
    (folder / "mine.csv").write_text("arrival,prompt,output\n0,16,2\n")
    monkeypatch.chdir(tmp_path)
    assert load_scenario("scenarios/mine.yaml").workload.trace == "scenarios/mine.csv"
    (tmp_path / "mine.csv").write_text("arrival,prompt,output\n0,16,2\n")
    assert load_scenario("scenarios/mine.yaml").workload.trace == "mine.csv"
    assert load_scenario("scenarios/mine.yaml", {"workload.trace": "no.csv"}).workload.trace == (
        "no.csv"
    )


def test_a_key_that_stands_twice_is_an_error(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("workload: {rate: 4}\nepisode: {duration: 5}\nworkload: {rate: 5}\n")
    with pytest.raises(ScenarioError, match=r"twice.yaml .*key 'workload' is there twice"):
        sgym.load_scenario(path)
    path.write_text("episode: &five {duration: 5}\nworkload: {<<: {rate: 4}, rate: 6}\n")
    assert sgym.load_scenario(path).workload.rate == 6.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"workload.rate": 1e9},
            r"workload.rate 1e\+09 over 5 s gives 5e\+09 requests, must be at",
        ),
        (
            {"workload.arrivals": {"process": "diurnal", "period": 1e-6}},
            "workload.arrivals.period is too short for the episode",
        ),
        (
            {"workload.arrivals": {"process": "piecewise", "durations": [1e-9, 1e-9]}},
            r"workload.arrivals.durations is too short .* 2.5e\+09 times, must be at most 10000000",
        ),
        (
            {"workload.arrivals": {"process": "mmpp", "durations": [1e-9, 1.0]}},
            "workload.arrivals.durations is too short",
        ),
    ],
)
def test_a_workload_too_large_for_memory_is_refused_before_it_is_drawn(overrides, message):
    with pytest.raises(ScenarioError, match=message):
        sgym.simulate(sgym.load_scenario(SMALL, overrides), "vllm")


PARTED = [{"role": "prefill"}, {"role": "decode"}]


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"pools": [{"role": "prefill"}]}, "cluster: .*prefill instances, but none that decodes"),
        ({"pools": [{"role": "decode"}]}, "cluster: .*decode instances, but none that prefills"),
        ({"pools": PARTED, "instances": 3}, "cluster: .*`instances` or `pools`, not both"),
        ({"pools": [{"role": "prefil"}]}, "cluster.pools.0.role: .*got 'prefil'"),
        ({"pools": [{"engine": {"block_size": 8}}]}, "cluster.pools.0: .*block_size.*got 8"),
        ({"pools": [{"link": {"latency": 1}}]}, "cluster.pools.0.link"),
        ({"pools": [{"link_bandwidth": 0}]}, "cluster.pools.0.link_bandwidth: .*got 0"),
        ({"link": {"preset": "pigeon"}}, "cluster.link.preset: .*got 'pigeon'"),
        ({"migration": {"mode": "magic"}}, "cluster.migration.mode: .*got 'magic'"),
    ],
)
def test_what_is_wrong_with_a_cluster_is_said_with_its_place(cluster, message):
    with pytest.raises(ScenarioError, match=message):
        sgym.load_scenario(SMALL | {"cluster": cluster})


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"pools": [{"engine": {"max_seqs": 8}}]}, "cluster.pools.0.engine.*max_seqs"),
        (
            {"instances": 2, "router": "best"},
            "cluster.router: no router 'best'; known: round_robin",
        ),
        (
            {"pools": PARTED, "handoff": "best"},
            "cluster.handoff: no rule 'best'; .*least_kv",
        ),
    ],
)
def test_what_only_a_simulator_can_know_is_said_with_its_place(cluster, message):
    with pytest.raises(SgymError, match=message):
        sgym.Simulator(SMALL | {"cluster": cluster})


def test_the_ports_of_a_pool_may_be_slower_than_those_of_others():
    pools = [{"role": "prefill", "link_bandwidth": 1e9}, {"role": "decode"}]
    engines = sgym.Simulator(SMALL | {"cluster": {"pools": pools}}).state.engines
    assert engines["link_bandwidth"].tolist() == [1e9, 24e9]
