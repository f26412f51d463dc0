"""The figure of a comparison."""

import matplotlib.image
import pandas as pd
import pytest
from matplotlib.figure import Figure

from sgym.errors import SgymError
from sgym.viz.load_curve import _draw_line, _finish_panel, draw_load_curve, panels

POLICIES = [f"policy-{number}" for number in range(12)]


def table():
    rows = []
    for number, policy in enumerate(POLICIES):
        for rate in (4.0, 5.0, 6.0):
            row = {"policy": policy, "rate": rate}
            for name in ("smooth_goodput", "difference", "slo_attainment", "throughput_tok_s"):
                value = rate * (10 - number) * (100 if number == 11 else 1)
                row |= {name: value, f"{name}_low": value - 1, f"{name}_high": value + 1}
            rows.append(row)
    return pd.DataFrame(rows)


def test_the_figure_is_a_png_of_four_panels(tmp_path):
    path = draw_load_curve(table(), POLICIES, "a title", tmp_path / "new" / "figure.png")
    picture = matplotlib.image.imread(path)
    assert picture.shape == (1200, 1650, 4)
    for rows in (slice(0, 600), slice(600, 1200)):
        for columns in (slice(0, 825), slice(825, 1650)):
            assert picture[rows, columns, :3].std() > 0.05  # something is drawn
    assert [file.name for file in path.parent.iterdir()] == ["figure.png"]


def test_a_line_far_below_all_others_leaves_the_panel_and_the_axis_says_so():
    rows = table()
    for panel in panels("policy-0")[:2]:
        axes = Figure().subplots()
        for index, policy in enumerate(POLICIES):
            _draw_line(axes, rows[rows["policy"] == policy], panel.column, policy, index)
        _finish_panel(axes, panel, [4.0, 5.0, 6.0])
        low, high = axes.get_ylim()
        assert -80 < low < 0
        assert 61 < high < 70  # 60 and its interval, and no more than a margin
        assert axes.get_xlabel() == "requests per second; some lines go on, down to -601"


def test_a_figure_may_be_a_vector_graphic(tmp_path):
    path = draw_load_curve(table(), POLICIES, "a title", tmp_path / "figure.svg")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    assert "svg" in text


def test_an_unknown_kind_of_figure_is_refused(tmp_path):
    with pytest.raises(SgymError, match=r"'figure.txt' must end in one of .png, .pdf, .svg"):
        draw_load_curve(table(), POLICIES, "a title", tmp_path / "figure.txt")


def test_the_band_of_a_share_stays_between_0_and_1():
    shares = {"slo_attainment": [0.01, 0.99], "slo_attainment_low": [-0.1, 0.9]}
    rows = pd.DataFrame({"rate": [1.0, 2.0], **shares, "slo_attainment_high": [0.1, 1.2]})
    axes = Figure().subplots()
    _draw_line(axes, rows, "slo_attainment", "vllm", 0)
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.0, 1.0)
