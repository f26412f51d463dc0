"""Learning to rank: the shortest prediction first, at once, but nobody waits for ever."""

from tiny import request, scenario, served

import sgym


def test_a_shorter_prediction_takes_the_seat_of_a_longer_one_that_runs():
    requests = [request(0, output=4, predicted=100), request(0.5, output=2, predicted=2)]
    assert served("ltr", scenario(), requests) == [0, 1, 1, 0, 0, 0]
    assert served("sjf", scenario(), requests) == [0, 0, 0, 0, 1, 1]


def test_a_longer_prediction_never_takes_a_seat():
    requests = [request(0, predicted=5), request(0.5, predicted=6)]
    assert served("ltr", scenario(), requests) == [0, 0, 0, 1, 1, 1]


def test_the_order_is_by_the_whole_prediction_not_by_what_remains():
    requests = [request(0, output=9, predicted=9), request(5.5, output=2, predicted=8)]
    assert served("ltr", scenario(), requests)[6:8] == [1, 1]
    assert served("srpt", scenario(), requests)[6:9] == [0, 0, 0]


def test_memory_goes_to_the_shorter_prediction_too():
    # 10 blocks: the first takes 8, the second needs 4
    settings = scenario(num_gpu_blocks=11, max_num_seqs=2)
    requests = [request(0, 120, predicted=100), request(0.5, 60, predicted=2)]
    state = sgym.simulate(settings, "ltr", arrivals=requests).state
    assert state.requests["preemptions"].tolist() == [1, 0]
    assert state.requests["swaps"].tolist() == [1, 0]


def test_nobody_is_evicted_where_that_makes_no_room():
    # the second needs 9 blocks of 10, and the third, shorter still, holds 2 of them
    settings = scenario(num_gpu_blocks=11, max_num_seqs=3)
    requests = [
        request(0, 30, 8, predicted=1),
        request(0, 60, 8, predicted=100),
        request(0.5, 140, predicted=50),
    ]
    assert served("ltr", settings, requests)[:16] == [0, 1] * 8


def test_who_was_idle_for_long_goes_first_for_a_while():
    # Request 1 is predicted long; a short one comes each second. It joins during the first
    # iteration, is idle for three, runs for two, is evicted, idle for three, and runs again.
    arrivals = [0.0, 0.2, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    requests = [request(at, output=1, predicted=1) for at in arrivals]
    requests[1] |= {"output": 4, "predicted": 100}
    settings = scenario({"name": "ltr", "starvation": 3, "period": 2})
    assert served("ltr", settings, requests) == [0, 2, 3, 4, 1, 1, 5, 6, 7, 1, 1]
