"""The oracle on simulations small enough to be worked out on paper."""

import oracle
import pytest

SECOND = (1.0, 0.0, 0.0, 0.0)  # every iteration takes a second


def engine(**limits) -> oracle.Engine:
    return oracle.Engine(latency=SECOND, max_num_batched_tokens=8, block_size=4, **limits)


def serve(rows, limits, **options) -> oracle.Simulation:
    requests = [oracle.Request(i, *row) for i, row in enumerate(rows)]
    return oracle.Simulation(requests, limits, **options).run()


def test_a_long_prompt_is_chunked_and_leaves_the_rest_of_the_budget_to_the_next() -> None:
    run = serve([(0.0, 12, 2), (0.0, 6, 1)], engine())
    assert [row.batch for row in run.log] == [
        [(0, 8, 0)],
        [(0, 4, 8), (1, 4, 0)],
        [(0, 1, 12), (1, 2, 4)],
    ]
    assert run.requests[0].tokens == [2.0, 3.0]
    assert run.requests[1].tokens == [3.0]


def test_the_last_admitted_is_preempted_and_prefilled_again_with_its_tokens() -> None:
    run = serve([(0.0, 4, 5), (0.0, 4, 3)], engine(num_gpu_blocks=4))  # three blocks
    assert [row.batch for row in run.log] == [
        [(0, 4, 0), (1, 4, 0)],
        [(0, 1, 4)],  # takes the last free block, so the other must go
        [(0, 1, 5)],
        [(0, 1, 6)],
        [(0, 1, 7)],
        [(1, 5, 0)],
        [(1, 1, 5)],
    ]
    assert run.log[1].victims == [1]
    assert run.requests[1].tokens == [1.0, 6.0, 7.0]
    assert run.requests[1].recomputed == 4


def test_arrivals_at_the_end_of_an_iteration_join_the_next_batch() -> None:
    run = serve([(0.0, 2, 3), (1.0, 2, 1)], engine())
    assert run.requests[1].tokens == [2.0]


def test_a_request_that_never_fits_is_refused_and_takes_no_turn_of_the_router() -> None:
    run = serve([(0.0, 2, 1), (0.0, 20, 9), (0.0, 2, 1)], engine(num_gpu_blocks=5), num_instances=2)
    assert [request.phase for request in run.requests] == ["finished", "refused", "finished"]
    assert [request.instance for request in run.requests] == [0, -1, 1]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        # due at 0.5, 1.0, 1.5; delivered at 1, 2 and 3: late by 0.5, 1.0, 1.5, and 1.2 at 2.7
        (oracle.Metric(), 2 - 2 * 1.2),
        (oracle.Metric(penalty="quadratic"), 2 - 2 * 1.44),
        (oracle.Metric(penalty="capped", penalty_cap=1.1), 2 - 2 * 1.1),
        (oracle.Metric(scale_by_tokens=True), 2 - 2 * 1.2 * 2),
        # due at 1.0, 1.5, 2.0: 0.7 late at 2.7
        (oracle.Metric(from_first_token=True), 2 - 2 * 0.7),
    ],
)
def test_benefit_accrues_while_a_token_is_overdue(metric, expected) -> None:
    request = oracle.Request(0, 0.0, 2, 3, token_time=0.5, alpha=2.0)
    run = oracle.Simulation([request], engine()).run()
    assert request.tokens == [1.0, 2.0, 3.0]
    assert metric.total(run.requests, 2.7) == pytest.approx(expected, abs=1e-12)
