"""A policy inside vLLM's scheduler class acts on the queues, with a stand-in for vLLM.

`experiments/vllm_adapter` compares with the real one.
"""

import logging
import subprocess
import sys

import numpy as np
import pytest
from fake_vllm import Clock, Request, Says, Scheduler, ids, iterate, serving

from sgym.export.view import HOLD, EngineSteering
from sgym.export.vllm import SteeredScheduler, steered
from sgym.export.vllm.controls import EveryBatch, controls_of


def test_it_can_be_imported_where_there_is_no_vllm():
    code = "import sys, sgym.export.vllm; assert 'vllm' not in sys.modules"

    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_classes_are_made_from_those_of_vllm(monkeypatch):
    module = type(sys)("vllm.v1.core.sched.scheduler")
    module.Scheduler = Scheduler
    for name in ("vllm", "vllm.v1", "vllm.v1.core", "vllm.v1.core.sched"):
        monkeypatch.setitem(sys.modules, name, type(sys)(name))
    monkeypatch.setitem(sys.modules, "vllm.v1.core.sched.scheduler", module)
    import sgym.export.vllm as adapter

    made = adapter.SgymSyncScheduler
    monkeypatch.delitem(vars(adapter), "SgymSyncScheduler")

    assert made.__mro__[1:3] == (SteeredScheduler, Scheduler)
    assert (made.__module__, made.__qualname__) == ("sgym.export.vllm", "SgymSyncScheduler")
    with pytest.raises(AttributeError, match="has no attribute 'Other'"):
        _ = adapter.Other


def test_a_policy_that_says_nothing_leaves_the_engine_as_it_is():
    scheduler, clock = serving(Says(), "a", "b", "c")

    iterate(scheduler, clock)

    assert ids(scheduler.running) == ["a", "b"]
    assert scheduler.max_num_scheduled_tokens == 64
    assert scheduler.throttled == [False]


def test_waiting_requests_are_admitted_in_the_order_of_their_scores():
    scheduler, clock = serving(Says({"waiting": {"a": -1.0, "c": 2.0}}), "a", "b", "c")

    iterate(scheduler, clock)

    assert ids(scheduler.running) == ["c", "b"]


def test_scores_stay_in_force_until_the_next_decision():
    scheduler, clock = serving(Says({"waiting": {"a": -1.0}, "active_cap": 1}), "a", "b")
    iterate(scheduler, clock)
    scheduler.add_request(Request("c"))

    iterate(scheduler, clock)

    assert ids(scheduler.running) == ["b"]
    assert ids(scheduler.waiting) == ["c", "a"]


def test_running_requests_are_sorted_by_their_scores():
    scheduler, clock = serving(Says(None, {"running": {"a": -1.0}}), "a", "b")
    iterate(scheduler, clock)

    iterate(scheduler, clock)

    assert ids(scheduler.running) == ["b", "a"]


def test_a_preempted_request_is_held_until_the_next_decision():
    scheduler, clock = serving(Says(None, {"preempt": ["a"]}, None, {}), "a", "b", "c")
    iterate(scheduler, clock)

    iterate(scheduler, clock)
    assert ids(scheduler.running) == ["b", "c"]
    assert ids(scheduler.waiting) == ["a"]
    assert scheduler.pilot.num_preempted == 0  # the engine itself preempted nobody
    scheduler.finish_requests(["b"], None)
    iterate(scheduler, clock)
    assert ids(scheduler.running) == ["c"]
    iterate(scheduler, clock)
    assert ids(scheduler.running) == ["c", "a"]


def test_several_victims_wait_in_the_order_in_which_they_ran():
    scheduler, clock = serving(Says(None, {"preempt": ["a", "b"]}), "a", "b", "c")
    iterate(scheduler, clock)

    iterate(scheduler, clock)

    assert ids(scheduler.running) == ["c"]
    assert ids(scheduler.waiting) == ["a", "b"]


def test_held_requests_are_not_shown_to_the_engine_and_keep_their_places():
    scheduler, clock = serving(Says({"waiting": {"a": HOLD}, "active_cap": 1}), "a", "b", "c")
    scheduler.deferred_waiting.add(scheduler.requests["a"])

    iterate(scheduler, clock)

    assert scheduler.seen == [["b", "c"]]
    assert ids(scheduler.waiting) == ["c", "a"]
    assert ids(scheduler.deferred_waiting) == ["a"]


def test_holds_do_not_count_where_nothing_else_is_left():
    scheduler, clock = serving(Says({"waiting": {"a": HOLD, "b": HOLD}}), "a", "b")

    iterate(scheduler, clock)

    assert ids(scheduler.running) == ["a", "b"]


def test_held_requests_are_put_back_if_the_engine_raises():
    scheduler, _ = serving(Says({"waiting": {"a": HOLD}}), "a", "b")
    scheduler._form = lambda throttle: 1 / 0

    with pytest.raises(ZeroDivisionError):
        scheduler.schedule()

    assert ids(scheduler.waiting) == ["b", "a"]


def test_the_tighter_of_two_limits_counts():
    said = {"token_budget": 16, "active_cap": 1, "chunk_cap": 8, "reserve": 5, "hold_prefill": True}
    scheduler, clock = serving(Says(said, {"chunk_cap": 48}), "a", "b")

    iterate(scheduler, clock)
    assert scheduler.max_num_scheduled_tokens == 16
    assert scheduler.max_num_active_reqs == 1
    assert scheduler.scheduler_config.long_prefill_token_threshold == 8
    assert scheduler.kv_cache_manager.watermark_blocks == 1 + 5
    assert scheduler.throttled == [True]
    iterate(scheduler, clock)
    assert scheduler.max_num_scheduled_tokens == 64
    assert scheduler.scheduler_config.long_prefill_token_threshold == 32
    assert scheduler.kv_cache_manager.watermark_blocks == 1
    assert scheduler.throttled == [True, False]


@pytest.mark.parametrize(
    "answer",
    [
        {"token_budget": 65},
        {"active_cap": 0},
        {"chunk_cap": 2.5},
        {"reserve": -1},
        {"waiting": {"a": float("nan")}},
        {"waiting": {"a": float("inf")}},
        {"running": {"a": HOLD}},
        EngineSteering(np.zeros(9), np.zeros(9), np.zeros(9, np.bool_), 64, 2),
        "not a Steering",
    ],
)
def test_a_policy_that_fails_is_logged_once_and_the_engine_goes_on(answer, caplog):
    first = {"token_budget": 16, "waiting": {"b": 1.0}, "active_cap": 1}
    policy = Says(first, answer, answer)
    scheduler, clock = serving(policy, "a", "b", "c")

    with caplog.at_level(logging.ERROR, "vllm.sgym"):
        for _ in range(4):
            iterate(scheduler, clock)

    assert [record.message for record in caplog.records] == [
        "sgym: the policy failed; from here on vLLM schedules by itself"
    ]
    assert len(policy.views) == 2
    assert scheduler.max_num_scheduled_tokens == 64
    assert not scheduler.pilot.in_force.hold_prefill


def test_the_priority_policy_is_warned_about(caplog):
    with caplog.at_level(logging.WARNING, "vllm.sgym"):
        scheduler, clock = serving(Says({"waiting": {"b": 1.0}}), "a", "b", policy="priority")
    iterate(scheduler, clock)

    assert "scheduling policy is priority" in caplog.text
    assert ids(scheduler.running) == ["a", "b"]


def test_a_bundle_is_at_the_controls(zeros):
    scheduler = steered(Scheduler, "Steered", __name__)({"sgym": {"bundle": str(zeros)}})
    clock = Clock()
    scheduler.pilot.run_on(clock)
    for number, name in enumerate("abc"):
        scheduler.add_request(Request(name, arrival=-0.1 * number))

    iterate(scheduler, clock)

    assert scheduler.pilot.num_decisions == 1
    assert not scheduler.pilot.failed
    assert ids(scheduler.running) == ["c", "b"]  # its base is first come first served


def test_a_built_in_scheduler_changes_scores_in_place(tmp_path):
    from sgym.export import BuiltinManifest, write_builtin
    from sgym.policies.registry import builtin

    about = BuiltinManifest(
        name="llf",
        policy="llf",
        parameters=builtin("llf").parameters,
        scenario="any",
        provenance={},
        card="llf",
    )

    controls = controls_of(str(write_builtin(tmp_path / "llf", about)))

    assert isinstance(controls.trigger, EveryBatch)
    assert not controls.settles
