# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""Writing whole arrays at once, with the bytes between the fields of their records."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array


def _bytes_of(context: Any, builder: Any, kind: Any, array: Any) -> tuple[Any, Any]:
    """Where the bytes of a C array are, and how many."""
    whole = make_array(kind)(context, builder, array)
    start = builder.bitcast(whole.data, ir.IntType(8).as_pointer())
    return start, builder.mul(whole.nitems, whole.itemsize)


@intrinsic
def _overwrite(typing: Any, to: Any, source: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        start, size = _bytes_of(context, builder, to, arguments[0])
        other, _ = _bytes_of(context, builder, source, arguments[1])
        cgutils.raw_memcpy(builder, start, other, size, 1)
        return context.get_dummy_value()

    return numba.types.void(to, source), generate


@intrinsic
def _clear(typing: Any, array: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        start, size = _bytes_of(context, builder, array, arguments[0])
        cgutils.memset(builder, start, size, 0)
        return context.get_dummy_value()

    return numba.types.void(array), generate


def _overwrite_uncompiled(to: np.ndarray, source: np.ndarray) -> None:
    to.reshape(-1).view(np.uint8)[:] = source.reshape(-1).view(np.uint8)


def _clear_uncompiled(array: np.ndarray) -> None:
    array.reshape(-1).view(np.uint8)[:] = 0


compiled = not numba.config.DISABLE_JIT
overwrite: Callable[..., None] = _overwrite if compiled else _overwrite_uncompiled
"""overwrite(to, source): all bytes of an array, by those of another of the same type and shape."""
clear: Callable[..., None] = _clear if compiled else _clear_uncompiled
"""clear(array): all bytes become 0."""
