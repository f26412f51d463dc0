import numpy as np
import pytest

import sgym
from sgym._jit import python_version
from sgym.core import build, kv, prefix
from sgym.core.layout import CLUSTER, ENGINE, LATENCY, NONE, REQUEST
from sgym.errors import ScenarioError
from sgym.policies.steering import Steering
from sgym.simulator import Simulator


def scenario(**changes):
    """Iterations of one second, blocks of 4 tokens, 10 of them, and prefix caching."""
    engine = {
        "block_size": 4,
        "num_gpu_blocks": 11,
        "max_model_len": 40,
        "enable_prefix_caching": True,
    }
    return {
        "engine": engine | changes,
        "latency": {"linear": {"iteration": 1.0}},
        "workload": {"rate": 1.0, "hash_block": 4},
        "episode": {"duration": 1000.0},
    }


def ask(arrival, prompt, output, hash_ids):
    return {"arrival": arrival, "prompt": prompt, "output": output, "hash_ids": hash_ids}


def chunks(result, request):
    """Of a request: iteration, tokens computed in it, and tokens whose KV was there before."""
    own = result.batches[result.batches["request"] == request]
    own = own[own["tokens"] > 0]
    return list(zip(own["iteration"], own["tokens"], own["computed"], strict=True))


def served(requests, **changes):
    log = ("iterations", "batches")
    return sgym.simulate(scenario(**changes), "vllm", log=log, arrivals=requests)


def test_a_prompt_computes_only_what_no_earlier_one_began_with():
    result = served([ask(0, 10, 1, [1, 2, 3]), ask(5, 10, 1, [1, 2, 4])])
    assert chunks(result, 0) == [(0, 10, 0)]
    assert chunks(result, 1) == [(1, 2, 8)]
    assert result.state.requests["cached"].tolist() == [0, 8]
    assert result.state.instances[0]["looked_up"] == 20
    assert result.state.instances[0]["found"] == 8


def test_without_prefix_caching_all_is_computed():
    result = served(
        [ask(0, 10, 1, [1, 2, 3]), ask(5, 10, 1, [1, 2, 4])], enable_prefix_caching=False
    )
    assert chunks(result, 1) == [(1, 10, 0)]


def test_the_last_token_is_computed_even_if_all_is_known():
    result = served([ask(0, 8, 1, [1, 2]), ask(5, 8, 1, [1, 2])])
    assert chunks(result, 1) == [(1, 4, 4)]  # whole blocks only, so four tokens


def test_prompts_of_one_batch_share_what_the_first_of_them_computes():
    result = served([ask(0, 10, 2, [1, 2, 3]), ask(0, 10, 2, [1, 2, 4])])
    assert chunks(result, 1) == [(0, 2, 8), (1, 1, 10)]
    assert result.iterations["free_blocks"][0] == 10 - 3 - 1  # two of the second one's are shared


def test_what_was_generated_is_nobody_elses():
    result = served([ask(0, 6, 3, [1, 2]), ask(5, 9, 1, [1, 2, 5])])
    assert chunks(result, 1) == [(3, 5, 4)]


def test_entries_may_stand_for_other_numbers_of_tokens_than_blocks_hold():
    requests = [ask(0, 13, 1, [1, 2, 3]), ask(5, 13, 1, [1, 2, 4])]
    changed = scenario()
    changed["workload"]["hash_block"] = 6  # tokens 0 to 5, 6 to 11, 12
    result = sgym.simulate(changed, "vllm", log=("batches",), arrivals=requests)
    assert chunks(result, 1) == [(1, 1, 12)]
    requests[1]["hash_ids"] = [1, 5, 6]
    result = sgym.simulate(changed, "vllm", log=("batches",), arrivals=requests)
    assert chunks(result, 1) == [(1, 9, 4)]  # the block of tokens 4 to 7 ends in another entry


def test_a_preempted_request_finds_its_own_kv():
    simulator = Simulator(
        scenario(), policy="vllm", arrivals=[ask(0, 10, 5, [])], log=("iterations", "batches")
    )
    simulator.step()
    simulator.step(Steering(preempt=[0]))
    result = simulator.run()
    assert chunks(result, 0)[:2] == [(0, 10, 0), (1, 3, 8)]  # known: 10 and the first token
    assert result.state.requests[0]["recomputed"] == 2


def test_kv_of_finished_requests_gives_way_to_new_ones():
    full = [ask(0, 8, 1, [1, 2]), ask(5, 39, 1, []), ask(10, 8, 1, [1, 2])]
    result = served(full)
    assert chunks(result, 2) == [(2, 8, 0)]
    assert result.state.instances[0]["free_blocks"] == 10


def test_idle_blocks_that_are_found_count_as_taken():
    """All 8 free blocks are idle and found, and the third request needs one more."""
    requests = [ask(0, 33, 1, list(range(9))), ask(5, 5, 4, []), ask(6.5, 33, 1, list(range(9)))]
    result = served(requests)
    assert chunks(result, 2) == [(5, 1, 32)]  # not before the second one has gone


def pool(num_blocks, num_requests=3):
    """A state whose requests have no phase: blocks are taken and freed by hand."""
    engines = np.zeros(1, ENGINE)
    engines["num_blocks"], engines["block_size"] = num_blocks, 4
    engines["max_num_seqs"], engines["prefix_caching"] = 4, 1
    requests = np.zeros(num_requests, REQUEST)
    requests["prompt"] = 100
    for name in ("table", "other_table", "other"):
        requests[name] = NONE
    cluster = np.zeros(1, CLUSTER)
    cluster["hash_block"] = 4
    requests["num_hashes"] = 2  # all begin with the same 8 tokens
    hashes = np.array([7, 8])
    return build.begun(
        build.blank_state(engines, np.zeros(1, LATENCY), cluster), requests, hashes=hashes
    )


def held(state, r, table="table"):
    """Blocks of a request, first one first."""
    entry, found = state.requests[r][table], []
    while entry != NONE:
        found.append(int(state.tables[entry]["block"]))
        entry = state.tables[entry]["before"]
    return found[::-1]


def free(state):
    """Free blocks in the order in which they will be taken."""
    blocks = state.blocks[0]
    end = len(blocks) - 1
    found, b = [], blocks[end]["next_free"]
    while b != end:
        found.append(int(b))
        b = blocks[b]["next_free"]
    return found


def test_free_blocks_without_a_key_are_taken_first_and_others_last():
    state = pool(5)
    kv.grow(state, 0, 0, 3)
    assert held(state, 0) == [0, 1, 2]
    prefix.register(state, 0, 0, 8)
    kv.release(state, 0, 0)
    assert free(state) == [2, 3, 4, 1, 0]
    assert state.instances[0]["free_blocks"] == 5


def test_a_block_is_found_until_it_is_taken():
    state = pool(3)
    kv.grow(state, 0, 0, 2)
    prefix.register(state, 0, 0, 8)
    kv.release(state, 0, 0)
    assert prefix.find(state, 0, 1) == (2, 2)
    kv.grow(state, 0, 2, 2)  # the unused one, and the second of the known ones
    assert prefix.find(state, 0, 1) == (1, 1)


def test_the_oldest_block_with_a_key_is_found():
    state = pool(4)
    for r in (0, 1):
        kv.grow(state, 0, r, 1)
        prefix.register(state, 0, r, 4)
    kv.reuse(state, 0, 2, 1)
    assert held(state, 2) == [0]
    for r in (0, 2):
        kv.release(state, 0, r)
    kv.grow(state, 0, 0, 3)  # all free ones, the oldest with a key among them
    assert prefix.find(state, 0, 2) == (1, 0)
    kv.reuse(state, 0, 2, 1)
    assert held(state, 2) == [1]


def test_kv_left_behind_and_taken_over_keeps_its_blocks():
    state = pool(6)
    kv.grow(state, 0, 0, 2)
    kv.leave_behind(state, 0)
    assert held(state, 0, "other_table") == [0, 1]
    kv.grow(state, 0, 0, 2)
    kv.release_other(state, 0)
    assert held(state, 0) == [2, 3]
    assert free(state) == [1, 0, 4, 5]
    kv.grow_other(state, 0, 0, 1)
    kv.adopt(state, 0)
    assert held(state, 0) == [1]
    assert state.instances[0]["free_blocks"] == 5


def test_after_hand_offs_and_preemptions_every_block_is_free_again():
    pools = [{"role": "prefill"}, {"role": "decode", "instances": 2}]
    rng = np.random.default_rng(1)
    requests = [
        ask(0.3 * n, int(rng.integers(9, 20)), int(rng.integers(1, 15)), [1, int(n % 2)])
        for n in range(60)
    ]
    whole = scenario() | {"cluster": {"pools": pools}}
    state = sgym.simulate(whole, "vllm", arrivals=requests).state
    assert state.requests["preemptions"].sum() > 0
    assert state.cluster[0]["handoffs"] > 0
    assert state.instances["free_blocks"].tolist() == [10, 10, 10]
    assert not state.blocks["uses"].any()
    assert state.cluster[0]["num_tables"] == state.cluster[0]["num_free_tables"]


def test_the_table_pool_grows_when_many_share_a_prompt():
    requests = [ask(0, 33, 8, list(range(9))) for _ in range(40)]
    many = scenario(max_num_seqs=64, num_gpu_blocks=60)
    state = sgym.simulate(many, "vllm", arrivals=requests).state
    assert len(state.tables) > 2 * state.blocks.size
    assert state.cluster[0]["num_tables"] > 40 * 8


@pytest.mark.parametrize("identity", [0, 5, (1 << 39) - 1, ~0, ~(1 << 30)])
def test_compiled_and_plain_python_agree_on_the_bucket_of_a_key(identity):
    state = pool(100)
    key = (identity << 24) + 3
    bucket = prefix.bucket_of(state, key)
    assert bucket == python_version(prefix.bucket_of)(state, key)
    assert 0 <= bucket < state.buckets.shape[1]


def test_other_engines_refuse_prefix_caching_and_lose_it_as_policies():
    with pytest.raises(ScenarioError, match=r"enable_prefix_caching: true` needs `former: vllm_v1"):
        sgym.load_scenario(scenario(former="orca"))
    result = sgym.simulate(scenario(), "orca", arrivals=[ask(0, 8, 1, [1, 2])])
    assert not result.scenario.engine.enable_prefix_caching
