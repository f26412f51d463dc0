"""The only module that imports numba: one decorator, so that every kernel is compiled alike.

`error_model="numpy"` because a kernel never raises; `cache=True` because compiling everything takes
tens of seconds and loading it a fraction of one; `nogil=True` so that threads can share a machine.
Numba does not see edits in an imported file, so the cache directory is named by a digest of the
sources (`cache_directory`).
"""

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNUSED = 30 * 86400  # seconds after which compiled kernels of other versions are thrown away


def cache_directory() -> Path:
    """Directory for compiled kernels: one per content of the package and numba settings."""
    package = Path(__file__).parent
    digest = hashlib.sha256(sys.version.encode())
    for source in sorted(package.rglob("*.py")):
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

import numba  # noqa: E402  (the cache directory must be set first)

from sgym._reference import References, by_reference  # noqa: E402, F401


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` with the options that all of sgym shares.

    `_nrt=False` compiles without numba's memory management: a kernel that allocates does not
    compile, and arrays are passed without atomic reference counts (measured: 8 times faster).
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
    return numba.njit(cache=True, **options)(function)


def python_version(function: Callable[..., Any]) -> Callable[..., Any]:
    """The uncompiled function behind a kernel (kernels that it calls stay compiled)."""
    return getattr(function, "py_func", function)
