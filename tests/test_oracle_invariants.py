"""What must hold in every simulation, tested on the oracle itself."""

import itertools

import oracle
import pytest
from hypothesis import given, settings
from strategies import LONG, Case, RandomPolicy, cases, policies, steer_oracle

FORMERS = ["vllm_v1", "vllm_v0", "sarathi", "orca"]


def check(case: Case, run: oracle.Simulation, may_stall: bool) -> None:
    """Blocks conserved, clock monotone, budgets kept, no token twice, nothing lost."""
    engine = case.engine
    for instance in run.instances:
        held = sum(request.blocks for request in instance.running)
        assert instance.free + held == engine.usable_blocks
        assert all(request.blocks == 0 for request in instance.waiting)
        ends = [(row.start, row.duration) for row in run.log if row.instance == instance.index]
        assert all(a + d <= b for (a, d), (b, _) in itertools.pairwise(ends))
    for row in run.log:
        assert 0 <= row.free_blocks <= engine.usable_blocks
        assert row.num_running <= engine.max_num_seqs
        assert len({request for request, _, _ in row.batch}) == len(row.batch) > 0
        assert all(tokens > 0 for _, tokens, _ in row.batch)
        if engine.former != "orca":
            assert sum(tokens for _, tokens, _ in row.batch) <= engine.max_num_batched_tokens
    for request in run.requests:
        assert all(a < b for a, b in itertools.pairwise(request.tokens))
        if request.phase == "finished":
            assert len(request.tokens) == request.final >= 1
        elif request.phase == "pending":
            assert request.arrival > case.horizon
        else:
            assert len(request.tokens) < max(1, request.final)
        if case.horizon == LONG and not may_stall:
            assert request.phase in ("finished", "refused")


@pytest.mark.parametrize("former", FORMERS)
def test_everything_that_fits_is_served(former: str) -> None:
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(cases(former))
    def holds(case: Case) -> None:
        check(case, case.oracle(), may_stall=False)

    holds()


@pytest.mark.parametrize("former", FORMERS)
def test_a_random_policy_breaks_no_invariant(former: str) -> None:
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(cases(former), policies)
    def holds(case: Case, policy: RandomPolicy) -> None:
        check(case, case.oracle(steer_oracle(policy)), may_stall=True)

    holds()
