"""The only package that imports numba: kernels, and what they take as arguments."""

# `cache` stands first: it says where numba keeps what it compiles.
from sgym._jit.cache import cache_directory
from sgym._jit.compile import kernel, python_version
from sgym._jit.fetch import LINE, fetch, fetch_at
from sgym._jit.references import (
    References,
    addresses,
    by_reference,
    copied,
    reader,
    table_size,
)
from sgym._jit.whole import clear, overwrite

__all__ = [
    "LINE",
    "References",
    "addresses",
    "by_reference",
    "cache_directory",
    "clear",
    "copied",
    "fetch",
    "fetch_at",
    "kernel",
    "overwrite",
    "python_version",
    "reader",
    "table_size",
]
