# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""Asking for memory ahead of its use, so that a processor need not stand still until it comes.

These change nothing but the time that a kernel takes. Uncompiled, they do nothing.
"""

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LINE = 64  # bytes that a processor reads at once: a cache line
FOR_READING, KEEP, DATA = 0, 3, 1
"""Arguments of llvm.prefetch (LLVM language reference)."""


def _ask(builder: Any, start: Any, lines: int) -> Any:
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    how = [ir.Constant(number, value) for value in (FOR_READING, KEEP, DATA)]
    for line in range(lines):
        builder.call(prefetch, [builder.gep(start, [ir.Constant(number, LINE * line)]), *how])
    return ir.Constant(byte, None)


@intrinsic(prefer_literal=True)
def _fetch(typing: Any, array: Any, place: Any, lines: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(array)(context, builder, arguments[0]).data
        index = context.cast(builder, arguments[1], signature.args[1], numba.types.intp)
        start = builder.bitcast(builder.gep(data, [index]), ir.IntType(8).as_pointer())
        return _ask(builder, start, lines.literal_value)

    return numba.types.void(array, place, lines), generate


@intrinsic(prefer_literal=True)
def _fetch_at(typing: Any, address: Any, lines: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:  # noqa: ARG001
        start = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        return _ask(builder, start, lines.literal_value)

    return numba.types.void(address, lines), generate


def _nothing(*_: Any) -> None:
    """What both do uncompiled."""


compiled = not numba.config.DISABLE_JIT
fetch: Callable[..., None] = _fetch if compiled else _nothing
"""fetch(array, place, lines): so many cache lines of a 1-d array, from the entry at `place` on."""
fetch_at: Callable[..., None] = _fetch_at if compiled else _nothing
"""fetch_at(address, lines): from an entry of `addresses` on, which is the table of a References."""
