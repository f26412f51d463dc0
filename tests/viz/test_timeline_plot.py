"""The figure of a run."""

import matplotlib.image
import numpy as np
import pytest
from cluster_logs import HANDED_OFF, Batch, Unruly, busy_run, log_of

from sgym.core.layout import Move, Role
from sgym.errors import SgymError
from sgym.viz import timeline_plot
from sgym.viz.timeline_plot import draw_timeline, timeline_figure


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_figure_is_a_png_with_a_row_per_instance(tmp_path):
    path = draw_timeline(busy_run(), tmp_path / "new" / "timeline.png")
    picture = matplotlib.image.imread(path)
    assert picture.shape == (990, 1650, 4)
    rows = picture[60:840, 400:1500, :3].reshape(4, 195, -1)
    assert (rows.std(axis=(1, 2)) > 0.05).all()  # something is drawn in each
    assert [file.name for file in path.parent.iterdir()] == ["timeline.png"]


@pytest.mark.parametrize("instances", [1, 2, 3, 8, 20])
def test_any_number_of_instances_fits(instances, tmp_path):
    log = log_of([Batch(index, 1.0, 2.0) for index in range(instances)], instances=instances)
    figure = timeline_figure(log, "a title")
    figure.savefig(tmp_path / "figure.png")
    assert figure.axes[0].get_ylim() == (-instances, 0)


def test_the_legend_names_what_is_drawn_and_nothing_else():
    moves = [
        (Move.MIGRATION, 3, 1, 0, 40, 1.0, 1.2),
        (Move.ROLE, Role.DECODE, 1, 1, 0, 6.0, 6.0),
    ]
    plain = labels(timeline_figure(log_of([Batch(0, 1.0, 2.0)]), "a title"))
    assert plain == [
        "batch of decodes",
        "half prefill tokens",
        "batch of prefill",
        "KV memory in use",
        "waiting requests",
    ]
    moving = labels(timeline_figure(log_of([], moves, instances=2), "a title"))
    assert set(moving) - set(plain) == {"KV leaving or loading", "migration", "new role"}


def test_a_run_in_which_everything_happens_can_be_drawn_as_a_vector_graphic(tmp_path):
    path = draw_timeline(busy_run(Unruly()), tmp_path / "figure.svg", 0.2, 1.2)
    assert path.read_text(encoding="utf-8").startswith("<?xml")


def test_an_arrow_leads_from_the_batches_of_the_source_to_those_of_the_target():
    axes = timeline_figure(HANDED_OFF, "a title").axes[0]
    (line,) = next(
        c for c in axes.collections if type(c).__name__ == "LineCollection"
    ).get_segments()
    (start, tail), (end, head) = line
    assert (start, end) == (2.0, 2.25)
    assert -1 < tail < 0
    assert -2 < head < -1


def test_of_very_many_hand_offs_some_are_drawn_and_the_legend_says_so(monkeypatch):
    monkeypatch.setattr("sgym.viz.timeline_moves.MOST_ARROWS", 4)
    moves = [(Move.HANDOFF, r, 0, 1, 16, r, r + 0.5) for r in range(9)]
    figure = timeline_figure(log_of([], moves, instances=2), "a title")
    assert "hand-off (1 of 3 drawn)" in labels(figure)
    lines = next(c for c in figure.axes[0].collections if type(c).__name__ == "LineCollection")
    assert len(lines.get_segments()) == 3


def test_very_many_batches_become_columns_as_high_as_the_time_in_use(monkeypatch):
    monkeypatch.setattr(timeline_plot, "SINGLE", 3)
    monkeypatch.setattr(timeline_plot, "BINS", 10)
    log = log_of([Batch(0, second, 0.5, prefill=8, decodes=0) for second in range(10)])
    figure = timeline_figure(log, "a title")
    assert "batch of prefill (height: time in use)" in labels(figure)
    bars = next(c for c in figure.axes[0].collections if type(c).__name__ == "PolyCollection")
    heights = [np.ptp(path.vertices[:, 1]) for path in bars.get_paths()]
    np.testing.assert_allclose(heights, 0.5 * (0.94 - 0.70))


def test_a_title_with_dollars_is_no_formula(tmp_path):
    timeline_figure(log_of([]), "costs $5 $").savefig(tmp_path / "figure.png")


def test_an_unknown_kind_of_figure_is_refused(tmp_path):
    with pytest.raises(SgymError, match=r"'figure.txt' must end in one of .png, .pdf, .svg"):
        draw_timeline(busy_run(), tmp_path / "figure.txt")
