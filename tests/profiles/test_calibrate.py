"""From measured tables to a profile: small tables with known answers, and the public ones."""

import numpy as np
import pandas as pd
import pytest

from sgym.errors import ProfileError
from sgym.profiles import GpuSpec, ModelSpec, load
from sgym.profiles.calibrate import Source, calibrate
from sgym.profiles.gemm import GemmTable, cleaned

TOY = ModelSpec(
    name="Toy", layers=2, hidden=128, heads=4, kv_heads=2, head_dim=16, ffn=256, vocab=1024
)
CARD = GpuSpec(name="Card", memory=10**9, bandwidth=1e12)
TOKENS = [1, 8, 64, 512, 4096]


def gemm_ms(m, n, k):
    """4 us, 1 us per 10^4 weights, and 1 us per 10^6 products."""
    return 0.004 + n * k * 1e-7 + m * n * k * 1e-9


def write(folder, suffix=".csv", **changes):
    """Tables of a made-up GPU, in files with this suffix."""
    shapes = [(n, k) for n in (64, 128, 256, 512, 1024) for k in (64, 128, 256)]
    frames = {
        "gemm_perf": [
            {"m": m, "n": n, "k": k, "latency": gemm_ms(m, n, k)} for n, k in shapes for m in TOKENS
        ],
        "context_attention_perf": [
            layout(heads) | {"batch_size": 1, "isl": c, "latency": 0.01 + c * c * 1e-9}
            for c in (1, 128, 256, 1024, 4096)
            for heads in ((4, 2), (2, 1))
        ],
        "generation_attention_perf": [
            layout(heads) | {"batch_size": b, "step": c - 1, "latency": 0.01 + b * c * 1e-6}
            for b in (1, 8, 64)
            for c in (1, 1024, 4096, 16384)
            for heads in ((4, 2), (2, 1))
            if b * c <= 65536
        ],
    } | changes
    folder.mkdir(exist_ok=True)
    for name, rows in frames.items():
        frame = pd.DataFrame(rows)
        if suffix == ".csv":
            frame.to_csv(folder / f"{name}.csv", index=False)
        else:
            frame.to_parquet(folder / f"{name}.parquet")
    return folder


def layout(heads):
    return {"num_heads": heads[0], "num_key_value_heads": heads[1], "head_dim": 16}


def at(curve, point):
    return dict(zip(curve.at, curve.seconds, strict=True))[point]


def test_csv_and_parquet_tables_give_the_same_profile(tmp_path):
    from_csv = calibrate(write(tmp_path / "a"), TOY, CARD, source=Source("me"))
    from_parquet = calibrate(write(tmp_path / "b", ".parquet"), TOY, CARD, source=Source("me"))
    assert from_csv == from_parquet
    assert load(from_csv.save(tmp_path)).tokens.at == (1.0, 8.0, 64.0, 512.0, 4096.0)


def test_an_iteration_is_the_sum_of_its_operations(tmp_path):
    profile = calibrate(write(tmp_path / "t"), TOY, CARD)
    gemms = sum(gemm_ms(64, n, k) for n, k in ((128, 128), (128, 64), (512, 128), (128, 256)))
    moved = 64 * 2 * (2 * 4 * 128 + (3 * 2 + 4) * 2 * 16 + 3 * 256)
    small = 5 * 2e-6 + moved / 1e12
    assert at(profile.tokens, 64.0) == pytest.approx(2 * (gemms * 1e-3 + small))
    head = gemm_ms(64, 1024, 128) * 1e-3
    assert at(profile.seqs, 64.0) == pytest.approx(head + 25e-6 + 63 * 1024 * 8 / 1e12)
    assert profile.attention_base == pytest.approx(2 * (0.01e-3 + 1e-9), rel=1e-3)
    assert profile.decode.seconds[1][1] == pytest.approx(2 * 8 * 1024 * 1e-9, rel=0.01)


def test_chunks_after_a_prefix_follow_from_whole_prompts(tmp_path):
    prefill = calibrate(write(tmp_path / "t"), TOY, CARD).prefill
    row, column = prefill.rows.index(1024.0), prefill.columns.index(4096.0)
    whole = (5120**2 - 4096**2) * 1e-12
    assert prefill.seconds[row][column] == pytest.approx(2 * whole, rel=0.01)


def test_measured_chunks_after_prefixes_are_taken_as_they_are(tmp_path):
    rows = [
        layout((4, 2))
        | {"batch_size": 1, "isl": c, "step": p, "latency": 0.01 + c * 1e-4 + p * 1e-5}
        for c in (16, 64)
        for p in (0, 500)
    ]
    profile = calibrate(write(tmp_path / "t", context_attention_perf=rows), TOY, CARD)
    assert profile.prefill.columns == (0.0, 500.0)
    assert profile.prefill.seconds[1][1] == pytest.approx(
        2 * (0.0164e-3 + 0.005e-3 - 0.01e-3), rel=0.1
    )
    with pytest.raises(ProfileError, match="two chunk lengths"):
        calibrate(write(tmp_path / "u", context_attention_perf=rows[1:]), TOY, CARD)


def test_a_chunk_beyond_the_measured_ones_takes_no_less_after_a_prefix(tmp_path):
    times = {(512, 0): 1.0, (512, 128): 2.0, (1024, 0): 3.0, (1024, 128): 3.5}  # slopes 2 and 1.5
    rows = [
        layout((4, 2)) | {"batch_size": 1, "isl": c, "step": p, "latency": time}
        for (c, p), time in times.items()
    ]
    profile = calibrate(write(tmp_path / "t", context_attention_perf=rows), TOY, CARD)
    assert np.diff(profile.prefill.seconds, axis=0)[0] == pytest.approx([4e-3, 4e-3])  # two layers


def test_decode_beyond_the_measured_total_costs_the_stream_of_kv(tmp_path):
    decode = calibrate(write(tmp_path / "t"), TOY, CARD).decode
    row, column = decode.rows.index(64.0), decode.columns.index(16384.0)
    assert decode.seconds[row][column] == pytest.approx(2 * 64 * 16384 * 1e-9, rel=0.02)


def test_decode_is_never_faster_than_memory_because_of_a_warm_cache(tmp_path):
    def warm(b, c):
        return 0.01 + b * c * (1e-7 if b * c <= 8192 else 1e-6)

    rows = [
        layout((4, 2)) | {"batch_size": b, "step": c - 1, "latency": warm(b, c)}
        for b in (1, 8, 64)
        for c in (1, 1024, 16384)
    ]
    decode = calibrate(write(tmp_path / "t", generation_attention_perf=rows), TOY, CARD).decode
    assert decode.seconds[1][1] == pytest.approx(2 * 8192 * 1e-9, rel=0.1)


def test_measured_small_kernels_and_host_time_replace_the_estimates(tmp_path):
    small = [{"m": m, "hidden": 128, "ffn": 256, "latency": 0.5} for m in (1, 4096)]
    folder = write(tmp_path / "t", elementwise_perf=small, overhead_perf=[{"latency": 0.7}])
    profile = calibrate(folder, TOY, CARD)
    plain = calibrate(write(tmp_path / "u"), TOY, CARD)
    assert at(profile.tokens, 1.0) - at(plain.tokens, 1.0) == pytest.approx(2 * 0.49e-3, rel=0.01)
    assert profile.overhead == pytest.approx(0.7e-3)
    assert calibrate(folder, TOY, CARD, overhead=2e-3).overhead == 2e-3
    assert not any("norms" in note for note in profile.provenance.derived)


def test_tensor_parallelism_splits_the_model_and_adds_two_all_reduces(tmp_path):
    rows = [
        {"num_gpus": 2, "message_size": size, "latency": 0.1 + size * 1e-6, "backend": backend}
        for size in (128, 8192)
        for backend in ("vllm_graph", "vllm_eager")
    ]
    folder = write(tmp_path / "t", custom_allreduce_perf=rows)
    profile = calibrate(folder, TOY, CARD, tp=2)
    gemms = sum(gemm_ms(512, n, k) for n, k in ((64, 128), (128, 64), (256, 128), (128, 128)))
    moved = 512 * 2 * (2 * 4 * 128 + 5 * 2 * 16 + 3 * 128)
    reduce = 2 * (0.1e-3 + 512 * 128 * 1e-9)
    assert at(profile.tokens, 512.0) == pytest.approx(
        2 * (gemms * 1e-3 + 5 * 2e-6 + moved / 1e12 + reduce), rel=0.01
    )
    with pytest.raises(ProfileError, match="no all-reduce over 2 GPUs"):
        calibrate(write(tmp_path / "u"), TOY, CARD, tp=2)
    with pytest.raises(ProfileError, match="cannot be split over tp = 3"):
        calibrate(folder, TOY, CARD, tp=3)
    nccl = calibrate(write(tmp_path / "n", nccl_perf=rows), TOY, CARD, tp=2)
    assert any("NCCL" in note for note in nccl.provenance.derived)


def test_shapes_between_the_measured_ones_are_interpolated():
    shapes = [(n, k) for n in (100, 400) for k in (10, 50)]
    table = GemmTable(
        pd.DataFrame([{"m": 8, "n": n, "k": k, "latency": 1 + n * k} for n, k in shapes])
    )
    assert table.curve(200, 30) == pytest.approx([6.001])
    assert table.curve(800, 50) == pytest.approx([2 * 20.001]), "beyond the grid in proportion"
    assert table.curve(50, 10) == pytest.approx([1.001]), "not below the smallest"
    assert table.measured(400, 10)
    assert not table.measured(200, 10)


def test_a_spike_goes_a_step_stays_and_noise_comes_down():
    tokens = np.array([1.0, 2, 4, 8, 16, 24, 32])
    raw = np.array([1.0, 9.0, 1.0, 2.0, 2.2, 2.0, np.nan])
    points, seconds, dropped = cleaned(tokens, raw)
    assert points.tolist() == [1, 4, 8, 16, 24]
    assert seconds.tolist() == [1.0, 1.0, 2.0, 2.0, 2.0]
    assert dropped == 1
    with pytest.raises(ProfileError, match="at least two measured points"):
        cleaned(tokens[:1], raw[:1])


def test_batches_that_cuda_graphs_never_run_are_not_used():
    rows = [{"m": m, "n": 8, "k": 8, "latency": 1.0} for m in (1, 3, 8, 17, 24, 513)]
    assert GemmTable(pd.DataFrame(rows)).tokens.tolist() == [1, 8, 24, 513]


def test_repeated_rows_count_as_their_median(tmp_path):
    folder = write(tmp_path / "t")
    table = pd.read_csv(folder / "gemm_perf.csv")
    slow = table.assign(latency=table["latency"] * 100)
    pd.concat([table, table, slow]).to_csv(folder / "gemm_perf.csv", index=False)
    assert calibrate(folder, TOY, CARD).tokens == calibrate(write(tmp_path / "u"), TOY, CARD).tokens


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "gemm_perf.csv").unlink(), "lacks gemm_perf"),
        (lambda f: (f / "gemm_perf.csv").write_text("m,n\n1,2\n"), r"lacks the columns \['k'"),
        (lambda f: (f / "gemm_perf.csv").write_text("m,n,k,latency\n1,2,3,-1\n"), "1 of 1"),
        (lambda f: (f / "gemm_perf.parquet").write_bytes(b"no"), "holds 2 files gemm_perf"),
        (lambda f: (f / "gemm_perf.csv").rename(f / "gemm_perf.parquet"), "cannot read"),
    ],
)
def test_missing_and_damaged_tables_are_refused(tmp_path, damage, message):
    folder = write(tmp_path / "t")
    damage(folder)
    with pytest.raises(ProfileError, match=message):
        calibrate(folder, TOY, CARD)


def test_what_was_not_measured_for_a_model_is_named(tmp_path):
    folder = write(tmp_path / "t")
    with pytest.raises(ProfileError, match="32 query heads, 8 KV heads of 128 was not measured"):
        calibrate(folder, "Llama-3.1-8B", CARD)
    with pytest.raises(ProfileError, match=r"model 'GPT' is unknown; known: Llama-3\.1-8B"):
        calibrate(folder, "GPT", CARD)
    with pytest.raises(ProfileError, match="is no folder"):
        calibrate(tmp_path / "nothing", TOY, CARD)
    with pytest.raises(ProfileError, match=r"cannot tell the GPU from .*gpu\.json"):
        calibrate(folder, TOY)


@pytest.mark.parametrize("name", ["context_attention_perf", "generation_attention_perf"])
def test_too_few_attention_points_are_refused(tmp_path, name):
    row = layout((4, 2)) | {"batch_size": 1, "isl": 1, "step": 0, "latency": 1.0}
    with pytest.raises(ProfileError, match="attention needs at least"):
        calibrate(write(tmp_path / "t", **{name: [row]}), TOY, CARD)


def test_few_large_decode_points_give_the_stream_as_a_ratio(tmp_path):
    rows = [
        layout((4, 2)) | {"batch_size": b, "step": c - 1, "latency": 1e-6 * b * c + 1e-4}
        for b in (1, 2)
        for c in (1000, 1100)
    ]
    profile = calibrate(write(tmp_path / "t", generation_attention_perf=rows), TOY, CARD)
    assert profile.decode.seconds[1][1] > profile.decode.seconds[0][1] > 0


def test_the_layerwise_layout_is_read(tmp_path):
    names = ("qkv_proj", "layernorm", "embedding")
    pd.DataFrame(
        [{"layer": name, "tokens": m, "time_us": 10 + m} for name in names for m in range(1, 301)]
    ).to_csv(tmp_path / "dense.csv", index=False)
    pd.DataFrame(
        [
            {"layer": name, "sequences": s, "time_us": s}
            for name in ("lm_head", "sampler")
            for s in (1, 9)
        ]
    ).to_csv(tmp_path / "per_sequence.csv", index=False)
    rows = [(c, p, 0, 0, 5 + c + p) for c in (16, 32) for p in (0, 64)]
    rows += [(0, 0, b, c, 5 + b * c / 100) for b in (1, 8) for c in (16, 512)]
    columns = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "attention.csv", index=False)
    profile = calibrate(tmp_path, TOY, CARD)
    assert len(profile.tokens.at) == 128
    assert at(profile.tokens, 10.0) == pytest.approx((2 * 3 * 20 + 20) * 1e-6)
    assert profile.seqs.seconds == pytest.approx((2e-6, 18e-6))
    assert profile.prefill.columns == (0.0, 64.0)
    (tmp_path / "dense.csv").write_text("layer,time_us\na,1\n")
    with pytest.raises(ProfileError, match=r"cannot read .*dense.csv"):
        calibrate(tmp_path, TOY, CARD)


def test_the_shipped_profile_is_what_calibrate_makes_of_the_public_tables(shared_data, tmp_path):
    tables = shared_data / "profiles" / "aiconfigurator" / "a100_sxm"
    again = load(calibrate(tables, "Llama-3.1-8B", "A100-80GB").save(tmp_path))
    shipped = load("llama-3.1-8b_a100-80gb_tp1")
    assert again.tokens == shipped.tokens
    assert again.seqs == shipped.seqs
    assert again.prefill == shipped.prefill
    assert again.decode == shipped.decode
