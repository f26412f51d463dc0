"""KV capacity, against what real engines reported."""

import json

import pytest

from sgym.errors import ProfileError
from sgym.profiles import GPUS, MODELS, kv_blocks, memory

LLAMA, QWEN = MODELS["Llama-3.1-8B"], MODELS["Qwen2.5-14B"]


def test_parameters_and_kv_bytes_are_those_of_the_models():
    assert LLAMA.parameters == 8_030_261_248
    assert QWEN.parameters == pytest.approx(14.77e9, rel=0.001)
    assert MODELS["Qwen3-14B"].parameters == pytest.approx(14.77e9, rel=0.001)
    assert LLAMA.kv_bytes == 128 * 1024
    assert QWEN.kv_bytes == 192 * 1024


def test_an_rtx_4090_gets_the_blocks_that_the_real_engine_reported(shared_data):
    run = shared_data / "serving_runs" / "rtx4090_llama-3.1-8b_vllm0.19" / "meta.json"
    meta = json.loads(run.read_text())
    card = meta["hardware"]["device_total_memory_bytes"]
    assert card == GPUS["RTX4090"].memory
    assert kv_blocks(LLAMA, card) == meta["kv_cache"]["num_gpu_blocks"] == 2588


@pytest.mark.parametrize(
    ("spec", "gpu", "blocks"),
    [(LLAMA, "A100-80GB", 28_000), (QWEN, "A100-80GB", 14_500), (QWEN, "L40S", 3_800)],
)
def test_capacities_are_near_what_the_cards_hold(spec, gpu, blocks):
    assert kv_blocks(spec, GPUS[gpu].memory) == pytest.approx(blocks, rel=0.02)


def test_two_gpus_hold_more_than_twice_the_blocks_of_one():
    card = GPUS["H100"].memory
    assert kv_blocks(LLAMA, card, tp=2) > 2 * kv_blocks(LLAMA, card)


def test_larger_iterations_and_blocks_leave_fewer_blocks():
    card = GPUS["L40S"].memory
    assert kv_blocks(QWEN, card, max_num_batched_tokens=65_536) < kv_blocks(QWEN, card)
    assert kv_blocks(QWEN, card, max_num_seqs=1024) < kv_blocks(QWEN, card)
    assert kv_blocks(QWEN, card, block_size=32) == kv_blocks(QWEN, card) // 2
    assert memory.activation_bytes(LLAMA, max_num_batched_tokens=8192) == 8192 * 2 * (
        2 * 4096 + 3 * 14336
    )


def test_a_model_that_does_not_fit_is_refused_with_numbers():
    with pytest.raises(
        ProfileError, match=r"Qwen2.5-14B does not fit.*weights 29.5 GB.*cluster.tp"
    ):
        kv_blocks(QWEN, GPUS["RTX4090"].memory)
