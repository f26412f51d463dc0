"""What is said about a scenario before it runs."""

import sgym
from sgym.preflight import alike, notes, unserved


def small(**overrides):
    scenario = {
        "engine": {"num_gpu_blocks": 11, "max_model_len": 128},
        "latency": {"linear": {"iteration": 0.01}},
        "workload": {"rate": 4.0, "lengths": [{"prompt": 16, "output": 2}]},
        "episode": {"duration": 10.0},
    }
    return sgym.load_scenario(scenario, overrides)


def traced(folder, *rows, **overrides):
    trace = folder / "trace.csv"
    lines = [f"{number},{prompt},{output}" for number, (prompt, output) in enumerate(rows)]
    trace.write_text("\n".join(["arrival,prompt,output", *lines]) + "\n")
    return small(**{"workload.trace": str(trace)} | overrides)


def test_nothing_is_said_of_a_scenario_that_can_serve_everything():
    assert str(unserved(small())) == ""
    assert notes(small(), ["vllm", "spf"]) == []


def test_requests_larger_than_the_memory_are_counted_over_the_whole_trace(tmp_path):
    # 10 usable blocks of 16 tokens hold 160; the context allows prompts of at most 127 tokens.
    scenario = traced(tmp_path, (100, 10), (127, 1), (128, 1), (200, 5), (200, 5))
    found = unserved(scenario)
    assert (found.requests, found.refused, found.example) == (5, 3, (200, 5))
    (note,) = notes(scenario)
    assert note == str(found)
    assert note.startswith("3 of 5 requests (60 %) can never be served and will be refused")
    assert note.endswith("such as one of 200 prompt and 5 output tokens")


def test_seeds_that_serve_the_same_requests_are_told_of(tmp_path):
    assert alike(small()) == []
    (same,) = alike(small(**{"workload.arrivals": {"process": "constant"}}))
    assert same.startswith("all seeds serve the same requests, so intervals over seeds mean nothi")
    assert same.endswith("nothing in the workload is random")
    (short,) = alike(traced(tmp_path, *[(16, 2)] * 5, **{"workload.rate": None}))
    assert "no longer than the episode" in short
    assert alike(traced(tmp_path, *[(16, 2)] * 50, **{"workload.rate": None})) == []


def test_outputs_that_the_context_ends_are_counted(tmp_path):
    found = unserved(traced(tmp_path, (100, 10), (100, 29), (100, 28)))
    assert (found.refused, found.cut) == (0, 1)


def test_the_cut_of_outputs_comes_before_the_count(tmp_path):
    rows = [(100, 10), (100, 29)]
    assert unserved(traced(tmp_path, *rows, **{"workload.max_output": 20})).cut == 0


def test_a_note_names_the_policies_that_it_is_about():
    # Orca reserves 128 tokens = 8 blocks for each request; with 6 usable ones it can serve none.
    scenario = small(**{"engine.num_gpu_blocks": 7})
    (note,) = notes(scenario, ["vllm", "orca"])
    assert note.startswith("under orca: ")
    assert "(1e+02 %)" not in note
    assert "(100 %) can never be served" in note


def test_leaving_the_measured_range_is_noted():
    scenario = sgym.load_scenario(
        {"workload": {"rate": 1.0}, "engine": {"max_num_batched_tokens": 1 << 18}}
    )
    (note,) = notes(scenario)
    assert "engine.max_num_batched_tokens is 262144, measured up to" in note


def test_what_holds_for_several_pools_is_said_once():
    for names in (["distserve"], ["distserve", "splitwise"]):
        found = notes(sgym.load_scenario("llama8b-a100-2p2d"), names)
        assert len(found) == len(set(found))
        assert not any("distserve, distserve" in sentence for sentence in found)
