"""Memory and queues between the iterations."""

import numpy as np
import pytest
from cluster_logs import HANDED_OFF, Batch, busy_run, busy_simulator, log_of

from sgym.core.layout import Move
from sgym.errors import SgymError
from sgym.simulator import simulate
from sgym.viz.cluster_log import ARRIVED, LOGS, Pending, binned, cluster_log, lanes
from sgym.viz.cluster_use import use_of


def test_memory_is_empty_before_between_and_after_batches():
    use = use_of(log_of([Batch(0, 1.0, 0.5, free=90), Batch(0, 2.0, 0.5, free=80)]), 0)
    assert use.time.tolist() == [0.0, 1.0, 1.5, 2.0, 2.5]
    assert use.used.tolist() == [0, 10, 0, 20, 0]
    assert use.running.tolist() == [0, 1, 0, 1, 0]


def test_a_finished_prefill_holds_memory_until_it_was_sent():
    use = use_of(HANDED_OFF, 0)
    assert use.time.tolist() == [0.0, 1.0, 1.5, 2.25]
    assert use.used.tolist() == [0, 4, 4, 0]
    assert use.held.tolist() == [0, 0, 4, 0]


def test_a_handed_off_request_waits_and_then_takes_memory_with_room_for_its_next_token():
    use = use_of(HANDED_OFF, 1)
    assert use.time.tolist() == [0.0, 1.5, 2.0, 2.25, 2.5, 3.0]
    assert use.waiting.tolist() == [0, 1, 0, 0, 0, 0]
    assert use.used.tolist() == [0, 0, 5, 0, 5, 0]


def test_arrivals_queue_up_while_nothing_can_run():
    arrivals = np.array([(1.2, 0), (2.0, 0), (3.0, 0)], ARRIVED)
    use = use_of(log_of([Batch(0, 1.0, 0.5, waiting=4)], arrivals=arrivals), 0)
    assert use.time.tolist() == [0.0, 1.0, 1.5, 2.0, 3.0]
    assert use.waiting.tolist() == [0, 4, 5, 6, 7]


def test_a_rejected_request_leaves_the_queue_and_frees_what_it_holds_elsewhere():
    batches = [Batch(0, 1.0, 0.5, prefill=1, requests=(7,))]
    log = log_of(batches, [(Move.REJECTION, 7, 1, 1, 0, 4.0, 4.0)], instances=2)
    assert use_of(log, 0).time.tolist() == [0.0, 1.0, 1.5, 4.0]
    assert use_of(log, 0).used.tolist() == [0, 10, 1, 0]


def test_a_hand_off_that_was_under_way_at_the_end_holds_memory_until_then():
    batches = [Batch(0, 1.0, 0.5, requests=(7,)), Batch(0, 2.0, 0.5, requests=(8,))]
    pending = (Pending(7, 0, 1, 33, 3.0), Pending(8, 0, 1, 16, np.inf))
    log = log_of(batches, instances=2, pending=pending)
    assert use_of(log, 0).used.tolist() == [0, 10, 3, 10, 4]
    assert use_of(log, 1).time.tolist() == [0.0, 1.5, 2.5, 3.0]
    assert use_of(log, 1).used.tolist() == [0, 0, 0, 3]
    assert use_of(log, 1).waiting.tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize("seed", range(3))
def test_what_is_deduced_is_what_the_simulation_held(seed):
    simulator, seen = busy_simulator(seed), []
    while simulator.decision.kind != "done":
        for index, instance in enumerate(simulator.state.instances):
            used = int(simulator.state.engines["num_blocks"][index] - instance["free_blocks"])
            if not instance["busy"]:
                seen.append((simulator.now, index, used, int(instance["num_waiting"])))
        simulator.step()
    log = cluster_log(simulator.result())
    uses = [use_of(log, index) for index in range(4)]
    compared = 0
    for time, index, used, waiting in seen:
        use = uses[index]
        place = int(np.searchsorted(use.time, time)) - 1
        between = place >= 0 and use.running[place] == 0 and np.abs(use.time - time).min() > 1e-9
        if between:  # in the middle of an instant both are right
            compared += 1
            assert (use.used[place], use.waiting[place]) == (used, waiting), (time, index)
    assert compared > 500


def test_spans_that_overlap_get_lanes_of_their_own():
    starts, ends = np.array([0.0, 1.0, 2.0, 2.0]), np.array([2.0, 3.0, 4.0, 5.0])
    assert lanes(starts, ends) == [0, 1, 0, 2]


def test_columns_say_how_much_of_them_is_used_and_for_what():
    starts, ends = np.array([0.0, 1.5, 2.0]), np.array([0.5, 2.0, 2.25])
    low, high, busy, shares = binned(starts, ends, np.array([1.0, 0.0, 1.0]), np.arange(5.0))
    assert low.tolist() == [0.0, 1.0, 2.0]
    assert high.tolist() == [1.0, 2.0, 3.0]
    assert busy.tolist() == [0.5, 0.5, 0.25]
    assert shares.tolist() == [1.0, 0.0, 1.0]


def test_a_long_batch_fills_all_columns_it_crosses():
    _, _, busy, _ = binned(np.array([0.5]), np.array([3.5]), np.ones(1), np.arange(5.0))
    assert busy.tolist() == [0.5, 1.0, 1.0, 0.5]


def test_a_run_that_was_not_logged_is_refused_with_what_to_do():
    result = simulate("tiny", log=("iterations", "batches"))
    with pytest.raises(SgymError, match=r"needs the log of moves: simulate\(\.\.\., log="):
        cluster_log(result)


def test_an_empty_span_is_refused():
    result = simulate("tiny", log=LOGS)
    with pytest.raises(SgymError, match="must end after it starts, got 5 to 5 s"):
        cluster_log(result, 5.0, 5.0)


def test_a_span_shows_what_overlaps_it():
    result = simulate("tiny", log=LOGS)
    rows = cluster_log(result, 5.0, 6.0).seen_rows_of(0)
    whole = result.iterations
    inside = (whole["start"] < 6.0) & (whole["start"] + whole["duration"] > 5.0)
    assert rows.tolist() == np.flatnonzero(inside).tolist()


def test_a_span_begins_with_what_was_there_before():
    batches = [Batch(0, 1.0, 0.5, waiting=4), Batch(0, 4.0, 0.5, waiting=1)]
    arrivals = np.array([(0.5, 0), (1.2, 0), (3.5, 0)], ARRIVED)
    use = use_of(log_of(batches, arrivals=arrivals, start=3.0, end=4.2), 0)
    assert use.time.tolist() == [3.0, 3.5, 4.0]
    assert use.waiting.tolist() == [5, 6, 1]
    assert use.used.tolist() == [0, 0, 10]


def test_a_span_of_a_busy_run_is_what_the_whole_run_shows_there():
    result = busy_run()
    for index in range(4):
        whole, part = use_of(cluster_log(result), index), use_of(cluster_log(result, 1, 2), index)
        for time in np.linspace(1.0, 1.999, 50):
            here, there = (np.searchsorted(use.time, time, "right") - 1 for use in (whole, part))
            assert [column[here] for column in whole[1:]] == [column[there] for column in part[1:]]
