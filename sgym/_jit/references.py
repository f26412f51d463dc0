# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false
"""Many arrays as one argument of a kernel: the address of a table that describes them."""

import ctypes
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numba
import numpy as np
from llvmlite import ir
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    intrinsic,
    lower_getattr,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import as_dtype, from_dtype

POINTER = ir.IntType(8).as_pointer()
WORD = 8  # bytes of each value in the table of a References


class References:
    """Mix-in for a NamedTuple of arrays, to come before it: `class State(References, Arrays)`.

    Numba takes a NamedTuple apart at every call, compiled ones included: with twenty arrays that is
    over a hundred values. To a kernel this is the address of a table that says what numba needs to
    know of each array, so kernels compile faster and call each other at little cost. An element may
    be a References itself.

    The table is made with the tuple, also when it is copied, replaced in part or unpickled.
    """

    address: int
    """Of the table."""

    def __new__(cls, *parts: Any, **named: Any) -> Any:
        made: Any = super().__new__(cls, *parts, **named)
        table = np.array([value for part in made for value in _described(part)], np.int64)
        made._table = table
        made.address = _address(table)
        return made

    def replaced(self, **changed: Any) -> Any:
        """Another one with some parts changed; the others are not described anew."""
        cls, parts = type(self), cast("Any", self)
        fields = TABLES[cls].fields
        made: Any = super().__new__(cls, *map(changed.get, fields, parts))
        made._table = table = parts._table.copy()
        made.address = _address(table)
        for name, part in changed.items():
            described, first = _described(part), fields[name][1] // WORD
            table[first : first + len(described)] = described
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has a table of its own: the address of this one must not travel with it."""
        parts: Any = self
        return type(self), tuple(parts)

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Any:
        return cls(*iterable)

    def copied(self) -> Any:
        """A copy of all arrays, see `copied`."""
        parts: Any = self
        return type(self)(*(copied(part) for part in parts))


def copied(part: Any) -> Any:
    """A copy of an array, or of a References with all of its arrays, to the last byte.

    Numpy's own leaves the padding between fields undefined.
    """
    if isinstance(part, References):
        return part.copied()
    return np.frombuffer(bytearray(part.tobytes()), part.dtype).reshape(part.shape)


def _address(array: np.ndarray) -> int:
    """Of an array's first element, in a sixth of the time of `array.ctypes.data`.

    In numpy's C interface an array is a Python object followed by that pointer (PyArrayObject).
    """
    return ctypes.c_ssize_t.from_address(id(array) + object.__basicsize__).value


def _described(part: Any) -> list[int]:
    """An address, and the shape of an array; the rest of what numba wants to know never changes.

    Raises:
        ValueError: the array is a view with gaps, or not in C order, which a table cannot say.
    """
    if isinstance(part, References):
        return [part.address]
    if not part.flags.c_contiguous:
        raise ValueError(
            f"a kernel cannot read a {part.dtype} view of shape {part.shape} and strides "
            f"{part.strides}: pass one without gaps, such as a copy"
        )
    return [_address(part), *part.shape]


class Table(numba.types.Type):
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


TABLES: dict[type, Table] = {}


def by_reference(cls: type, fields: Mapping[str, Any]) -> None:
    """Let kernels take a References by its address.

    Args:
        cls: the NamedTuple with References before it.
        fields: element type and number of dimensions of each of its arrays, in order; for an
            element that is a References, its class.
    """
    kinds: dict[str, tuple[Any, int]] = {}
    place = 0  # in the table
    for name, field in fields.items():
        if field in TABLES:
            kinds[name] = TABLES[field], place
            place += WORD
            continue
        dtype, ndim = field
        kinds[name] = numba.types.Array(from_dtype(np.dtype(dtype)), ndim, "C"), place
        place += (1 + ndim) * WORD
    table = TABLES[cls] = Table(cls.__name__, kinds)
    typeof_impl.register(cls)(lambda value, context: table)  # noqa: ARG005
    for name, (kind, offset) in kinds.items():
        lower_getattr(table, name)(_loader(kind, offset))


def table_size(cls: type) -> int:
    """Bytes of the table of a References."""
    kind, place = list(TABLES[cls].fields.values())[-1]
    return place + (WORD if isinstance(kind, Table) else (1 + kind.ndim) * WORD)


def addresses(parts: Iterable[References]) -> np.ndarray:
    """What a kernel needs to find these again by `reader`; the caller keeps them alive."""
    if numba.config.DISABLE_JIT:
        found = [*parts]
        kept = np.empty(len(found), object)
        for place, part in enumerate(found):
            kept[place] = part
        return kept
    return np.array([part.address for part in parts], np.int64)


def reader(cls: type) -> Callable[[Any], Any]:
    """A function for kernels: from an entry of `addresses` to the References of this class."""
    if numba.config.DISABLE_JIT:
        return lambda part: part
    table = TABLES[cls]

    @intrinsic
    def read(typing: Any, address: Any) -> Any:  # noqa: ARG001
        def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], POINTER)

        return table(numba.types.int64), generate

    return cast("Callable[[Any], Any]", read)


def _loader(kind: Any, offset: int) -> Any:
    """Code that reads one array's place and shape from the table; they never change in a call."""

    def load(context: Any, builder: Any, _: Any, table: Any) -> Any:
        def word(number: int, form: Any) -> Any:
            place = builder.gep(table, [ir.Constant(ir.IntType(64), offset + WORD * number)])
            value = builder.load(builder.bitcast(place, form.as_pointer()))
            value.set_metadata("invariant.load", builder.module.add_metadata([]))
            return value

        if isinstance(kind, Table):
            return word(0, POINTER)
        data = word(0, context.get_data_type(kind.dtype).as_pointer())
        shape = [word(1 + axis, ir.IntType(64)) for axis in range(kind.ndim)]
        itemsize = ir.Constant(ir.IntType(64), as_dtype(kind.dtype).itemsize)
        strides = [itemsize]
        for length in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], length))
        array = make_array(kind)(context, builder)
        populate_array(array, data, shape, strides, itemsize, meminfo=None)
        return array._getvalue()

    return load
