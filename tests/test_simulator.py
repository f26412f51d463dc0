from itertools import pairwise

import numpy as np
import pytest

import sgym
from sgym import workload
from sgym.errors import PolicyError, ScenarioError, SimulationError
from sgym.policies import HOLD, Steering


def scenario(**sections):
    return {
        "engine": {"num_gpu_blocks": 61, "max_num_seqs": 8, "max_model_len": 900},
        "latency": {"linear": {"iteration": 0.02, "prefill_token": 1e-4, "decode_seq": 1e-4}},
        "workload": {
            "rate": 3.0,
            "lengths": [{"prompt": 120, "output": 40, "prompt_sigma": 0.5, "output_sigma": 0.8}],
        },
        "episode": {"duration": 40.0},
    } | sections


class ShortestPrompt:
    """A policy of one's own: ten lines."""

    def schedule(self, view):
        return Steering(waiting_score={r.id: -(r.prompt + 20 * r.arrival) for r in view.waiting})


def same_bytes(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def test_a_policy_in_python_equals_the_compiled_one():
    compiled = sgym.simulate(
        scenario(policy={"name": "spf", "aging": 20.0, "reservation": 0.0}), "spf"
    )
    plain = sgym.simulate(scenario(), ShortestPrompt())
    assert plain.policy == "ShortestPrompt"
    for name in ("first_token", "finish", "preemptions"):
        np.testing.assert_array_equal(plain.state.requests[name], compiled.state.requests[name])
    assert compiled.summary["num_preemptions"] > 0


def test_an_empty_steering_is_the_stock_engine():
    stock = sgym.Simulator(scenario()).run()

    class Neutral:
        def schedule(self, view):
            return Steering()

    steered = sgym.Simulator(scenario()).run(Neutral())
    assert same_bytes([stock.state.requests["finish"]], [steered.state.requests["finish"]])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    runs = [sgym.Simulator(scenario(), seed=seed).run() for seed in (3, 3, 4)]
    assert same_bytes(runs[0].state, runs[1].state)
    assert not same_bytes([runs[0].state.cluster], [runs[2].state.cluster])


def _without_slack(state):
    length = 1 + len(state.requests)
    return state._replace(dry=state.dry[:length], links=state.links[:length])


@pytest.mark.parametrize("engine", [{}, {"async_scheduling": True, "enable_prefix_caching": True}])
def test_an_episode_over_another_has_the_bytes_of_one_in_new_memory(engine):
    settings = scenario(cluster={"instances": 2})
    settings["engine"] = settings["engine"] | engine
    over = sgym.Simulator(settings)
    over.overwrites, clusters = True, []
    for seed in range(4, 12):
        over.reset(seed)
        clusters.append(over.state.cluster)
        fresh = sgym.Simulator(settings, seed=seed)
        assert same_bytes(*(_without_slack(made.state) for made in (over, fresh)))
        assert same_bytes([over.run().state.requests], [fresh.run().state.requests])
    assert any(one is other for one, other in pairwise(clusters))


def test_the_last_episode_stays_as_it_was_unless_it_is_to_be_written_over():
    simulator = sgym.Simulator(scenario())
    result = simulator.run()
    before = [array.tobytes() for array in result.state]
    simulator.reset(7)
    simulator.run()
    assert [array.tobytes() for array in result.state] == before


def test_restoring_a_snapshot_continues_exactly():
    sim = sgym.Simulator(scenario(), log=("tokens",))
    for _ in range(100):
        sim.step(None)
    snapshot = sim.snapshot()
    first = sim.run()
    expected = [array.tobytes() for array in first.state]
    sim.restore(snapshot)
    assert sim.now < 40.0
    assert [array.tobytes() for array in sim.run().state] == expected


def test_the_change_of_the_potential_adds_up_to_smooth_goodput():
    sim = sgym.Simulator(scenario())
    total, before = 0.0, sim.potential
    decision = sim.decision
    while decision.kind != "done":
        decision = sim.step(None)
        total += (sim.potential - before) / 40.0
        before = sim.potential
    assert total == pytest.approx(sim.result().summary["smooth_goodput"], abs=1e-9)


def test_a_warm_start_hands_over_a_backlog_that_does_not_count():
    sim = sgym.Simulator(scenario(episode={"duration": 20.0, "warm_start": 10.0}))
    assert sim.window == (10.0, 30.0)
    assert sim.now >= 10.0
    summary = sim.run().summary
    assert summary["throughput_tok_s"] * 20.0 < sim.state.requests["generated"].sum()


def test_requests_that_can_never_fit_are_refused_and_the_rest_is_served():
    arrivals = [
        {"arrival": 0.0, "prompt": 899, "output": 5},
        {"arrival": 0.0, "prompt": 900, "output": 5},
        {"arrival": 0.1, "prompt": 50, "output": 5},
        {"arrival": 0.2, "prompt": 850, "output": 500},
    ]
    tight = scenario(engine={"num_gpu_blocks": 51, "max_model_len": 900, "max_num_seqs": 4})
    phases = sgym.simulate(tight, "vllm", arrivals=arrivals).requests["phase"]
    assert phases.tolist() == ["refused", "refused", "finished", "refused"]


def test_outputs_end_where_the_context_of_the_model_does():
    roomy = scenario(engine={"num_gpu_blocks": 101, "max_model_len": 100})
    rows = sgym.simulate(roomy, "vllm", arrivals=[{"arrival": 0, "prompt": 90, "output": 50}])
    assert rows.state.requests["generated"].tolist() == [10]


def test_logs_grow_and_hold_every_token_and_iteration():
    result = sgym.simulate(scenario(), "vllm", log=("tokens", "iterations", "batches"))
    assert len(result.tokens) == result.state.requests["generated"].sum()
    assert len(result.iterations) == result.summary["iterations"]
    iterations = result.iterations
    total = iterations["prefill_tokens"].sum() + iterations["decode_seqs"].sum()
    assert result.batches["tokens"].sum() == total
    assert (result.tokens.groupby("request")["time"].diff().dropna() > 0).all()


def test_what_was_not_logged_cannot_be_read():
    result = sgym.simulate(scenario(), "vllm")
    with pytest.raises(ScenarioError, match=r"ask with log=\('tokens',\)"):
        _ = result.tokens
    with pytest.raises(ScenarioError, match=r"only .* can be logged"):
        sgym.Simulator(scenario(), log=("everything",))


def test_a_held_request_waits_until_the_next_decision():
    arrivals = [
        {"arrival": 0.0, "prompt": 50, "output": 30},
        {"arrival": 0.1, "prompt": 9, "output": 2},
    ]
    sim = sgym.Simulator(scenario(), arrivals=arrivals)
    while sim.decision.view.num_waiting == 0 or sim.now < 0.1:
        sim.step(None)
    sim.step(Steering(waiting_score={1: HOLD}))
    for _ in range(5):
        sim.step(None)
    assert sim.decision.view.num_waiting == 1
    sim.step(Steering())
    assert sim.decision.view.num_waiting == 0


def test_knobs_stay_in_force_until_the_next_steering():
    sim = sgym.Simulator(scenario())
    sim.step(Steering(token_budget=3, active_cap=1))
    for _ in range(50):
        decision = sim.step(None)
        assert decision.view.num_running <= 1
    assert sim.state.instances[0]["token_budget"] == 3


@pytest.mark.parametrize(
    ("steering", "message"),
    [
        (Steering(token_budget=0), "token_budget must be an integer from 1 to 2048, got 0"),
        (Steering(active_cap=9), "active_cap must be an integer from 1 to 8, got 9"),
        (Steering(chunk_cap=-1), "chunk_cap must be an integer from 0"),
        (Steering(waiting_score={0: float("nan")}), r"waiting_score\[0\] must be a finite"),
        (Steering(running_score={0: HOLD}), r"running_score\[0\] must be a finite"),
        (Steering(preempt=[10**6]), "names request 1000000, which has not arrived"),
        (Steering(preempt=["0"]), "names request '0', which is no id"),
        (Steering(reject=[True]), "names request True, which is no id"),
        (Steering(waiting_score={0.5: 1.0}), "names request 0.5, which is no id"),
        (Steering(preempt=0), "Steering.preempt must be a list of request ids, got 0"),
        (Steering(waiting_score=[0]), r"waiting_score must be a dict of request id to score"),
        (Steering(waiting_score={0: "high"}), r"waiting_score\[0\] must be .*, got 'high'"),
        (Steering(waiting_score={0: 10**400}), r"waiting_score\[0\] must be a finite"),
        (Steering(token_budget=float("nan")), "token_budget must be an integer .*, got nan"),
        (Steering(reserve="1"), "reserve must be an integer from 0 to 2147483647, got '1'"),
        (Steering(chunk_cap=None), "chunk_cap must be an integer .*, got None"),
        (Steering(hold_prefill=2**31), "hold_prefill must be an integer from 0 to 1"),
        (3, "takes a Steering or None, got 3"),
    ],
)
def test_a_wrong_steering_is_refused_with_field_value_and_rule(steering, message):
    sim = sgym.Simulator(scenario())
    with pytest.raises(PolicyError, match=message):
        sim.step(steering)


def test_a_refused_steering_changes_nothing():
    sim = sgym.Simulator(scenario())
    before = sim.state.instances.copy()
    with pytest.raises(PolicyError, match="reserve"):
        sim.step(Steering(token_budget=3, hold_prefill=True, reserve=-1))
    assert np.array_equal(sim.state.instances, before)


def test_a_steering_for_a_finished_request_is_refused():
    sim = sgym.Simulator(scenario())
    while sim.state.requests["phase"][0] != 3:
        sim.step(None)
    with pytest.raises(PolicyError, match="names request 0, which neither waits nor runs there"):
        sim.step(Steering(waiting_score={0: 1.0}))


def test_a_table_of_requests_names_only_classes_that_there_are():
    row = {"arrival": 0.0, "prompt": 4, "output": 2, "user_class": 1}
    with pytest.raises(ScenarioError, match=r"has user_class 1, but slo.classes has 1 classes"):
        sgym.simulate(scenario(), arrivals=[row])


def test_a_request_is_routed_once():
    sim = sgym.Simulator(scenario())
    decision = sim.reset(route=True)
    assert decision.kind == "route"
    sim.answer(0)
    with pytest.raises(SimulationError, match=r"request 0 is routed already.*call advance"):
        sim.answer(0)
    assert sim.advance().kind == "schedule"


def test_requests_made_by_hand_must_be_of_classes_that_exist():
    drawn = workload.generate(sgym.load_scenario(scenario()), 0)
    drawn.arrivals["user_class"][3] = -1
    with pytest.raises(ScenarioError, match=r"has user_class -1, but slo.classes has 1 classes"):
        sgym.simulate(scenario(), arrivals=drawn)


def test_a_seed_is_a_whole_number():
    with pytest.raises(ScenarioError, match=r"at least 0, got 1.5"):
        sgym.simulate(scenario(), seed=1.5)


def test_stepping_past_the_end_is_an_error():
    sim = sgym.Simulator(scenario())
    sim.run()
    assert sim.decision.kind == "done"
    with pytest.raises(SimulationError, match="call reset"):
        sim.step(None)


def test_routing_by_hand_takes_the_index_of_an_instance():
    sim = sgym.Simulator(scenario(cluster={"instances": 2}))
    decision = sim.step(None, route=True)
    while decision.kind != "route":
        decision = sim.step(None, route=True)
    assert decision.view.request.prompt > 0
    assert len(decision.view.instances) == 2
    for wrong in (2, -1, None, True):
        with pytest.raises(PolicyError, match="route"):
            sim.step(wrong)
    request = decision.view.request.id
    sim.step(1, route=True)
    assert sim.state.requests["instance"][request] == 1


def test_a_policy_may_route_too():
    class LastInstance:
        def schedule(self, view):
            return None

        def route(self, view):
            return len(view.instances) - 1

    result = sgym.simulate(scenario(cluster={"instances": 3}), LastInstance)
    instances = result.state.requests["instance"][1:]
    assert set(instances[instances >= 0].tolist()) == {2}


def test_results_and_views_say_in_one_line_what_they_are():
    result = sgym.simulate(scenario(), "vllm", seed=2)
    assert repr(result).startswith("<Result unnamed under vllm, seed 2: ")
    assert f"{result.summary['smooth_goodput']:.1f} tokens/s>" in repr(result)
    view = sgym.Simulator(scenario()).decision.view
    assert repr(view).endswith("0 running, 1 waiting, 60 of 60 blocks free>")


def test_a_view_shows_what_an_engine_knows_and_no_true_length():
    sim = sgym.Simulator(scenario())
    for _ in range(200):
        sim.step(None)
    view = sim.decision.view
    request = view.running[0]
    assert request.known == request.prompt + request.generated
    assert request.waited == pytest.approx(view.now - request.arrival)
    assert request.slack == pytest.approx(
        request.due + sim.state.requests["lateness"][request.id] - view.now
    )
    assert (view.num_blocks, view.block_size, view.max_num_seqs) == (60, 16, 8)
    assert view.max_num_batched_tokens == 2048
    assert view.free_blocks + sum(r.blocks for r in view.running) == 60
    assert (request.priority, request.tenant, request.user_class) == (0, 0, 0)
    assert (request.weight, request.alpha, request.token_time) == (1.0, 2.5, 0.2)
    assert min(request.computed, request.predicted) > 0
    assert request.preemptions >= 0
    assert "prompt" in repr(request)
    assert not hasattr(request, "output")


@pytest.mark.parametrize(
    ("steering", "message"),
    [
        (
            sgym.Steering(role="prefil", token_budget=7),
            "role must be one of mixed, prefill, decode",
        ),
        (sgym.Steering(drain=True, token_budget=7), "Steering.drain is true, which needs a role"),
        (sgym.Steering(migrate_to={0: 5}, token_budget=7), r"migrate_to\[0\] must be an integer"),
    ],
)
def test_nothing_of_a_steering_with_a_wrong_role_or_target_is_done(steering, message):
    sim = sgym.Simulator(scenario(cluster={"instances": 2}))
    asks = int(sim.state.cluster[0]["instance"])
    before = int(sim.state.instances[asks]["token_budget"])
    with pytest.raises(PolicyError, match=message):
        sim.step(steering)
    assert sim.state.instances[asks]["token_budget"] == before


@pytest.mark.parametrize("warm_start", [0.0, 12.0])
def test_the_headline_is_a_part_of_the_summary(warm_start):
    result = sgym.simulate(sgym.load_scenario("tiny", {"episode.warm_start": warm_start}), seed=3)
    assert result.headline.items() <= result.summary.items()
    assert len(result.headline) == 13
