import math
import random as python_random

import numpy as np
import pytest

from sgym._jit import python_version
from sgym.core import arrange, batch, build, heap, queue, random, steer
from sgym.core.layout import (
    CLUSTER,
    ENGINE,
    EVENT,
    HOST,
    INSTANCE,
    LATENCY,
    LINK,
    NEVER,
    NONE,
    REJECTED,
    REQUEST,
    RUNNING,
    STEERED,
    WAITING,
)


def waiting_line(num_requests, by_priority=0):
    requests = np.zeros(num_requests, REQUEST)
    for name in ("left", "right", "parent", "other", "transfer"):
        requests[name] = NONE
    requests["prompt"] = 10
    requests["due"] = NEVER
    engine = np.zeros(1, ENGINE)
    engine["by_priority"] = by_priority
    engine["block_size"], engine["num_blocks"] = 16, 100
    instance = np.zeros(1, INSTANCE)
    for name in ("waiting_root", "first_waiting", "last_waiting"):
        instance[name] = NONE
    return requests, np.zeros(num_requests, LINK), engine[0], instance[0]


def order(links, instance):
    r = queue.first(instance)
    found = []
    while r != NONE:
        found.append(int(r))
        r = queue.following(links, r)
    return found


def tree_order(requests, node):
    if node == NONE:
        return []
    left, right = requests[node]["left"], requests[node]["right"]
    for child in (left, right):
        assert child == NONE or requests[child]["parent"] == node
        assert child == NONE or queue.hashed(child) <= queue.hashed(node)
    return [*tree_order(requests, left), int(node), *tree_order(requests, right)]


def give_scores(requests, links, engine, instance, scores, **verbs):
    steered = np.zeros(len(scores), STEERED)
    for entry, (r, score) in zip(steered, scores.items(), strict=True):
        entry["request"], entry["waiting_score"] = r, score
        for verb, names in verbs.items():
            entry[verb] = r in names
    steered["migrate_to"] = NONE
    engine.base["max_num_seqs"] = 8
    blank = build.blank_state(engine.base, np.zeros(1, LATENCY), np.zeros(1, CLUSTER))
    state = build.begun(blank, requests)._replace(links=links, instances=instance.base)
    running = [r for r in range(len(requests)) if requests[r]["phase"] == RUNNING]
    state.running[0, : len(running)] = running
    steer.steer(state, 0, steered)


def test_requests_wait_in_order_of_arrival():
    requests, links, engine, instance = waiting_line(5)
    for r in range(5):
        batch.enqueue(requests, links, engine, instance, r, False)
    assert order(links, instance) == [0, 1, 2, 3, 4]
    assert instance["num_waiting"] == 5
    assert instance["waiting_tokens"] == 50


def test_a_preempted_request_waits_in_front():
    requests, links, engine, instance = waiting_line(3)
    batch.enqueue(requests, links, engine, instance, 0, False)
    batch.enqueue(requests, links, engine, instance, 1, True)
    batch.enqueue(requests, links, engine, instance, 2, True)
    assert order(links, instance) == [2, 1, 0]


def test_under_the_priority_policy_order_is_priority_then_arrival():
    requests, links, engine, instance = waiting_line(4, by_priority=1)
    requests["priority"] = [1, -1, 0, -1]
    for r in (3, 0, 2, 1):
        batch.enqueue(requests, links, engine, instance, r, r == 3)
    assert order(links, instance) == [1, 3, 2, 0]


def test_the_highest_score_goes_first_and_ties_keep_their_order():
    requests, links, engine, instance = waiting_line(5)
    for r in range(5):
        batch.enqueue(requests, links, engine, instance, r, False)
    give_scores(requests, links, engine, instance, {3: 2.0, 1: -1.0})
    assert order(links, instance) == [3, 0, 2, 4, 1]


def test_a_sorted_order_persists_after_the_scores_are_gone():
    requests, links, engine, instance = waiting_line(5)
    for r in range(4):
        batch.enqueue(requests, links, engine, instance, r, False)
    give_scores(requests, links, engine, instance, {3: 2.0, 2: 1.0, 0: -1.0, 1: -2.0})
    give_scores(requests, links, engine, instance, {})
    batch.enqueue(requests, links, engine, instance, 4, False)
    assert order(links, instance) == [3, 2, 0, 1, 4]
    assert instance["num_scored"] == 0


def test_a_held_request_is_skipped_until_nothing_else_is_left():
    requests, links, engine, instance = waiting_line(3)
    for r in range(3):
        batch.enqueue(requests, links, engine, instance, r, False)
    give_scores(requests, links, engine, instance, {0: -math.inf})
    batch.open_pass(instance)
    assert batch.head(requests, links, instance) == 1
    assert batch.num_eligible(instance) == 2
    give_scores(requests, links, engine, instance, dict.fromkeys(range(3), -math.inf))
    batch.open_pass(instance)
    assert batch.num_eligible(instance) == 3
    assert batch.head(requests, links, instance) == 1
    instance["num_running"] = 1
    batch.open_pass(instance)
    assert batch.num_eligible(instance) == 0
    assert batch.head(requests, links, instance) == NONE


def test_a_rejected_request_leaves_the_queue():
    requests, links, engine, instance = waiting_line(3)
    for r in range(3):
        batch.enqueue(requests, links, engine, instance, r, False)
    give_scores(requests, links, engine, instance, {1: 0.0}, reject=[1])
    assert order(links, instance) == [0, 2]
    assert requests["phase"].tolist() == [WAITING, REJECTED, WAITING]


def test_a_request_preempted_by_a_policy_waits_in_front_but_is_held():
    requests, links, engine, instance = waiting_line(3)
    for r in range(2):
        batch.enqueue(requests, links, engine, instance, r, False)
    requests[2]["phase"], requests[2]["blocks"], requests[2]["computed"] = RUNNING, 3, 40
    instance["num_running"], instance["free_blocks"] = 1, 7
    steered_rows = {2: 0.0}
    give_scores(requests, links, engine, instance, steered_rows, preempt=[2])
    assert order(links, instance) == [2, 0, 1]
    batch.open_pass(instance)
    assert batch.head(requests, links, instance) == 0
    assert (instance["free_blocks"], requests[2]["recomputed"]) == (10, 40)
    give_scores(requests, links, engine, instance, {})
    assert batch.head(requests, links, instance) == 2


def test_the_tree_equals_a_sorted_list_under_random_use():
    requests, links, engine, instance = waiting_line(200)
    draw = python_random.Random(0)
    present, planted = {}, 0
    for step in range(2000):
        r = draw.randrange(200)
        if r in present:
            batch.dequeue(requests, links, instance, r)
            del present[r]
        else:
            requests[r]["waiting_score"] = draw.choice([0.0, 0.0, 1.0, -3.0, -math.inf])
            batch.enqueue(requests, links, engine, instance, r, draw.random() < 0.3)
            present[r] = (-float(requests[r]["waiting_score"]), int(requests[r]["rank"]))
        if step % 100 == 0:
            assert order(links, instance) == sorted(present, key=present.__getitem__)
            assert instance["num_waiting"] == len(present)
            if present:
                assert queue.last(instance) == max(present, key=present.__getitem__)
            if instance["waiting_root"] != NONE:
                assert tree_order(requests, instance["waiting_root"]) == order(links, instance)
                planted += 1
        if step % 250 == 0:
            arrange.arrange(requests, links, instance)
            assert instance["waiting_root"] == NONE
    assert planted > 10


def long_line():
    """Requests 0 to 79 wait in this order by their scores, 80 to 83 do not wait yet."""
    line = waiting_line(84)
    for r in range(80):
        enter(*line, r, -r)
    return line


def enter(requests, links, engine, instance, r, score):
    requests[r]["waiting_score"] = score
    batch.enqueue(requests, links, engine, instance, r, False)


def test_a_queue_needs_a_tree_only_where_a_request_belongs_far_from_both_ends():
    requests, links, _, instance = line = long_line()
    enter(*line, 80, -(queue.NEAR - 1.5))
    enter(*line, 81, -(80.5 - queue.NEAR))
    assert instance["waiting_root"] == NONE
    enter(*line, 82, -39.5)
    assert tree_order(requests, instance["waiting_root"]) == order(links, instance)
    scores = requests["waiting_score"][order(links, instance)]
    assert len(scores) == 83
    assert (np.diff(scores) < 0.0).all()


@pytest.mark.parametrize(("num_moved", "keeps"), [(1, True), (10, True), (11, False), (60, False)])
def test_a_tree_falls_when_a_steering_moves_many(num_moved, keeps):
    _, links, _, instance = line = long_line()
    enter(*line, 80, -39.5)
    before = order(links, instance)
    moved = {r: 1.0 if r % 2 else -math.inf for r in before[:num_moved]}
    give_scores(*line, moved)
    promoted = [r for r in before if moved.get(r, 0.0) > 0.0]
    held = [r for r in before if moved.get(r, 0.0) < 0.0]
    others = [r for r in before if r not in moved]
    assert order(links, instance) == promoted + others + held
    assert (instance["waiting_root"] != NONE) == keeps


@pytest.mark.parametrize("num_waiting", [0, 1, 2, 7, 40])
def test_all_scores_at_once_lead_to_the_same_queue_as_one_after_the_other(num_waiting):
    draw = python_random.Random(num_waiting)
    scores = {r: draw.choice([0.0, 1.0, 2.0, -1.0, draw.random()]) for r in range(num_waiting)}
    once, one_by_one = waiting_line(num_waiting + 1), waiting_line(num_waiting + 1)
    for requests, links, engine, instance in (once, one_by_one):
        for r in range(num_waiting):
            batch.enqueue(requests, links, engine, instance, r, False)
    give_scores(*one_by_one, scores)
    requests, links, engine, instance = once
    for r, score in scores.items():
        steer.score_waiting(engine, instance, requests[r], requests[r]["rank"], score, 0.0)
    arrange.arrange(requests, links, instance)
    assert order(*once[1::2]) == order(*one_by_one[1::2])
    queue.plant(requests, links, instance)
    assert tree_order(requests, instance["waiting_root"]) == order(*once[1::2])
    assert instance["num_scored"] == one_by_one[3]["num_scored"]


def test_swapped_requests_stay_in_front_when_scores_end():
    requests, links, engine, instance = waiting_line(3)
    requests[0]["other"] = HOST
    instance["num_swapped"] = 1
    for r in range(3):
        batch.enqueue(requests, links, engine, instance, r, False)
    give_scores(requests, links, engine, instance, {2: 1.0})
    assert order(links, instance) == [2, 0, 1]
    give_scores(requests, links, engine, instance, {})
    assert order(links, instance) == [0, 2, 1]


def test_the_event_heap_orders_by_time_then_kind_then_index():
    entries = [(2.0, 0, 1), (1.0, 1, 0), (1.0, 0, 5), (1.0, 0, 2), (0.5, 1, 9), (2.0, 0, 0)]
    events, size = np.zeros(8, EVENT), 0
    for time, kind, index in entries:
        size = heap.push(events, size, time, kind, index)
    found = []
    while size:
        found.append(tuple(events[0].tolist()))
        size = heap.pop(events, size)
    assert found == sorted(entries)


def test_random_numbers_are_the_same_compiled_and_plain():
    words = [0, 1, 12345, 2**31, 2**32 - 1]
    assert [random.mix(word) for word in words] == [python_version(random.mix)(w) for w in words]
    assert random.mix(12345) == 2258480790
    values = [random.uniform(counter) for counter in range(2000)]
    assert values == [python_version(random.uniform)(counter) for counter in range(2000)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.02)
    assert min(values) >= 0
    assert max(values) < 1


def test_normal_numbers_have_mean_zero_and_deviation_one():
    values = [random.normal(counter) for counter in range(5000)]
    assert np.mean(values) == pytest.approx(0.0, abs=0.05)
    assert np.std(values) == pytest.approx(1.0, abs=0.05)
