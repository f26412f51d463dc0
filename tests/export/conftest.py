"""A bundle in an empty folder."""

import numpy as np
import pytest
from playing import make

from agents.onnx_files import constant_action
from sgym.export import describe, write_bundle


@pytest.fixture
def zeros(tmp_path):
    """The folder of an `index` policy that always does what its base does: first come."""
    about = describe(
        make("index", base="fcfs"),
        "zeros",
        scenario="tiny",
        provenance={"seed": 3, "commit": "abc"},
        card="# Does nothing.\nIt never will.",
    )
    return write_bundle(tmp_path / "zeros", constant_action(np.zeros(40)), about)
