"""Where the measured tables and runs lie; they do not come with the project."""

import os
from pathlib import Path


def shared_data() -> Path:
    """$SGYM_DATA, or ../shared/data beside the checkout."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SGYM_DATA", default))
    if not (folder / "profiles").is_dir():
        raise SystemExit(
            f"no measured data at {folder}. Set SGYM_DATA to a folder with profiles and "
            "serving_runs, as README.md describes"
        )
    return folder
