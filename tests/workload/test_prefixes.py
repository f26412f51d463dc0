"""What the prompts of traces and tables share."""

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgym.errors import TraceError
from sgym.loading import load_scenario
from sgym.simulator import Simulator
from sgym.workload import describe, from_table, generate, hit_share, read_trace
from sgym.workload.prefixes import chained


def ids_of(prefixes):
    """The hashes of each row."""
    rows = zip(prefixes.first, prefixes.count, strict=True)
    return [prefixes.hashes[first : first + count].tolist() for first, count in rows]


def chain(*lists, block=10):
    """Chained hashes of rows whose prompts fill their blocks."""
    prompt = np.array([block * len(ids or []) for ids in lists])
    return ids_of(chained(lists, prompt, block))


def test_prompts_that_begin_alike_have_the_same_numbers_up_to_where_they_part():
    assert chain([7, 8, 9], [7, 8, 5], [7, 4]) == [[0, 1], [0, 1], [0]]


def test_an_id_after_another_beginning_is_another_block():
    assert chain([1, 3], [2, 3], [1, 3]) == [[0, 1], [], [0, 1]]


def test_the_same_ids_in_another_order_share_nothing():
    assert chain([1, 2], [2, 1]) == [[], []]


def test_a_repeated_id_is_a_new_block_each_time():
    assert chain([4, 4, 4], [4, 4]) == [[0, 1], [0, 1]]


def test_rows_without_ids_share_nothing():
    assert chain(None, [3], [], [3], float("nan") and None) == [[], [0], [], [0], []]


def test_ids_may_be_strings_or_longer_than_64_bits():
    assert chain(["a", "b"], ["a", "c"]) == [[0], [0]]
    assert chain([2**64 + 1, 5], [2**64 + 1, 6], [1]) == [[0], [0], []]


def test_entries_beyond_the_prompt_are_ignored():
    prefixes = chained([[1, 2, 3], [1, 2, 3]], np.array([15, 30]), 10)
    assert ids_of(prefixes) == [[0, 1], [0, 1]]


def test_an_infinite_cache_holds_what_an_earlier_prompt_began_with():
    prompt = np.array([20, 25, 10])  # the second finds 20 tokens, the third 10
    prefixes = chained([[1, 2], [1, 2, 3], [1]], prompt, 10)
    assert hit_share(prompt, prefixes) == 30 / 55
    assert hit_share(prompt[:0], chained([], prompt[:0], 10)) == 0.0


def counted(lists, prompt, block):
    """The infinite cache again, as a set of beginnings."""
    seen, hits = set(), 0
    for ids, tokens in zip(lists, prompt, strict=True):
        own = [tuple(ids[: k + 1]) for k in range(min(len(ids), -(-tokens // block)))]
        hits += min(block * sum(one in seen for one in own), tokens)
        seen.update(own)
    return hits / max(sum(prompt), 1)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.lists(st.integers(-2, 2), max_size=6), st.integers(1, 50)), max_size=12
    ),
    block=st.integers(1, 12),
)
def test_chained_numbers_are_dense_lead_and_hit_what_a_set_of_beginnings_does(rows, block):
    lists, prompt = [ids for ids, _ in rows], [tokens for _, tokens in rows]
    prefixes = chained(lists, np.array(prompt, np.int64), block)
    assert set(prefixes.hashes.tolist()) == set(range(len(set(prefixes.hashes.tolist()))))
    for ids, chain_of_row in zip(lists, ids_of(prefixes), strict=True):
        for others, chain_of_other in zip(lists, ids_of(prefixes), strict=True):
            for k in range(min(len(chain_of_row), len(chain_of_other))):
                same = ids[: k + 1] == others[: k + 1]
                assert (chain_of_row[k] == chain_of_other[k]) == same
    assert hit_share(np.array(prompt, np.int64), prefixes) == counted(lists, prompt, block)


# --- traces --------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    """Write JSON lines and return the path."""

    def write_lines(items, name="trace.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(item) for item in items))
        return path

    return write_lines


def mooncake(*rows):
    """Items of a Mooncake trace from (ms, prompt, hash_ids)."""
    names = ("timestamp", "input_length", "hash_ids")
    return [dict(zip(names, row, strict=True), output_length=5) for row in rows]


THREE = mooncake((0, 1100, [1, 2, 3]), (1000, 1000, [1, 2]), (2000, 2000, [1, 5, 6, 7]))


def scenario(path, duration=100.0, **workload):
    return load_scenario(
        {
            "workload": {"trace": str(path), "random_window": False} | workload,
            "episode": {"duration": duration},
        }
    )


def ids_drawn(requests):
    """The hashes of each request."""
    rows = requests.arrivals[["first_hash", "num_hashes"]].tolist()
    return [requests.hashes[first : first + count].tolist() for first, count in rows]


def test_mooncake_hashes_stand_for_512_tokens_and_bailians_for_16(write):
    requests = generate(scenario(write(THREE)), 0)
    assert (requests.hash_block, ids_drawn(requests)) == (512, [[0, 1], [0, 1], [0]])
    chat = {"chat_id": 1, "timestamp": 1.5, "input_length": 40, "hash_ids": [1, 2, 3]}
    requests = generate(scenario(write([THREE[0] | chat] * 2)), 0)
    assert (requests.hash_block, ids_drawn(requests)) == (16, [[0, 1, 2]] * 2)


def test_the_tokens_of_a_hash_can_be_named(write):
    requests = generate(scenario(write(THREE), hash_block=600), 0)
    assert (requests.hash_block, ids_drawn(requests)) == (600, [[0, 1], [0, 1], [0]])


def test_the_tokens_of_a_hash_are_found_where_the_usual_ones_fit_hardly_a_row(write):
    rows = [(k, 60, [1, 2, 3, 10 + k]) for k in range(3)]  # as vLLM's timed_trace has them
    trace = read_trace(write(mooncake(*rows, (9, 100, [1]))))
    assert trace.prefixes.block == 16
    assert ids_of(trace.prefixes) == [[0, 1, 2]] * 3 + [[0]]
    assert (trace.report.hashes_cut, trace.report.hashes_short) == (0, 1)


def test_hashes_that_do_not_fit_their_prompts_are_reported(write):
    rows = ((0, 100, [1, 2]), (1, 5000, [1, 3]), (2, 1100, [1, 3]), (3, 1100, []))
    report = read_trace(write(mooncake(*rows))).report
    assert (report.hashes_cut, report.hashes_short) == (1, 1)  # 1100 tokens fill two blocks
    assert "1 with too many hash_ids for their prompt in blocks of 512 tokens" in str(report)
    assert "1 with too few hash_ids" in str(report)
    assert "hash_ids" not in str(read_trace(write(THREE)).report)


def test_windows_and_rates_keep_each_request_its_hashes(write):
    path = write(THREE)
    assert ids_drawn(generate(scenario(path, window=[1.0, 3.0]), 0)) == [[0, 1], [0]]
    assert ids_drawn(generate(scenario(path, rate_scale=0.5), 0)) == [[0, 1], [0, 1], [0]]
    assert ids_drawn(generate(scenario(path, num_requests=1), 0)) == [[0, 1]]
    assert ids_drawn(generate(scenario(path, max_prompt=1500), 0)) == [[0, 1], [0, 1]]


def test_rows_that_are_left_out_take_their_hashes_with_them(write):
    lost = THREE[1] | {"output_length": 0}
    assert ids_drawn(generate(scenario(write([THREE[0], lost, THREE[2]])), 0)) == [[0], [0]]


def test_all_windows_of_a_trace_use_one_array(write):
    config = scenario(write(THREE), duration=0.5, random_window=True)
    assert generate(config, 0).hashes is generate(config, 1).hashes


def test_rows_drawn_again_share_only_what_other_rows_share(write):
    untimed = [{name: item[name] for name in item if name != "timestamp"} for item in THREE]
    config = scenario(write(untimed), rate=1.0, arrivals={"process": "constant"}, duration=6.0)
    assert ids_drawn(generate(config, 0)) == [[0, 1], [0, 1], [0]] * 2  # of the third: only [1]


def test_a_trace_without_hashes_shares_nothing(write):
    requests = generate(scenario(write([item | {"hash_ids": None} for item in THREE])), 0)
    assert (len(requests.hashes), requests.hit_share) == (0, 0.0)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"history": [1]}, r"line 2 has hash_ids .*history.*, must be a list"),
        ([1, 2.5], r"hash_ids hold 2.5, must be whole numbers or strings"),
        ([[1], 2], r"hash_ids hold \[1\], must be whole numbers"),
    ],
)
def test_wrong_hashes_are_explained(write, ids, message):
    path = write([THREE[0], THREE[1] | {"hash_ids": ids}])
    with pytest.raises(TraceError, match=message):
        read_trace(path, "mooncake")


def rag(second, system, passages, question):
    """A RAGPulse item; a passage has 20 tokens, a system prompt 16, a question 12."""
    parts = {"sys_prompt": system, "passages_ids": passages, "history": [], "user_input": question}
    tokens = 16 * len(system) + 20 * len(passages) + 12 * len(question)
    return {"timestamp": str(second), "input_length": tokens, "output_length": 3, "hash_ids": parts}


RAG = [rag(0, [1], [50, 51], [90]), rag(1, [1], [50, 52], [90]), rag(2, [1], [51, 50], [90])]


def test_passages_of_ragpulse_count_with_all_that_stands_before_them(write):
    write([{"sys_prompt_id": 1, "token_length": 16}], "1_sys_prompt.jsonl")
    write([{"passage_id": k, "token_length": 20} for k in (50, 51, 52)], "2_passages.jsonl")
    write([{"user_input_id": 90, "token_length": 12}], "4_user_input.jsonl")
    trace = read_trace(write(RAG, "0_trace.jsonl"))
    # Blocks of 16: the system prompt, 16 tokens of the first passage, 4 of it and 12 of the next.
    assert ids_of(trace.prefixes) == [[0, 1], [0, 1], [0]]
    assert trace.prefixes.block == 16
    assert (trace.report.hashes_cut, trace.report.hashes_short) == (0, 0)


def test_parts_within_one_block_are_not_overlooked(write):
    write(
        [{"id": k, "token_length": tokens} for k, tokens in ((1, 15), (2, 5), (3, 5), (4, 28))],
        "1_sys_prompt.jsonl",
    )
    first, second = rag(0, [1, 2, 4], [], []), rag(1, [1, 3, 4], [], [])
    trace = read_trace(write([first, second], "0_trace.jsonl"))
    assert ids_of(trace.prefixes) == [[], []]  # the second part differs, before the third


def test_ragpulse_without_the_lengths_of_its_parts_shares_nothing_and_says_so(write):
    trace = read_trace(write(RAG))
    assert trace.prefixes is None
    assert "hash_ids are not used, as the files of their lengths" in str(trace.report)


def test_a_broken_file_of_lengths_is_explained(write):
    write([{"sys_prompt_id": 1, "token_length": 16}, [3]], "1_sys_prompt.jsonl")
    with pytest.raises(TraceError, match=r"1_sys_prompt.jsonl: line 2 is no object of an id"):
        read_trace(write(RAG))


def test_the_mooncake_trace_hits_what_a_set_of_its_ids_does_and_quickly(shared_data):
    path = shared_data / "traces" / "mooncake_conversation_trace.jsonl"
    start = time.perf_counter()
    config = scenario(path, duration=1e5)
    requests = generate(config, 0)
    assert time.perf_counter() - start < 2.0
    items = [json.loads(line) for line in path.read_text().splitlines()]
    lists, prompt = ([item[name] for item in items] for name in ("hash_ids", "input_length"))
    seen, hits = set(), 0  # its ids are chained, so that the ids alone are enough
    for ids, tokens in zip(lists, prompt, strict=True):
        hits += min(512 * sum(one in seen for one in ids), tokens)
        seen.update(ids)
    assert requests.hit_share == pytest.approx(hits / sum(prompt), abs=1e-12)
    assert requests.hit_share == pytest.approx(0.35199, abs=1e-5)
    assert describe(config)["prefix_hit_share"] == requests.hit_share


# --- one's own table, and the simulator ----------------------------------------------------------

ROW = {"arrival": 0.0, "prompt": 40, "output": 5}


def test_a_table_of_ones_own_may_have_hashes():
    rows = [ROW | {"arrival": 2.0, "hash_ids": [1, 2]}, ROW, ROW | {"hash_ids": (1, 3)}]
    requests = from_table(rows, hash_block=16)
    assert list(requests.arrivals["arrival"]) == [0.0, 0.0, 2.0]
    assert ids_drawn(requests) == [[], [0], [0]]
    assert requests.hash_block == 16
    assert from_table(requests) is requests


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("abc", r"row 1 of the table of requests has hash_ids 'abc', must be a list"),
        ([1, 2], r"row 1 .* hash_ids \[1, 2\], must be at most one entry per 512 tokens"),
    ],
)
def test_wrong_hashes_in_a_table_are_named_by_their_row(ids, message):
    with pytest.raises(TraceError, match=message):
        from_table([ROW | {"hash_ids": [1]}, ROW | {"hash_ids": ids}])


def test_the_simulator_hands_the_hashes_to_its_state(write):
    linear = {"linear": {"iteration": 0.01}}
    config = scenario(write(THREE)).model_dump() | {"latency": linear}
    state = Simulator(config).state
    assert state.cluster["hash_block"].tolist() == [512]
    assert state.hashes.tolist() == [0, 1, 0, 1, 0]
    assert state.requests["num_hashes"].tolist() == [2, 2, 1]
    own = Simulator(
        config | {"workload": {"rate": 1.0, "hash_block": 16}},
        arrivals=[ROW | {"hash_ids": [1, k]} for k in (2, 3)],
    )
    assert own.state.cluster["hash_block"].tolist() == [16]
    assert own.state.hashes.tolist() == [0, 0]
