"""What each built-in scheduler prefers, seen on an engine that serves one request at a time."""

import math

import pytest

import sgym
from sgym.errors import PolicyError, SgymError
from sgym.policies import POLICIES
from sgym.policies.registry import load_policy, policy_record


def scenario(policy=None, **engine):
    return {
        "engine": {"num_gpu_blocks": 1001, "max_num_seqs": 1, "max_model_len": 4096} | engine,
        "latency": {"linear": {"iteration": 1.0}},
        "workload": {"rate": 1.0},
        "episode": {"duration": 1000.0},
        "policy": policy or {},
    }


def order_of_service(name, requests, **parameters):
    """Indexes of the requests in the order in which they got their first token."""
    settings = scenario({"name": name} | parameters)
    result = sgym.simulate(settings, name, arrivals=requests)
    first = result.state.requests["first_token"]
    return sorted(range(len(requests)), key=lambda r: first[r])


def request(arrival, prompt=10, output=3, **more):
    rest = {"predicted": 10, "priority": 0, "tenant": 0, "user_class": 0}
    return {"arrival": arrival, "prompt": prompt, "output": output} | rest | more


def test_first_come_first_served_keeps_the_order_of_arrival():
    requests = [request(0), request(0.1, 500), request(0.2, 5)]
    for policy in ("vllm", "vllm-v0", "sarathi", "orca", "slack-victim"):
        assert order_of_service(policy, requests) == [0, 1, 2]


def test_priorities_go_first():
    requests = [request(0), request(0.1, priority=5), request(0.2, priority=-1)]
    assert order_of_service("vllm-priority", requests) == [0, 2, 1]


def test_the_shortest_prompt_goes_first():
    requests = [request(0), request(0.1, 500), request(0.2, 20), request(0.3, 90)]
    assert order_of_service("spf", requests) == [0, 2, 3, 1]


def test_aging_lets_a_long_prompt_overtake_a_younger_short_one():
    requests = [request(0), request(0.0, 500), request(2.0, 480)]
    assert order_of_service("spf", requests, aging=20.0) == [0, 1, 2]
    assert order_of_service("spf", requests, aging=5.0) == [0, 2, 1]


def test_the_shortest_predicted_output_goes_first():
    requests = [
        request(0, predicted=3),
        request(0.1, predicted=300),
        request(0.2, predicted=2),
        request(0.3, predicted=20),
    ]
    assert order_of_service("sjf", requests) == [0, 2, 3, 1]
    assert order_of_service("srpt", requests) == [0, 2, 3, 1]


def test_the_earliest_due_token_goes_first():
    classes = [{"name": "slow", "token_time": 5.0}, {"name": "fast", "token_time": 0.1}]
    settings = scenario() | {"slo": {"classes": classes}}
    requests = [request(0), request(0.1, user_class=0), request(0.2, user_class=1)]
    for policy in ("edf", "llf"):
        state = sgym.simulate(settings, policy, arrivals=requests).state
        assert state.requests["first_token"][2] < state.requests["first_token"][1]


def test_least_laxity_takes_a_long_prompt_into_account():
    requests = [request(0), request(0.1, 20), request(0.15, 4000)]
    assert order_of_service("llf", requests, prefill_time=1e-3) == [0, 2, 1]
    assert order_of_service("edf", requests) == [0, 1, 2]


def test_the_client_that_was_served_least_goes_first():
    requests = [
        request(0, 100, tenant=0),
        request(0.1, 10, tenant=0),
        request(0.2, 10, tenant=0),
        request(0.3, 10, tenant=1),
        request(0.4, 10, tenant=1),
    ]
    # Client 1 comes while client 0 has 102 on its counter, and is lifted to that; client 0 is at
    # 106 when the engine is free, then it is 118 against 106, then 118 against 122.
    assert order_of_service("vtc", requests) == [0, 3, 1, 4, 2]


def test_a_prompt_that_was_found_in_the_cache_is_charged_all_the_same():
    settings = scenario(enable_prefix_caching=True) | {"workload": {"rate": 1.0, "hash_block": 16}}
    hashes = [1, 2, 3, 4]
    requests = [
        request(0, 64, 1, tenant=0, hash_ids=hashes),
        request(5, 64, 3, tenant=1, hash_ids=hashes),  # 48 tokens found
        request(5.1, 10, 1, tenant=1),
        request(5.2, 10, 1, tenant=0),
    ]
    requests = [{"hash_ids": [90 + k]} | row for k, row in enumerate(requests)]
    simulator = sgym.Simulator(settings, policy="vtc", arrivals=requests)
    simulator.run()
    assert simulator.state.requests["cached"].tolist() == [0, 48, 0, 0]
    assert simulator._memory.clients["counter"].tolist() == [64 + 2 + 10 + 2, 64 + 6 + 10 + 2]


def test_a_prompt_in_chunks_is_charged_once_with_async_scheduling():
    settings = scenario(async_scheduling=True, max_num_batched_tokens=40)
    requests = [request(0, 100, 3)]
    simulator = sgym.Simulator(settings, policy="vtc", arrivals=requests)
    simulator.run()
    assert simulator._memory.clients["counter"].tolist() == [100 + 6]


def test_a_random_order_depends_on_the_seed_alone():
    requests = [request(0.01 * k) for k in range(12)]
    orders = [
        [
            float(t)
            for t in sgym.simulate(
                scenario(), "random", seed=seed, arrivals=requests
            ).state.requests["first_token"]
        ]
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize(("policy", "victim"), [("vllm", 1), ("slack-victim", 0), ("llf", 0)])
def test_the_request_with_the_largest_slack_is_preempted_first(policy, victim):
    classes = [{"name": "slow", "token_time": 9.0}, {"name": "fast", "token_time": 0.01}]
    settings = scenario(max_num_seqs=2, num_gpu_blocks=5, block_size=16)
    requests = [request(0, 24, 30, user_class=0), request(0, 24, 30, user_class=1)]
    state = sgym.simulate(settings | {"slo": {"classes": classes}}, policy, arrivals=requests).state
    assert state.requests["preemptions"][victim] > 0
    assert state.requests["preemptions"][1 - victim] == 0


def test_a_reservation_keeps_blocks_free_for_what_running_requests_will_generate():
    settings = scenario(max_num_seqs=2, num_gpu_blocks=11)
    requests = [request(0, 64, 90, predicted=90), request(0.5, 64, 90, predicted=90)]
    eager = settings | {"policy": {"name": "spf", "reservation": 0.0}}
    careful = settings | {"policy": {"name": "spf", "reservation": 1.0}}
    assert sgym.simulate(eager, "spf", arrivals=requests).summary["num_preemptions"] > 0
    assert sgym.simulate(careful, "spf", arrivals=requests).summary["num_preemptions"] == 0


@pytest.mark.parametrize(
    ("router", "counts"),
    [("round_robin", [4, 4]), ("least_outstanding", [4, 4]), ("least_kv", [4, 4])],
)
def test_routers_spread_equal_requests_evenly(router, counts):
    settings = scenario() | {"cluster": {"instances": 2, "router": router}}
    requests = [request(0.001 * k, 50, 5) for k in range(8)]
    state = sgym.simulate(settings, "vllm", arrivals=requests).state
    found = [int((state.requests["instance"] == i).sum()) for i in range(2)]
    assert sum(found) == sum(counts)
    if router != "least_kv":  # blocks are taken only when a batch is formed
        assert found == counts


@pytest.mark.parametrize("router", ["random", "power_of_two"])
def test_random_routers_use_every_instance_and_repeat_with_the_seed(router):
    settings = scenario() | {"cluster": {"instances": 3, "router": router}}
    requests = [request(0.001 * k, 50, 5) for k in range(60)]
    runs = [sgym.simulate(settings, "vllm", seed=s, arrivals=requests) for s in (0, 0, 1)]
    chosen = [run.state.requests["instance"].tolist() for run in runs]
    assert set(chosen[0]) == {0, 1, 2}
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_serves_everything_and_says_what_it_is(name):
    entry = POLICIES[name]
    assert all((entry.about, entry.source, entry.simplified))
    requests = [request(0.1 * k, 30 + k, 5) for k in range(20)]
    patient = {key: 1e6 for key in entry.parameters if key.endswith("_target")}
    settings = scenario({"name": name} | patient, max_num_seqs=4)
    if entry.disaggregated:
        settings["cluster"] = {"pools": [{"role": "prefill"}, {"role": "decode"}]}
    state = sgym.simulate(settings, name, arrivals=requests).state
    assert math.isfinite(state.requests["finish"].max())
    assert set(state.instances["free_blocks"]) == {1000}


def test_a_policy_may_bring_settings_of_the_engine_for_itself_alone():
    own = scenario({"name": "sarathi", "max_num_batched_tokens": 64})
    assert sgym.Simulator(own, policy="sarathi").scenario.engine.max_num_batched_tokens == 64
    assert sgym.Simulator(own, policy="vllm").scenario.engine.max_num_batched_tokens == 2048
    assert (
        sgym.Simulator(scenario(), policy="sarathi").scenario.engine.max_num_batched_tokens == 512
    )
    with pytest.raises(
        SgymError, match=r"max_num_batched_tokens.*greater than or equal to 1, got 0"
    ):
        sgym.Simulator(scenario({"name": "sarathi", "max_num_batched_tokens": 0}))


def test_without_a_policy_the_engine_of_the_scenario_runs_as_it_stands():
    requests = [request(0.1 * k, 30 + k, 5) for k in range(20)]
    for former in ("sarathi", "orca", "vllm_v0"):
        chosen = scenario(former=former, max_num_seqs=4)
        found = sgym.simulate(chosen, arrivals=requests)
        assert found.scenario.engine.former == former
        assert found.policy == "stock"


def test_a_misspelt_policy_or_parameter_is_named():
    with pytest.raises(
        PolicyError, match=r"no policy 'vlm'; known: stock, vllm.* Did you mean 'vllm'\?"
    ):
        sgym.simulate(scenario(), "vlm")
    with pytest.raises(PolicyError, match="'spf' has no parameter 'ageing'; it has: aging"):
        policy_record("spf", "round_robin", {"ageing": 1})
    with pytest.raises(PolicyError, match=r"policy.aging must be a number of at least 0, got -1"):
        policy_record("spf", "round_robin", {"aging": -1})
    with pytest.raises(PolicyError, match="no router 'best'; known: round_robin"):
        policy_record("spf", "best", {})


def test_what_is_no_policy_is_refused_with_the_reason():
    with pytest.raises(PolicyError, match="cannot load policy 'nowhere:Policy'"):
        load_policy("nowhere:Policy")
    for name in (":Policy", "..:Policy", "my module:Policy"):
        with pytest.raises(PolicyError, match="names no module: write it as module:Class"):
            load_policy(name)
    with pytest.raises(PolicyError, match="has no method schedule"):
        load_policy("math:pi")
    with pytest.raises(PolicyError, match="constructible without arguments"):
        load_policy(NeedsArguments)


class NeedsArguments:
    def __init__(self, what):
        self.what = what

    def schedule(self, view):
        return None
