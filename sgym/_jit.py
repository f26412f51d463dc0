# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false, reportPrivateUsage=false
# pyright: reportIncompatibleMethodOverride=false, reportUntypedBaseClass=false
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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
from llvmlite import ir  # noqa: E402
from numba.core.codegen import JITCodeLibrary  # noqa: E402
from numba.core.compiler import Compiler, Flags, compile_extra  # noqa: E402
from numba.core.compiler_lock import global_compiler_lock  # noqa: E402
from numba.core.dispatcher import _FunctionCompiler  # noqa: E402
from numba.core.registry import CPUDispatcher  # noqa: E402
from numba.core.typing.templates import AttributeTemplate  # noqa: E402
from numba.extending import (  # noqa: E402
    NativeValue,
    infer_getattr,
    lower_getattr,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.numpy_support import from_dtype  # noqa: E402

POINTER = ir.IntType(8).as_pointer()
WORD = 8  # bytes of each value in the table of a References

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
"""`_nrt=False` compiles without numba's memory management: a kernel that allocates does not
compile, and arrays are passed without atomic reference counts (measured: 8 times faster)."""


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` with the options that all of sgym shares.

    Numba compiles each function to a whole of its own: with what Python needs to call it, and
    optimised and translated together with all that it calls, again at every level. Nearly all
    kernels are only called by others. To those a kernel is a `Part`, which is translated within the
    few wholes that Python calls: all of sgym then compiles several times faster.
    """
    if numba.config.DISABLE_JIT:
        return function
    return Kernel(function, {}, OPTIONS)


class Parts(JITCodeLibrary):
    """Code that links all parts that its callees consist of, each once."""

    def add_linking_library(self, library: Any) -> None:
        """Link a callee, and what it calls."""
        for part in (*getattr(library, "_linking_libraries", ()), library):
            if part not in self._linking_libraries:
                library._ensure_finalized()
                self._linking_libraries.append(part)

    def finalize(self) -> None:
        """Link callers before what they call: nobody takes in what is not called yet."""
        self._linking_libraries.reverse()
        super().finalize()


class PartLibrary(Parts):
    """Code of a kernel for others to link: neither optimised nor translated by itself."""

    def add_llvm_module(self, module: Any) -> None:
        """Take code as it is: what links it optimises it."""
        module.data_layout = self._codegen._data_layout
        self._final_module.link_in(module)

    def finalize(self) -> None:
        """Nothing is added from now on."""
        self._finalize_dynamic_globals()
        self._finalized = True


class Part(numba.types.Callable, numba.types.Dummy):
    """What a kernel is to others: numba's type of it, which compiles it once per signature."""

    def __init__(self, function: Callable[..., Any], target: Any) -> None:
        self.function, self.target = function, target
        self.keys: dict[Any, Any] = {}
        self.signatures: dict[Any, Any] = {}
        super().__init__(f"Part({function.__module__}.{function.__qualname__})")

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:  # noqa: ARG002
        """Signature of a call with arguments of these types."""
        args = tuple(numba.types.unliteral(kind) for kind in args)
        if args not in self.signatures:
            self.compile(args)
        return self.signatures[args]

    def get_call_signatures(self) -> tuple[list[Any], bool]:
        """Those known so far."""
        return list(self.signatures.values()), False

    def get_impl_key(self, signature: Any) -> Any:
        """Under which the target knows the code for a signature."""
        return self.keys[signature.args]

    def compile(self, args: Any) -> None:
        """Compile for these types, without what Python needs to call it."""
        flags = Flags()
        self.target.options.parse_as_flags(flags, OPTIONS)
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        context = self.target.target_context
        library = PartLibrary(context.codegen(), self.function.__qualname__)
        with global_compiler_lock:
            made = compile_extra(
                self.target.typing_context, context, self.function, args, None, flags, {}, library
            )
        self.keys[args] = key = (self, args)
        context.insert_user_function(key, made.fndesc, [library])
        self.signatures[args] = made.signature


register_model(Part)(models.OpaqueModel)


class Kernel(CPUDispatcher):
    """A compiled function that Python may call, and that is a Part to other kernels."""

    def __init__(self, function: Callable[..., Any], *others: Any) -> None:
        super().__init__(function, *others)
        self.part = Part(function, self.targetdescr)
        self.enable_caching()
        self._compiler = WholeCompiler(
            function, self.targetdescr, OPTIONS, {}, pipeline_class=Compiler
        )

    @property
    def _numba_type_(self) -> Part:
        return self.part


class WholeCompiler(_FunctionCompiler):
    """Compiles a kernel for Python to call."""

    def _compile_core(self, args: Any, return_type: Any) -> Any:
        flags = Flags()
        self.targetdescr.options.parse_as_flags(flags, self.targetoptions)
        context = self.targetdescr.target_context
        library = Parts(context.codegen(), self.py_func.__qualname__)
        library.enable_object_caching()
        return compile_extra(
            self.targetdescr.typing_context,
            context,
            self.py_func,
            args,
            return_type,
            flags,
            {},
            library,
        )


def python_version(function: Callable[..., Any]) -> Callable[..., Any]:
    """The uncompiled function behind a kernel (kernels that it calls stay compiled)."""
    return getattr(function, "py_func", function)


class References:
    """Mix-in for a NamedTuple of arrays, to come before it: `class State(References, Arrays)`.

    Numba takes a NamedTuple apart at every call, compiled ones included: with twenty arrays that is
    over a hundred values. To a kernel this is the address of a table that says what numba needs to
    know of each array, so kernels compile faster and call each other at little cost.

    The table is made with the tuple, also when it is copied, replaced in part or unpickled.
    """

    address: int
    """Of the table."""

    def __new__(cls, *arrays: np.ndarray, **named: np.ndarray) -> Any:
        made: Any = super().__new__(cls, *arrays, **named)
        table = np.array([value for array in made for value in _described(array)], np.int64)
        made._table = table
        made.address = int(table.ctypes.data)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has a table of its own: the address of this one must not travel with it."""
        arrays: Any = self
        return type(self), tuple(arrays)

    @classmethod
    def _make(cls, iterable: Iterable[np.ndarray]) -> Any:
        return cls(*iterable)


def _described(array: np.ndarray) -> list[int]:
    """The fields of numba's array structure: no owner, size, item size, data, shape, strides."""
    return [0, 0, array.size, array.itemsize, array.ctypes.data, *array.shape, *array.strides]


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


def by_reference(cls: type, fields: Mapping[str, tuple[np.dtype, int]]) -> None:
    """Let kernels take a References by its address.

    Args:
        cls: the NamedTuple with References before it.
        fields: element type and number of dimensions of each of its arrays, in order.
    """
    kinds: dict[str, tuple[Any, int]] = {}
    place = 0
    for name, (dtype, ndim) in fields.items():
        kinds[name] = numba.types.Array(from_dtype(np.dtype(dtype)), ndim, "C"), place
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
