"""Every public format, as small files of our own making."""

import gzip
import json

import numpy as np
import pytest

from sgym.errors import TraceError
from sgym.workload import formats, read_trace

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805901,374,44\r\n"
    "2023-11-16 18:15:46.6805902,396,109\r\n"
    "2023-11-16 18:15:47.1805901,879,55"
)


def rows(trace, *columns):
    """The table as a list of tuples of plain numbers."""
    names = columns or ("arrival", "prompt", "output")
    return [tuple(row) for row in trace.table[list(names)].itertuples(index=False)]


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def write_file(text, name="trace"):
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write_file


def test_azure_has_crlf_and_fractions_of_seven_digits(write):
    trace = read_trace(write(AZURE))
    assert trace.report.format == "azure"
    assert [row[1:] for row in rows(trace)] == [(374, 44), (396, 109), (879, 55)]
    np.testing.assert_allclose(trace.table["arrival"], [0.0, 1e-7, 0.5], atol=1e-12)


def test_azure_2024_has_offsets_and_rows_without_a_fraction(write):
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00+00:00,10,2\n"
        "2024-05-10 00:00:01.250000+00:00,20,3\n"
        "2024-05-10 00:00:02.1234567+00:00,30,4\n"
    )
    arrival = read_trace(write(text)).table["arrival"]
    np.testing.assert_allclose(arrival, [0.0, 1.25, 2.1234567], atol=1e-12)


def test_gzipped_multimodal_azure_is_read_whatever_its_name(tmp_path):
    text = "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-10 01:00:00.5,2,100,7\n"
    path = tmp_path / "trace.bin"
    path.write_bytes(gzip.compress(text.encode()))
    trace = read_trace(path)
    assert trace.report.format == "azure"
    assert rows(trace) == [(0.0, 100, 7)]


BURST_1 = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45,ChatGPT,1087,230,1317,Conversation log\n"
    "118,GPT-4,417,0,417,API log\n"
)


def test_burstgpt_starts_at_zero_and_drops_failed_requests(write):
    trace = read_trace(write(BURST_1))
    assert trace.report.format == "burstgpt"
    assert rows(trace) == [(0.0, 472, 18), (40.0, 1087, 230)]
    assert trace.report.dropped == {"without output": 1}
    assert str(trace.report) == (
        "trace (burstgpt): 2 of 3 rows; dropped 1 without output; 40 s, 0 equal time stamps"
    )


def test_burstgpt_3_has_its_new_columns_in_the_middle(write):
    text = (
        "Timestamp,Session ID,Elapsed time,Model,"
        "Request tokens,Response tokens,Total tokens,Log Type\n"
        "19440110.0,,3,ChatGPT,100,20,120,API log\n"
        "19440111.0,s7,4,GPT-4,200,30,230,Conversation log\n"
        "19440111.0,s7,4,GPT-4,0,30,30,Conversation log\n"
    )
    trace = read_trace(write(text))
    assert rows(trace) == [(0.0, 100, 20), (1.0, 200, 30)]
    assert trace.table["session_id"][1] == "s7"
    assert trace.report.dropped == {"without prompt": 1}


def test_zero_outputs_can_count_as_one_token(write):
    trace = read_trace(write(BURST_1), zero_output="clip1")
    assert rows(trace)[-1] == (113.0, 417, 1)
    assert trace.report.clipped == 1
    assert "1 empty outputs count as 1 token" in str(trace.report)


def test_zero_outputs_can_refuse_the_file(write):
    with pytest.raises(TraceError, match=r"line 4 has output 0, must be at least 1 token"):
        read_trace(write(BURST_1), zero_output="flag")


def mooncake(*timestamps, **more):
    """JSON lines as Mooncake writes them."""
    return "\n".join(
        json.dumps(
            {"timestamp": t, "input_length": 600, "output_length": 5, "hash_ids": [0, i + 1]} | more
        )
        for i, t in enumerate(timestamps)
    )


def test_mooncake_is_in_milliseconds_and_keeps_hashes(write):
    trace = read_trace(write(mooncake(3000, 3000, 6000)))
    assert (trace.report.format, trace.report.time_unit) == ("mooncake", "ms")
    assert rows(trace) == [(0.0, 600, 5), (0.0, 600, 5), (3.0, 600, 5)]
    assert trace.table["hash_ids"][2] == [0, 3]
    assert (trace.report.ties, trace.step) == (1, 3.0)


def test_mooncake_with_fractions_is_in_seconds(write):
    trace = read_trace(write(mooncake(0.5, 1.75)))
    assert (trace.report.time_unit, trace.report.duration) == ("s", 1.25)


def test_the_time_unit_can_be_named(write):
    assert read_trace(write(mooncake(0, 3000)), time_unit="s").report.duration == 3000.0


def test_pretty_printed_objects_are_read_like_lines(write):
    text = "\n".join(json.dumps(json.loads(line), indent=2) for line in mooncake(0, 9).split("\n"))
    assert rows(read_trace(write(text))) == [(0.0, 600, 5), (0.009, 600, 5)]


def test_rows_without_a_time_stamp_are_counted(write):
    text = mooncake(0, 10) + '\n{"session_id": "a", "input_length": 3, "output_length": 4}\n\n'
    trace = read_trace(write(text))
    assert trace.report.dropped == {"without time stamp": 1}
    assert trace.report.kept == 2


def test_inversions_are_sorted_and_equal_stamps_keep_their_order(write):
    text = "arrival,prompt,output\n2,1,1\n1,2,1\n2,3,1\n1,4,1\n"
    trace = read_trace(write(text))
    assert [row[1] for row in rows(trace)] == [2, 4, 1, 3]
    assert trace.report.inversions == 2
    assert str(trace.report).endswith("; 1 s, 2 equal time stamps; 2 out of order")


def test_bailian_is_in_seconds_and_knows_conversations(write):
    items = [
        {"chat_id": 7, "parent_chat_id": -1, "timestamp": 1.5, "turn": 1},
        {"chat_id": 8, "parent_chat_id": 7, "timestamp": 2.0, "turn": 2},
        {"chat_id": 9, "parent_chat_id": 8, "timestamp": 3.0, "turn": 3},
        {"chat_id": 5, "parent_chat_id": 4, "timestamp": 3.5, "turn": 2},
    ]
    lengths = {"input_length": 20, "output_length": 3, "type": "text", "hash_ids": [1, 2]}
    trace = read_trace(write("\n".join(json.dumps(item | lengths) for item in items)))
    assert (trace.report.format, trace.report.duration) == ("bailian", 2.0)
    assert list(trace.table["session_id"]) == [7, 7, 7, 4]


def test_blocks_of_16_tokens_and_fractions_tell_bailian_from_mooncake(write):
    trace = read_trace(write(mooncake(0.0, 2.0, input_length=30)))
    assert (trace.report.format, trace.report.duration) == ("bailian", 2.0)


def test_ragpulse_has_seconds_in_strings_and_hashes_by_part(write):
    item = {"input_length": 9, "output_length": 2, "session_id": "x", "hash_ids": {"history": [1]}}
    lines = "\n".join(json.dumps({"timestamp": t} | item) for t in ("10", "12", "11"))
    trace = read_trace(write(lines + "\n\n"))
    assert (trace.report.format, trace.report.inversions) == ("ragpulse", 1)
    assert list(trace.table["arrival"]) == [0.0, 1.0, 2.0]


def bench(**more):
    """The result of `vllm bench serve`."""
    return json.dumps({"input_lens": [10, 20, 30], "output_lens": [1, 2, 3]} | more, indent=1)


def test_a_benchmark_result_replays_its_start_times(write):
    text = bench(start_times=[100.5, 100.0, 101.0], errors=["", "", "timeout"])
    trace = read_trace(write(text))
    assert rows(trace) == [(0.0, 20, 2), (0.5, 10, 1)]
    assert trace.report.dropped == {"failed": 1}


def test_a_benchmark_result_without_start_times_gives_lengths(write):
    trace = read_trace(write(bench()))
    assert trace.report.time_unit == "none"
    assert rows(trace, "prompt", "output") == [(10, 1), (20, 2), (30, 3)]
    assert "no time stamps" in str(trace.report)


@pytest.mark.parametrize("text", [bench() + "\n" + bench(), bench(output_lens=[1])])
def test_a_benchmark_result_must_be_one_and_complete(write, text):
    with pytest.raises(TraceError, match=r"holds 2 benchmark results|of equal length"):
        read_trace(write(text))


def test_vidur_with_and_without_arrivals(write):
    timed = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,10,2\n0.75,20,3\n"
    assert rows(read_trace(write(timed))) == [(0.0, 10, 2), (0.25, 20, 3)]
    lengths = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n10,2,12,5.0\n"
    trace = read_trace(write(lengths))
    assert (trace.report.format, trace.report.time_unit) == ("vidur", "none")


def test_splitwise(write):
    text = (
        "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
        "0,2,0,0.25,1,374,44\n"
        "1,2,0,4.25,1,396,109\n"
    )
    trace = read_trace(write(text))
    assert trace.report.format == "splitwise"
    assert rows(trace) == [(0.0, 374, 44), (4.0, 396, 109)]


def test_sharegpt_takes_given_counts_or_four_characters_per_token(write):
    text = json.dumps(
        [
            {
                "conversations": [
                    {"from": "human", "value": "12345"},
                    {"from": "gpt", "value": "1234"},
                ]
            },
            {"conversations": [{"value": "x", "tokens": 40}, {"value": "y", "tokens": 50}]},
            {"conversations": [{"from": "human", "value": "alone"}]},
            {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": ""}]},
        ]
    )
    trace = read_trace(write(text))
    assert rows(trace, "prompt", "output") == [(2, 1), (40, 50)]
    assert trace.report.dropped == {"one_turn": 1, "without output": 1}


def test_a_plain_csv_has_classes_tenants_and_priorities(write):
    text = (
        "\ufeffTime, Prompt_Tokens ,output_tokens,priority,tenant,user_class,session_id\n"
        "1.5,10,5,2,acme,agent,s1\n"
        "\n"
        "2.0,20,6,-1,zeta,reader,\n"
        "2.5,30,7,0,acme,agent,s1\n"
    )
    trace = read_trace(write(text))
    assert rows(trace) == [(0.0, 10, 5), (0.5, 20, 6), (1.0, 30, 7)]
    assert list(trace.table["priority"]) == [2, -1, 0]
    assert list(trace.table["tenant"]) == [0, 1, 0]
    assert list(trace.table["user_class"]) == ["agent", "reader", "agent"]


def test_columns_of_other_things_are_left_alone(write):
    text = "arrival,prompt_tokens,output_tokens,total_tokens,arrivals,model\n0,1,2,3,4,x\n"
    assert rows(read_trace(write(text))) == [(0.0, 1, 2)]


def test_dates_and_numbered_tenants_in_a_plain_csv(write):
    text = (
        "arrival,prompt,output,tenant,priority\n"
        "2024-01-01T00:00:00Z,1,1,13,\n"
        "2024-01-01T00:00:02Z,1,1,2,\n"
    )
    trace = read_trace(write(text))
    assert (trace.report.time_unit, trace.report.duration) == ("datetime", 2.0)
    assert list(trace.table["tenant"]) == [13, 2]
    assert "priority" not in trace.table


def test_large_tenants_are_numbered_in_order_of_appearance(write):
    text = "prompt,output,tenant\n1,1,2000000000\n1,1,7\n1,1,2000000000\n"
    assert list(read_trace(write(text)).table["tenant"]) == [0, 1, 0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,abc,5", r"line 3 has prompt 'abc', must be a whole number of tokens"),
        ("1,10,-5", r"line 3 has output .*-5, must be a whole number"),
        ("1,10,2.5", r"line 3 has output 2.5, must be a whole number"),
        ("1,10", r"line 3 has output nan, must be a whole number"),
        ("x,10,5", r"line 3 has arrival 'x', must be a number"),
        ("1,10,5,6", r"line 3, saw 4"),
        ("1,99999999999,5", r"line 3 has prompt"),
    ],
)
def test_a_broken_row_is_named_by_its_line(write, row, message):
    with pytest.raises(TraceError, match=message):
        read_trace(write(f"arrival,prompt,output\n0,10,5\n{row}\n2,20,6\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AZURE.replace("18:15:47", "25:15:47"), r"line 4 has arrival .*ISO date"),
        (mooncake(0) + "\n{oops}", r"line 2 is no valid JSON"),
        (mooncake(0) + '\n{"input_length": 4}', r"line 2 lacks input_length or output_length"),
        (mooncake(0) + "\n" + mooncake(1, input_length=[3]), r"line 2 has prompt \[3\]"),
        (mooncake(0) + "\n" + mooncake("later"), r"line 2 has arrival 'later'"),
        ('[{"conversations": []}, {"x": 1}]', r"item 2 has no list of conversations"),
        ("prompt,output,priority\n1,1,high\n", r"line 2 has priority 'high', must be a whole"),
        ("prompt,output,priority\n1,1,0\n1,1,4000000000\n", r"line 3 has priority 4000000000"),
        ("prompt,output,prompt\n1,1,2\n", r"has 2 columns 'prompt': keep one"),
        ("prompt,output\nTrue,1\n", r"line 2 has prompt True, must be a whole number"),
        ("[" * 100_000, r"line 1 is no valid JSON"),
        ("arrival,prompt,output\n0,1,1\n1e300,1,1\n", r"line 3 has arrival 1e\+300, must be"),
        ("prompt,output,user_class\n1,1,a\n1,1,\n", r"user_class is blank"),
        ("prompt,output\n1,0\n0,1\n", r"nothing is left of 2 rows \(1 without prompt, 1 without"),
        ("prompt,output\n", r"nothing is left of 0 rows \(it has no rows\)"),
        ("", r"is empty"),
        ("[]", r"empty list"),
        ("[1, 2]", r"no known trace format \(its first object has int\)"),
        ('{"a": 1}', r"no known trace format \(its first object has \['a'\]\)"),
        ("hello\nworld\n", r"no known trace format .*hello(.|\n)*mooncake: Mooncake JSON lines"),
        ("prompt,output\n1,1,1\n", r"Length of header"),
        ("arival,prompt,output\n0,1,1\n", r"column 'arival' is unknown; did you mean 'arrival'\?"),
        ("prompt,output,session\n1,1,a\n", r"'session' is unknown; did you mean 'session_id'\?"),
        ("arrival,prompt,ouput\n0,1,1\n", r"column 'ouput' is unknown; did you mean 'output'\?"),
        (AZURE.replace("Context", "Contxt"), r"'contxttokens' is .* did you mean 'contexttokens'"),
    ],
)
def test_a_wrong_file_is_explained(write, text, message):
    with pytest.raises(TraceError, match=message):
        read_trace(write(text))


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (AZURE, "burstgpt", r"lacks request tokens of format 'burstgpt'"),
        (AZURE, "mooncake", r"is no JSON"),
        (AZURE, "azzure", r"no trace format 'azzure'; known: auto, azure, burstgpt"),
        ("[3]", "vllm", r"of equal length"),
        (mooncake(0), "azure", r"lacks contexttokens"),
    ],
)
def test_a_named_format_must_fit_the_file(write, text, kind, message):
    with pytest.raises(TraceError, match=message):
        read_trace(write(text), kind)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xff\xfe\x00\x01" * 10)
    with pytest.raises(TraceError, match=r"cannot be read as text"):
        read_trace(path)
    path.write_bytes(gzip.compress(AZURE.encode())[:-12])
    with pytest.raises(TraceError, match=r"cannot be read as text"):
        read_trace(path)
    with pytest.raises(TraceError, match=r"no trace file"):
        read_trace(tmp_path / "absent.csv")


def test_every_format_is_listed_with_how_to_recognise_it():
    assert {"azure", "burstgpt", "mooncake", "bailian", "vllm", "vidur", "sharegpt"} <= set(
        formats()
    )


@pytest.mark.parametrize(
    ("name", "kind", "count", "seconds"),
    [
        ("AzureLLMInferenceTrace_conv.csv", "azure", 11619, 1993.68),
        ("AzureLLMInferenceTrace_code.csv", "azure", 5291, 1698.90),
        ("mooncake_conversation_trace.jsonl", "mooncake", 6015, 1881.0),
        ("vtc_real_trace.csv", "csv", 1500, 600.0),
        ("sharegpt_V3_format_lens.csv", "vidur", 58000, float("nan")),
        (
            "arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
            "vidur",
            28257,
            float("nan"),
        ),
    ],
)
def test_real_files_are_read_whole(shared_data, name, kind, count, seconds):
    report = read_trace(shared_data / "traces" / name).report
    assert (report.format, report.rows, report.kept) == (kind, count, count)
    assert report.duration == pytest.approx(seconds, abs=0.01, nan_ok=True)


def test_an_unknown_unit_of_time_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("arrival,prompt,output\n0,10,5\n")
    with pytest.raises(TraceError, match="time_unit must be one of auto, s, ms, us, ns, datetime"):
        read_trace(path, time_unit="msec")
