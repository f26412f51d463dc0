"""The JSON form of a state and of an answer, and what it refuses."""

import json
import math

import pytest
from served import LIMITS, STATE, Shortest

from sgym.config import UserClass
from sgym.errors import PolicyError
from sgym.export.slo import Slo
from sgym.export.view import NEVER
from sgym.export.wire import Answer, Request, answer_to, schema, view_of


def changed(**changes):
    return json.dumps({**STATE, **changes})


def test_a_state_becomes_a_view():
    view = view_of(json.dumps(STATE))
    assert (view.now, view.num_running, view.num_waiting, view.free_blocks) == (5.0, 1, 2, 97)
    assert view.ids == [7, "b", "c"]
    assert view.limits.max_num_seqs == 8
    assert view.limits.penalty_cap == math.inf
    rows = view.rows
    assert rows["prompt"].tolist() == [40, 10, 11]
    assert rows["computed"].tolist() == [42, 0, 0]
    assert rows["due"].tolist() == pytest.approx([1.0 + 0.2 * 4, 4.5, 4.7])
    assert rows["lateness"].tolist() == [0.0, 0.0, -NEVER]
    assert rows["weight"].tolist() == [1.0, 2.0, 1.0]
    assert rows["predicted"].tolist() == pytest.approx([math.nan, math.nan, 30.0], nan_ok=True)


def test_an_answer_names_what_is_preempted_and_says_null_for_a_hold():
    view = view_of(json.dumps(STATE))
    answer = json.loads(answer_to(view, Shortest().decide(view)).model_dump_json())
    assert answer["waiting_score"] == [-40.0, -10.0, None]
    assert answer["preempt"] == [7]
    assert (answer["token_budget"], answer["active_cap"]) == (64, 8)
    assert Answer.model_validate(answer).hold_prefill is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "state: Invalid JSON"),
        ("[1]", "state: Input should be an object"),
        (changed(nwo=1), "nwo: Extra inputs are not permitted, got 1"),
        (changed(free_blocks=-1), "free_blocks: Input should be greater than or equal to 0"),
        (changed(now="soon"), "now: Input should be a valid number"),
        ('{"now": NaN}', "now: Input should be a finite number"),
        (changed(limits={**LIMITS, "num_blocks": 0}), "limits.num_blocks: Input should be greater"),
        (changed(running=[{"id": 1, "arrival": 0.0}]), "running.0.prompt: Field required"),
        (changed(waiting=[{"id": 1, "arrival": 0.0, "prompt": 0}]), "waiting.0.prompt: Input"),
        (changed(free_blocks=10**6), "state: Value error, free_blocks is 1000000, must be at most"),
        (
            changed(waiting=[{"id": "a", "arrival": 0.0, "prompt": 1}] * 2),
            "id 'a' is there twice: each request has its own",
        ),
        ("[" * 100_000, "state: "),
    ],
    ids=range(12),
)
def test_a_wrong_state_is_explained(text, said):
    with pytest.raises(PolicyError) as raised:
        view_of(text)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_the_schema_describes_every_field():
    both = schema()
    assert set(both) == {"state", "answer"}
    assert set(both["state"]["required"]) == {"now", "limits", "free_blocks"}
    assert {"State", "Answer"} == {both["state"]["title"], both["answer"]["title"]}


def test_loss_grows_with_weight_and_the_first_deadline_with_the_delay_granted():
    request = {"id": 1, "arrival": 4.0, "prompt": 10}
    view = view_of(changed(running=[], waiting=[{**request, "weight": 4.0, "first_delay": 1.5}]))
    assert view.rows["alpha"].tolist() == [2.5 * 4.0]
    assert view.rows["due"].tolist() == pytest.approx([4.0 + 1.5 + 0.2])


def test_a_reader_who_says_nothing_is_that_of_a_scenario():
    usual, scenario = Slo(), UserClass()
    for name in ("token_time", "first_delay", "alpha", "weight"):
        assert getattr(usual, name) == getattr(scenario, name)
        assert Request.model_fields[name].default == getattr(usual, name)
