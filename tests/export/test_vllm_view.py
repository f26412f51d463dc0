"""What a policy inside vLLM's scheduler class is shown, and what operators and clients can say."""

import pytest
from fake_vllm import Request, Says, iterate, serving

from sgym.errors import PolicyError
from sgym.export.adapter import EngineAdapter
from sgym.export.vllm import Settings, Slo, settings_of, slo_of


def test_the_policy_sees_what_sgym_shows():
    policy = Says(None, {"reserve": 3})
    scheduler, clock = serving(policy)
    clock.now = 5.0
    readers = {"token_time": 0.05, "first_delay": 1.0, "alpha": 2.0, "weight": 4.0}
    scheduler.add_request(Request("a", 20, 9, 4.5, readers))
    scheduler.add_request(Request("b", 40, 9, 5.0))
    scheduler.add_request(Request("c", 30, 9, 5.0))

    iterate(scheduler, clock, 0.25)
    iterate(scheduler, clock, 0.125)
    iterate(scheduler, clock)

    first, second, third = policy.views
    assert (first.now, first.num_running, list(first.ids)) == (5.0, 0, ["a", "b", "c"])
    assert first.rows["due"].tolist() == [4.5 + 1.0 + 0.05, 5.2, 5.2]
    assert first.rows["alpha"].tolist() == [8.0, 2.5, 2.5]
    assert (first.limits.num_blocks, first.limits.max_num_seqs) == (64, 2)
    assert (second.num_running, second.duration) == (2, 0.25)
    assert (second.prefill_tokens, second.decode_seqs, second.kv_tokens) == (60, 0, 60)
    assert second.rows["generated"].tolist() == [1.0, 1.0, 0.0]
    assert second.rows["computed"].tolist() == [20.0, 40.0, 0.0]
    assert second.rows["blocks"].tolist() == [2.0, 3.0, 0.0]
    assert second.rows["lateness"].tolist() == pytest.approx([0.0, 0.05, 0.0])
    assert second.rows["due"].tolist() == pytest.approx([5.6, 5.4, 5.2])
    assert second.free_blocks == 64 - 5
    assert (third.duration, third.reserve, third.num_waiting) == (0.125, 3, 1)
    assert (third.prefill_tokens, third.decode_seqs, third.kv_tokens) == (0, 2, 62)


def test_finished_and_aborted_requests_are_forgotten():
    scheduler, clock = serving(Says(), "a", "b", "c")
    scheduler.finish_requests(["c"], None)
    assert len(scheduler.pilot.rows) == 2

    for _ in range(4):
        iterate(scheduler, clock)

    assert len(scheduler.pilot.rows) == 0


def test_a_request_that_vanishes_is_forgotten_too():
    scheduler, clock = serving(Says(), "a", "b")
    iterate(scheduler, clock)
    scheduler.running.remove(scheduler.requests.pop("b"))

    iterate(scheduler, clock)

    assert scheduler.pilot.rows.known() == ["a"]


def test_there_is_room_for_many_requests():
    scheduler, clock = serving(Says(), *(f"r{number}" for number in range(600)))

    iterate(scheduler, clock)

    assert len(scheduler.pilot.policy.views[0].rows) == 600


def test_an_engine_that_has_nobody_does_not_ask():
    policy = Says()
    scheduler, clock = serving(policy)

    iterate(scheduler, clock)

    assert policy.views == []


def test_the_clock_of_an_idle_engine_starts_again():
    scheduler, clock = serving(Says())
    clock.now = 1e6

    scheduler.add_request(Request("a", arrival=1e6))
    iterate(scheduler, clock)

    view = scheduler.pilot.policy.views[0]
    assert (view.now, view.rows["arrival"].tolist()) == (0.0, [0.0])


def test_arrivals_by_the_wall_clock_are_seen_on_the_engine_clock(monkeypatch):
    scheduler, _ = serving(Says())
    pilot = scheduler.pilot
    pilot._clock, pilot._wall, pilot._origin = lambda: 107.0, lambda: 50_007.0, 100.0

    scheduler.add_request(Request("a", arrival=50_004.0))

    engine: EngineAdapter = pilot  # what every engine has that a bundle steers
    view = engine.view()
    assert (view.now, view.rows["arrival"].tolist()) == (7.0, [4.0])


def test_a_request_says_what_its_reader_wants_and_nonsense_is_left_out():
    default = Slo(token_time=0.1)
    given = {"token_time": "0.05", "alpha": -1, "weight": 0, "first_delay": 0.0, "other": 3}

    assert slo_of(None, default) is default
    assert slo_of(given, default) == Slo(0.05, 0.0, 2.5, 1.0)
    assert slo_of({"token_time": [1], "alpha": True, "weight": float("nan")}, default) == default


def test_a_service_level_out_of_range_is_told_of_once(caplog):
    for _ in range(2):
        slo_of({"alpha": -1.5, "weight": "heavy", "first_delay": None}, Slo(weight=3.0))
    assert [record.getMessage() for record in caplog.records] == [
        "alpha is -1.5, must be a number of at least 0: taken as 2.5",
        "weight is 'heavy', must be a number above 0: taken as 3",
    ]


def test_settings_come_from_the_engine_or_the_environment(monkeypatch):
    monkeypatch.setenv("SGYM_BUNDLE", "zoo:chat_8b")
    given = {"sgym": {"bundle": "mine", "token_time": 0.1, "penalty_cap": 5.0}}

    assert settings_of({}) == Settings("zoo:chat_8b")
    assert settings_of(given) == Settings("mine", Slo(0.1), penalty_cap=5.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no policy: set SGYM_BUNDLE"),
        ({"sgym": {"bundel": "x"}}, "has 'bundel', but only bundle, token_time"),
        ({"sgym": "x"}, "must be an object"),
        ({"sgym": {"bundle": "x", "weight": 0}}, "weight must be a number above 0, got 0: correct"),
        ({"sgym": {"bundle": "x", "origin": "end"}}, "origin must be one of commit, first_token"),
        ({"sgym": {"bundle": "x", "clamp": "no"}}, "clamp must be true or false, got 'no'"),
        ({"sgym": {"bundle": "x", "penalty_cap": "5"}}, "penalty_cap must be a number of seconds"),
        ({"sgym": {"bundle": "x", "penalty_cap": 0}}, "penalty_cap must be .* above 0, got 0"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_served(given, message, monkeypatch):
    monkeypatch.delenv("SGYM_BUNDLE", raising=False)

    with pytest.raises(PolicyError, match=message):
        settings_of(given)
