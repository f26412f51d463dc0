"""SGLang's former equals the slow one: batches, victims, free blocks and token times."""

import oracle_sglang
import pytest
from cluster_strategies import random_cluster
from hypothesis import given, settings
from strategies import Case, RandomPolicy, cases, policies
from test_oracle_cluster import Stepped, step_through
from test_oracle_core import compare

import sgym
from sgym.core import batch, sglang, sglang_prefill
from sgym.core.layout import WAITING
from sgym.metrics.gains import gains


def test_the_oracle_has_the_same_constants():
    assert oracle_sglang.CLIP == sglang_prefill.MOST_NEW
    assert (oracle_sglang.FIRST, oracle_sglang.LAST) == (sglang.FIRST_RATIO, sglang.LAST_RATIO)


def test_sglang_equals_the_oracle():
    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(cases("sglang"))
    def agree(case: Case) -> None:
        compare(case, None)

    agree()


def test_sglang_equals_the_oracle_under_any_steering():
    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(cases("sglang"), policies)
    def agree(case: Case, policy: RandomPolicy) -> None:
        compare(case, policy)

    agree()


class Summed(Stepped):
    """At every decision B is the sum over all requests too."""

    def step(self, *answer, **stops):
        requests = self.state.requests.copy()
        if self.decision.kind == "route":  # its reader waits already
            requests["phase"][self.state.cluster[0]["request"]] = WAITING
        whole = gains(requests, (self.now, self.now), self.scenario.slo).benefit.sum()
        assert self.potential == pytest.approx(whole, rel=1e-9, abs=1e-9), self.now
        return super().step(*answer, **stops)


@pytest.mark.parametrize(
    ("num_requests", "seed", "kind"),
    [
        *[(2, 15769, "migrates"), (4, 338203, "migrates"), (3, 168290, "migrates")],
        *[(4, 438929, "long"), (3, 216734, "long"), (3, 669939, "long")],
    ],
)
def test_readers_run_dry_also_where_kv_on_its_way_leaves_no_block_to_go_on(
    num_requests, seed, kind
):
    case = random_cluster(num_requests, seed, former="sglang", **{kind: True})
    step_through(case, Summed)


def scenario(**engine):
    limits = {"former": "sglang", "num_gpu_blocks": 1001, "max_model_len": 4096, "block_size": 16}
    return {
        "engine": limits | engine,
        "latency": {"linear": {"iteration": 1.0}},
        "workload": {"rate": 1.0},
        "episode": {"duration": 1000.0},
        "policy": {"name": "stock"},
    }


def request(arrival, prompt, output):
    rest = {"predicted": 10, "priority": 0, "tenant": 0, "user_class": 0}
    return {"arrival": arrival, "prompt": prompt, "output": output} | rest


def batches(settings_, requests):
    """Per iteration: {request: tokens}, victims with 0."""
    log = sgym.simulate(settings_, arrivals=requests, log=("batches",)).batches
    found = {}
    for row in log.itertuples():
        found.setdefault(row.iteration, {})[row.request] = row.tokens
    return [found[n] for n in sorted(found)]


def test_a_new_prompt_stops_all_decodes():
    found = batches(scenario(), [request(0.0, 20, 4), request(0.5, 30, 2)])
    assert found == [{0: 20}, {1: 30}, {0: 1, 1: 1}, {0: 1}, {0: 1}]


def test_one_prompt_is_cut_at_the_end_of_a_block_and_goes_on_next():
    settings_ = scenario(max_num_batched_tokens=64)
    found = batches(settings_, [request(0.0, 40, 1), request(0.0, 100, 1), request(0.0, 10, 1)])
    # 40 tokens are charged as 48; 16 are left for the second, which then takes 64 and the rest,
    # 20, charged as 32, beside the third
    assert found == [{0: 40, 1: 16}, {1: 64}, {1: 20, 2: 10}]


def test_memory_is_set_aside_for_a_share_of_what_may_still_be_generated():
    # 100 blocks are 1,600 tokens. The first has 1,500 tokens to come: 0.7 of them leave no room
    # for the second's 100 tokens and 1,500 to come, so it waits until the first is done.
    settings_ = scenario(num_gpu_blocks=101, max_model_len=1600)
    found = batches(settings_, [request(0.0, 100, 3), request(0.5, 100, 1)])
    assert found == [{0: 100}, {0: 1}, {0: 1}, {1: 100}]


@pytest.mark.parametrize(
    ("prompts", "generated", "victim"),
    [((32, 32), (1, 1), 1), ((32, 32), (1, 4), 0), ((48, 32), (4, 4), 0), ((48, 32), (5, 4), 1)],
)
def test_the_fewest_tokens_are_retracted_then_the_longest_prompt(prompts, generated, victim):
    requests = [request(0.0, prompt, 9) for prompt in prompts]
    state = sgym.Simulator(scenario(), arrivals=requests).state
    for r in (0, 1):
        batch.admit(state, 0, r)
        state.requests[r]["generated"] = generated[r]
    assert sglang.victim(state, 0) == victim
