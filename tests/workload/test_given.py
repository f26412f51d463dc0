"""Requests that come as a table."""

import numpy as np
import pandas as pd
import pytest

from sgym.core.layout import ARRIVAL
from sgym.errors import TraceError
from sgym.workload import from_table

ROW = {"arrival": 0.0, "prompt": 10, "output": 5}


def test_a_list_of_dicts_is_sorted_stably_and_filled_with_defaults():
    table = [ROW | {"arrival": 2.0}, ROW | {"prompt": 11}, ROW | {"prompt": 12}]
    requests = from_table(table).arrivals
    assert requests.dtype == ARRIVAL
    assert list(requests["arrival"]) == [0.0, 0.0, 2.0]
    assert list(requests["prompt"]) == [11, 12, 10]
    assert np.isnan(requests["predicted"]).all()
    assert requests[["priority", "tenant", "user_class"]].tolist()[0] == (0, 0, 0)


def test_a_frame_with_every_column_is_taken_as_it_is():
    row = ROW | {"predicted": 4.5, "priority": -1, "tenant": 3, "user_class": 2, "note": "x"}
    requests = from_table(pd.DataFrame([row, row | {"predicted": None}])).arrivals
    assert requests[0].item() == (0.0, 10, 5, 4.5, -1, 3, 2, 0, 0)
    assert np.isnan(requests[1]["predicted"])
    assert from_table(requests).arrivals.tobytes() == requests.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"arrival": -1.0},
            r"row 1 of the table of requests has arrival .*-1.0.*, must be seconds",
        ),
        ({"arrival": float("nan")}, r"row 1 .* arrival"),
        ({"arrival": float("inf")}, r"row 1 .* arrival"),
        ({"prompt": 0}, r"has prompt .*0.*, must be a whole number from 1 to 2147483647"),
        ({"output": 0}, r"has output"),
        ({"output": 2.5}, r"has output .*2.5"),
        ({"prompt": "many"}, r"has prompt 'many'"),
        ({"prompt": 2**31}, r"has prompt"),
        ({"tenant": -1}, r"has tenant"),
        ({"tenant": 2**20}, r"has tenant .*1048576.*, must be a whole number from 0 to 1048575"),
        ({"user_class": -1}, r"has user_class"),
        ({"priority": 0.5}, r"has priority"),
        ({"predicted": 0.0}, r"has predicted .*0.0.*, must be at least 1 token"),
        ({"predicted": "x"}, r"has predicted"),
    ],
)
def test_a_bad_value_is_named_by_row_and_rule(change, message):
    row = ROW | {"predicted": 4.0, "priority": 0, "tenant": 0, "user_class": 0}
    with pytest.raises(TraceError, match=message):
        from_table([row, row | change])


def test_a_missing_column_is_named():
    with pytest.raises(
        TraceError, match=r"lacks output; it has arrival, prompt, known are arrival"
    ):
        from_table([{"arrival": 0.0, "prompt": 1}])
    with pytest.raises(TraceError, match=r"lacks arrival, prompt, output; it has no columns"):
        from_table([])
    with pytest.raises(TraceError, match=r"must be a DataFrame, .* list of dicts, got str 'mine'"):
        from_table("mine")
