"""What several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of measured and recorded data that does not come with the project.

    It is $SGYM_DATA, or ../shared/data beside the checkout; tests that need it skip without it.
    """
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SGYM_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}; set SGYM_DATA to a folder that holds it")
    return folder
