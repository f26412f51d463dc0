"""Indexes of kernels count from the start: a negative one is a mistake, not a place from the end.

Numba makes every signed index count from the end where it is negative. Kernels follow indexes all
the time, and are faster by a tenth without that question. NUMBA_BOUNDSCHECK=1 compiles kernels that
raise an IndexError where an index is negative or too large, as `.ci/run` does.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numba
import numba.np.arrayobj as arrays
from numba.core.compiler_lock import global_compiler_lock


def _from_start(context: Any, builder: Any, kind: Any, index: Any, size: Any) -> Any:  # noqa: ARG001
    """What numba's `fix_integer_index` gives for an index that is not negative."""
    return context.cast(builder, index, kind, numba.types.intp)


@contextmanager
def counted_from_start() -> Generator[None]:
    """Compile so for as long as it lasts; other threads have to wait with what they compile."""
    with global_compiler_lock:
        usual = arrays.fix_integer_index
        arrays.fix_integer_index = _from_start
        try:
            yield
        finally:
            arrays.fix_integer_index = usual
