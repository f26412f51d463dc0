"""Fitted lengths reproduce what they were fitted to."""

import json

import numpy as np
import pandas as pd
import pytest

from sgym.errors import ScenarioError, TraceError
from sgym.loading import load_scenario
from sgym.workload import datasets, fit, generate, load_dataset, read_trace, save_fit

NAMES = tuple(datasets())
CHECKED = np.array([5, 10, 25, 50, 75, 90, 95, 99])  # percentiles


def ranks(values):
    """Ranks from 1, equal values sharing one."""
    return pd.Series(values).rank().to_numpy()


def sample(dataset, count=100_000):
    """Many lengths, the same at every call."""
    normals = np.random.default_rng(7).standard_normal((count, 2))
    return dataset.sample(normals)


def test_at_least_13_public_datasets_are_shipped():
    assert len(NAMES) >= 13
    for name in ("azure-conv-2023", "azure-code-2023", "sharegpt", "mooncake-conversation"):
        assert datasets()[name].source
    assert datasets()["azure-conv-2023"].prompt_median == 1020.0
    assert datasets()["azure-conv-2023"].output_median == 129.0
    assert datasets()["azure-conv-2023"].n == 19366


@pytest.mark.parametrize("name", NAMES)
def test_sampled_quantiles_and_rank_correlation_match_the_table(name):
    dataset = datasets()[name]
    prompt, output = sample(dataset)
    for values, table in ((prompt, dataset.prompt), (output, dataset.output)):
        expected = np.interp(CHECKED / 100.0, dataset.levels, table)
        found = np.percentile(values, CHECKED)
        # lengths are whole tokens and the sample is finite: allow what half a percentile moves
        width = np.interp(CHECKED / 100.0 + 0.003, dataset.levels, table) - np.interp(
            CHECKED / 100.0 - 0.003, dataset.levels, table
        )
        assert (np.abs(found - expected) <= np.maximum(0.02 * expected, 0.5 + width)).all()
    found = np.corrcoef(ranks(prompt), ranks(output))[0, 1]
    assert found == pytest.approx(dataset.spearman, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_sampled_means_match_the_data(name):
    dataset = datasets()[name]
    prompt, output = sample(dataset)
    assert prompt.mean() == pytest.approx(dataset.prompt_mean, rel=0.03)
    assert output.mean() == pytest.approx(dataset.output_mean, rel=0.06)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("sharegpt", "sharegpt_V3_format_lens.csv"),
        ("sharegpt-history", "sharegpt_8k_filtered_stats_llama2_tokenizer.csv"),
        ("arxiv-summarization", "arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv"),
        ("lmsys-arena", "vtc_real_trace.csv"),
    ],
)
def test_shipped_tables_are_what_fit_makes_of_the_files(shared_data, name, file):
    entry = fit(read_trace(shared_data / "traces" / file).table)
    dataset = datasets()[name]
    assert entry["n"] == dataset.n
    assert entry["spearman"] == pytest.approx(dataset.spearman, abs=1e-3)
    np.testing.assert_allclose(entry["prompt"], dataset.prompt, atol=0.01)
    np.testing.assert_allclose(entry["output"], dataset.output, atol=0.01)


def test_a_fit_of_ones_own_table_is_a_dataset(tmp_path):
    table = pd.DataFrame({"prompt": np.arange(1, 1001), "output": np.arange(1000, 0, -1)})
    entry = fit(table, description="mirrored", source="made here")
    assert (entry["n"], entry["spearman"], entry["prompt_mean"]) == (1000, -1.0, 500.5)
    path = tmp_path / "mine.json"
    save_fit(path, entry)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.json"]
    config = load_scenario({"workload": {"rate": 50.0, "lengths": [{"dataset": str(path)}]}})
    requests = generate(config, 0).arrivals
    assert (np.abs(requests["prompt"] + requests["output"] - 1001) <= 1).all()
    assert load_dataset(str(path)).description == "mirrored"


def test_a_column_that_never_varies_has_no_correlation():
    entry = fit(pd.DataFrame({"prompt": [5, 5, 5], "output": [1, 2, 3]}))
    assert entry["spearman"] == 0.0
    with pytest.raises(TraceError, match="at least 2 requests, got 1"):
        fit(pd.DataFrame({"prompt": [5], "output": [1]}))


def test_an_unknown_dataset_suggests_the_nearest():
    with pytest.raises(ScenarioError, match=r"no dataset 'sharegtp'.*Did you mean 'sharegpt'\?"):
        load_dataset("sharegtp")
    with pytest.raises(ScenarioError, match=r"no dataset 'zzz'.*lmsys-arena"):
        load_dataset("zzz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": [3, 2, 1]}, "prompt must be 3 numbers that never fall"),
        ({"output": [1, 2]}, "output must be 3 numbers"),
        ({"spearman": 1.5}, "spearman must be between -1 and 1, got 1.5"),
        ({"n": None}, "TypeError"),
    ],
)
def test_a_damaged_fit_is_explained(tmp_path, change, message):
    entry = fit(pd.DataFrame({"prompt": [1, 2], "output": [1, 2]}))
    entry |= {"percentiles": [0, 50, 100], "prompt": [1, 2, 3], "output": [1, 2, 3]} | change
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(entry))
    with pytest.raises(ScenarioError, match=message):
        load_dataset(str(path))
    path.write_text("{")
    with pytest.raises(ScenarioError, match="is no fit of sgym"):
        load_dataset(str(path))
