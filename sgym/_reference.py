"""Handing many arrays to a kernel as one address.

Numba takes a NamedTuple of arrays apart at every call, compiled ones included: with twenty arrays
that is over a hundred values. A `References` is the same NamedTuple for Python, and to a kernel an
address of a table with what numba needs to know of each array. A step called from Python costs less
so, and kernels compile in a fraction of the time (figures: experiments/speed).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.numpy_support import from_dtype

POINTER = ir.IntType(8).as_pointer()
WORD = 8  # bytes of each value in the table


class References:
    """Mix-in for a NamedTuple of arrays, to come before it: `class State(References, Arrays)`.

    The table is made with the tuple, also when it is copied, replaced in part or unpickled.
    """

    address: int
    """Of the table."""

    def __new__(cls, *arrays: np.ndarray, **named: np.ndarray) -> Any:
        made = super().__new__(cls, *arrays, **named)
        table = np.array([value for array in made for value in _described(array)], np.int64)
        made._table = table
        made.address = int(table.ctypes.data)
        return made

    @classmethod
    def _make(cls, arrays: Iterable[np.ndarray]) -> Any:
        return cls(*arrays)


def _described(array: np.ndarray) -> list[int]:
    """The fields of numba's array structure: no owner, size, item size, data, shape, strides."""
    return [0, 0, array.size, array.itemsize, array.ctypes.data, *array.shape, *array.strides]


class Table(types.Type):
    """Numba's type of a References: its name, and type and place of each array."""

    def __init__(self, name: str, fields: Mapping[str, tuple[Any, int]]) -> None:
        self.fields = dict(fields)
        super().__init__(name)


@register_model(Table)
class _TableModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, POINTER)


@infer_getattr
class _TableFields(AttributeTemplate):
    key = Table

    def generic_resolve(self, value: Any, attribute: str) -> Any:
        """Type of `state.requests`."""
        return value.fields[attribute][0] if attribute in value.fields else None


@unbox(Table)
def _unbox(kind: Any, value: Any, context: Any) -> NativeValue:  # noqa: ARG001
    number = context.pyapi.object_getattr_string(value, "address")
    address = context.pyapi.long_as_ulonglong(number)
    context.pyapi.decref(number)
    return NativeValue(context.builder.inttoptr(address, POINTER))


def by_reference(cls: type, fields: Mapping[str, tuple[np.dtype, int]]) -> None:
    """Let kernels take a References by its address.

    Args:
        cls: the NamedTuple with References before it.
        fields: element type and number of dimensions of each of its arrays, in order.
    """
    kinds: dict[str, tuple[Any, int]] = {}
    place = 0
    for name, (dtype, ndim) in fields.items():
        kinds[name] = types.Array(from_dtype(np.dtype(dtype)), ndim, "C"), place
        place += (5 + 2 * ndim) * WORD
    table = Table(cls.__name__, kinds)
    typeof_impl.register(cls)(lambda value, context: table)  # noqa: ARG005
    for name, (kind, offset) in kinds.items():
        lower_getattr(table, name)(_loader(kind, offset))


def _loader(kind: Any, offset: int) -> Any:
    """Code that reads one array's structure from the table; it never changes during a call."""

    def load(context: Any, builder: Any, _: Any, table: Any) -> Any:
        place = builder.gep(table, [ir.Constant(ir.IntType(64), offset)])
        place = builder.bitcast(place, context.get_value_type(kind).as_pointer())
        value = builder.load(place)
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    return load
