"""Shipped profiles: what they contain, what they say of an iteration, and damaged files."""

import json
import warnings

import numpy as np
import pytest

from sgym import profiles
from sgym.config import Engine
from sgym.core import latency as core
from sgym.core.layout import CLUSTER, INSTANCE, LATENCY
from sgym.errors import ProfileError, ScenarioError
from sgym.loading import load_scenario
from sgym.profiles.profile import Curve, Surface


def iteration(record, decodes=0, context=0, chunks=()):
    """Seconds of a batch of `decodes` sequences with `context` entries each, and prefill chunks."""
    instance = np.zeros(1, INSTANCE)[0]
    instance["prefill_tokens"] = sum(chunk for chunk, _ in chunks)
    instance["decode_seqs"] = decodes
    instance["decode_kv"] = decodes * context
    instance["num_sampled"] = decodes + len(chunks)
    row = record[0]
    attention = sum(core.prefill_attention(row, chunk, prefix) for chunk, prefix in chunks)
    return core.iteration_time(row, instance, attention, np.zeros(1, CLUSTER)[0])


def scenario(**overrides):
    return load_scenario({"workload": {"rate": 1.0}}, overrides)


def test_every_gpu_and_model_of_the_project_has_a_profile():
    have = profiles.names()
    for model in ("llama-3.1-8b", "qwen2.5-14b", "qwen3-14b"):
        for gpu in ("a100-80gb", "h100", "h200", "l40s"):
            assert f"{model}_{gpu}_tp1" in have
    assert "llama-3.1-8b_a100-80gb_tp2" in have
    assert "qwen2.5-14b_a100-80gb_tp2" not in have, "20 query heads were not measured on the A100"
    assert "llama-3.1-8b_rtx4090_tp1" in have


@pytest.mark.parametrize(
    ("name", "running", "measured_ms"),
    [
        ("llama-3.1-8b_a100-80gb_tp1", 8, 12.80),
        ("llama-3.1-8b_h100_tp1", 15, 7.90),
        ("llama-3.1-8b_h100_tp1", 46, 9.49),
        ("qwen3-14b_a100-80gb_tp1", 14, 22.8),
        ("llama-3.1-8b_l40s_tp1", 16, 26.46),
        ("qwen3-14b_l40s_tp1", 31, 49.83),
    ],
)
def test_a_decode_step_is_within_a_tenth_of_the_measured_time_between_tokens(
    name, running, measured_ms
):
    seconds = iteration(profiles.load(name).latency(), running, 547 + 124)
    assert seconds * 1e3 == pytest.approx(measured_ms, rel=0.10)


@pytest.mark.parametrize("name", profiles.names())
def test_more_context_and_longer_chunks_never_take_less_time(name):
    record = profiles.load(name).latency()
    contexts = [1, 100, 700, 3000, 20_000, 200_000, 2_000_000]
    batches = [1, 3, 20, 100, 400, 3000, 8000]
    by_context = [[iteration(record, size, context) for context in contexts] for size in batches]
    assert (np.diff(by_context, axis=1) >= 0).all()
    chunks = [1, 16, 100, 600, 3000, 30_000]
    prefixes = [0, 50, 1000, 50_000, 500_000]
    row = record[0]
    attention = [[core.prefill_attention(row, c, p) for p in prefixes] for c in chunks]
    assert (np.diff(attention, axis=0)[:, :-1] >= 0).all()  # files keep five digits
    assert (np.diff(attention, axis=1) >= 0).all()
    assert np.min(attention) >= 0


@pytest.mark.parametrize("name", profiles.names())
def test_beyond_the_grid_time_grows_in_proportion(name):
    record = profiles.load(name).latency()
    small, large = (iteration(record, 0, 0, [(tokens, 0)] * 10) for tokens in (8_000, 16_000))
    assert 1.8 < large / small < 2.6
    one, two = (iteration(record, 256, context) for context in (20_000, 40_000))
    assert 1.7 < two / one < 2.1


def test_tile_steps_stay_in_the_curve_of_the_a100():
    tokens = profiles.load("llama-3.1-8b_a100-80gb_tp1").tokens
    seconds = dict(zip(tokens.at, tokens.seconds, strict=True))
    assert seconds[256] / seconds[128] > 1.3
    assert seconds[64] / seconds[16] < 1.1


def test_the_record_has_the_fitted_overhead_unless_another_is_given():
    profile = profiles.load("llama-3.1-8b_h100_tp1")
    fitted, none = profile.latency(), profile.latency(overhead=0.0, noise=0.1)
    assert fitted.dtype == LATENCY
    assert fitted.shape == (1,)
    assert profile.overhead == pytest.approx(0.84e-3, abs=0.05e-3)
    assert fitted["base"][0] - none["base"][0] == pytest.approx(profile.overhead)
    assert none["noise"][0] == 0.1
    assert "8 requests/s" in profile.provenance.overhead_fit


def test_a_scenario_gets_its_profile_and_blocks_without_the_null_block():
    record, usable = profiles.for_scenario(scenario())
    assert record["num_tokens"][0] == 21
    assert usable == profiles.load("llama-3.1-8b_a100-80gb_tp1").blocks(Engine()) - 1
    assert profiles.for_scenario(scenario(**{"engine.num_gpu_blocks": 500}))[1] == 499


def test_a_named_profile_replaces_that_of_the_cluster():
    record, _ = profiles.for_scenario(scenario(**{"latency.profile": "Qwen3-14B_H100_tp1"}))
    assert record.tobytes() == profiles.load("qwen3-14b_h100_tp1").latency().tobytes()


def test_a_line_fills_the_linear_part_and_leaves_the_tables_empty():
    line = {"iteration": 0.01, "prefill_token": 2e-5, "decode_seq": 1e-4, "context_token": 1e-8}
    record, usable = profiles.for_scenario(scenario(**{"latency.linear": line}))
    row = record[0]
    assert row["base"] == 0.01
    assert row["per_prefill_token"] == 2e-5
    assert row["per_decode_seq"] == 1e-4
    assert row["per_kv_token"] == 1e-8
    assert row["num_tokens"] == row["num_seqs"] == row["num_chunks"] == row["num_batches"] == 0
    assert usable == profiles.for_scenario(scenario())[1]
    given = {"latency.linear": line, "cluster.gpu": "abacus", "engine.num_gpu_blocks": 100}
    assert profiles.for_scenario(scenario(**given))[1] == 99
    with pytest.raises(ProfileError, match="GPU 'abacus' is unknown; known: A100-80GB"):
        profiles.for_scenario(scenario(**{"latency.linear": line, "cluster.gpu": "abacus"}))


def test_an_engine_beyond_the_measured_grid_is_warned_of_once():
    beyond = {"engine.max_num_batched_tokens": 16384, "engine.max_model_len": 200_000}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            profiles.for_scenario(scenario(**beyond))
    assert len(caught) == 1
    assert issubclass(caught[0].category, profiles.ProfileWarning)
    text = str(caught[0].message)
    assert "engine.max_num_batched_tokens is 16384, measured up to 8192 tokens" in text
    assert "engine.max_model_len is 200000" in text


def test_default_limits_are_covered_by_every_profile():
    assert all(profiles.load(name).covers(Engine()) for name in profiles.names())


def test_an_unknown_gpu_lists_the_profiles_of_the_model():
    with pytest.raises(ProfileError) as caught:
        profiles.for_scenario(scenario(**{"cluster.gpu": "A100"}))
    message = str(caught.value)
    assert "no latency profile 'llama-3.1-8b_a100_tp1'" in message
    assert "of this model there are llama-3.1-8b_a100-80gb_tp1, llama-3.1-8b_a100-80gb" in message
    assert "qwen" not in message


def test_an_unknown_model_lists_the_models_and_suggests_none():
    with pytest.raises(ProfileError) as caught:
        profiles.load("Llama-3.1-70B_H100_tp2")
    message = str(caught.value)
    assert "the models measured are llama-3.1-8b, qwen2.5-14b, qwen3-14b. Measure" in message
    assert "h100" not in message


def test_a_saved_profile_is_read_back_the_same(tmp_path):
    profile = profiles.load("qwen2.5-14b_l40s_tp2")
    path = profile.save(tmp_path)
    assert path.name == "qwen2.5-14b_l40s_tp2.json"
    assert profiles.load(path) == profile
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(format=99), "has format 99, this sgym reads format 1"),
        (lambda data: data.pop("tokens"), "damaged at tokens"),
        (lambda data: data["tokens"]["seconds"].pop(), "21 points but 20 times"),
        (lambda data: data["tokens"]["at"].reverse(), "points must rise"),
        (lambda data: data["decode"]["seconds"].pop(), "must have 12 rows of"),
        (lambda data: data["seqs"]["seconds"].__setitem__(0, -1.0), "damaged at seqs.seconds.0"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, change, message):
    path = profiles.load("llama-3.1-8b_a100-80gb_tp1").save(tmp_path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(ProfileError, match=message) as error:
        profiles.load(path)
    assert path.name in str(error.value)
    assert "sgym calibrate" in str(error.value)


def test_a_cut_file_and_an_unreadable_one_are_refused(tmp_path):
    path = profiles.load("llama-3.1-8b_a100-80gb_tp1").save(tmp_path)
    path.write_text(path.read_text()[:500])
    with pytest.raises(ProfileError, match=r"llama-3.1-8b_a100-80gb_tp1.json is damaged"):
        profiles.load(path)
    path.write_text("[1, 2]")
    with pytest.raises(ProfileError, match="has format None"):
        profiles.load(path)
    with pytest.raises(ProfileError, match="cannot read profile"):
        profiles.profile.read(tmp_path)


def test_tables_that_fall_at_their_edge_are_refused():
    with pytest.raises(ValueError, match="last two times fall"):
        Curve(at=(1.0, 2.0), seconds=(2.0, 1.0))
    with pytest.raises(ValueError, match="times fall at the edge"):
        Surface(rows=(1.0, 2.0), columns=(1.0, 2.0), seconds=((1.0, 2.0), (2.0, 1.5)))


def test_an_unknown_key_of_the_latency_section_is_still_a_scenario_error():
    with pytest.raises(ScenarioError, match="latency"):
        scenario(**{"latency.profil": "x"})
