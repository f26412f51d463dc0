# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false, reportPrivateUsage=false
# pyright: reportIncompatibleMethodOverride=false, reportUntypedBaseClass=false
"""One decorator, so that every kernel is compiled alike.

`error_model="numpy"` because a kernel never raises; `cache=True` because compiling everything takes
tens of seconds and loading it a fraction of one; `nogil=True` so that threads can share a machine.
"""

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, Flags, compile_extra
from numba.core.dispatcher import _FunctionCompiler
from numba.core.registry import CPUDispatcher
from numba.extending import models, register_model

from sgym._jit.indexes import counted_from_start

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
        with counted_from_start():
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
        types = self.targetdescr.typing_context
        with uncollected(), counted_from_start():
            return compile_extra(
                types, context, self.py_func, args, return_type, flags, {}, library
            )


@contextmanager
def uncollected() -> Generator[None]:
    """Without garbage collection: compiling makes millions of objects that stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def python_version(function: Callable[..., Any]) -> Callable[..., Any]:
    """The uncompiled function behind a kernel (kernels that it calls stay compiled)."""
    return getattr(function, "py_func", function)
