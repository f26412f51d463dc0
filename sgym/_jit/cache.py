# pyright: reportAttributeAccessIssue=false
"""Where compiled kernels are kept: numba does not see edits in an imported file, a digest does."""

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from numba import config

WITHOUT_KERNELS = ("cli", "comparison", "export", "metrics", "profiles", "viz")
"""Folders of the package that hold no kernels, and nothing that these import."""
UNUSED = 30 * 86400  # seconds after which compiled kernels of other versions are thrown away


def cache_directory() -> Path:
    """Directory for compiled kernels: one per content of their sources and numba settings."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(sys.version.encode())
    for source in sorted(package.rglob("*.py")):
        if source.relative_to(package).parts[0] not in WITHOUT_KERNELS:
            digest.update(source.read_bytes())
    for name in sorted(os.environ):
        if name.startswith("NUMBA_") and name != "NUMBA_CACHE_DIR":
            digest.update(f"{name}={os.environ[name]}".encode())
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    for root in (Path(base), Path(tempfile.gettempdir())):
        folder = root / "sgym" / "kernels" / digest.hexdigest()[:16]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            os.utime(folder)
            forget_unused(folder.parent)
            return folder
    return package / "__pycache__"


def forget_unused(parent: Path) -> None:
    """Remove the folders in `parent` that no process has used for a month."""
    for folder in parent.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > UNUSED:
                shutil.rmtree(folder)


os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_directory()))
config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]  # who imported numba first has read the old one
