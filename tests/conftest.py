"""What several test files share."""

import os
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Draw without a screen, and compile once before several workers would do so at the same time.

    Workers that fill numba's cache together compile everything twice, and can overwrite what the
    other wrote. The import of sgym waits until here so that coverage sees it.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    if config.getoption("dist", "no") == "no" or hasattr(config, "workerinput"):
        return
    if config.option.collectonly or os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return
    from sgym.comparison.runs import warm_up

    warm_up(own_policy=True)


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
