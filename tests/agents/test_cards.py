"""What the zoo's bundles say of themselves is what the table says."""

import shutil

import numpy as np
import pytest

from agents.cards import card_of, main, rows_of
from agents.entry import ZOO, load_entry
from sgym.export import read_manifest

NAMES = sorted(path.parent.name for path in ZOO.glob("*/bundle.json"))


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_what_the_table_says(name):
    rows = [row for row in rows_of(ZOO) if row["entry"] == name]
    expected = card_of(*load_entry(ZOO / name), rows)
    assert read_manifest(ZOO / name).card == expected
    assert (ZOO / name / "card.md").read_text("utf-8") == expected + "\n"
    assert f"{float(rows[0]['learned']):.0f}, {rows[0]['best_heuristic']} " in expected


def test_a_card_tells_of_long_windows_where_they_were_measured():
    told = {name for name in NAMES if ", 1800 s, " in read_manifest(ZOO / name).card}
    assert told == {name for name in NAMES if load_entry(ZOO / name)[1].long is not None}
    assert len(told) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_beside_a_bundle_are_its_parameters(name):
    with np.load(ZOO / name / "policy.npz") as weights:
        numbers = np.concatenate([weights[key].ravel() for key in weights.files])
    assert numbers.tolist() == read_manifest(ZOO / name).provenance["parameters"]


def test_writing_the_cards_again_changes_nothing(tmp_path, capsys):
    zoo = tmp_path / "zoo"
    shutil.copytree(ZOO / "azure_14b", zoo / "azure_14b")
    for table in ("table.csv", "table_long.csv"):
        shutil.copy(ZOO / table, zoo)
    main(zoo)
    assert capsys.readouterr().out == "azure_14b\n"
    for path in (zoo / "azure_14b").iterdir():
        assert path.read_bytes() == (ZOO / "azure_14b" / path.name).read_bytes()
