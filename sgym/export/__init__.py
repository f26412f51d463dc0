"""Policies out of the gym: bundles of an ONNX file and what it needs, played without torch.

What an engine needs of it (`PolicyRuntime`, `EngineView`, `EventTrigger` and the like) imports no
more than numpy and onnxruntime, so names are loaded when they are asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgym.export.about import About, BuiltinManifest, Manifest, read_manifest
    from sgym.export.bundle import (
        BuiltinBundle,
        Bundle,
        Stored,
        load_bundle,
        load_stored,
    )
    from sgym.export.description import describe
    from sgym.export.names import is_bundle, resolve, simulate
    from sgym.export.onnx_policy import OnnxPolicy
    from sgym.export.reader import ReaderClock
    from sgym.export.runtime import PolicyRuntime
    from sgym.export.simulated import simulated_view
    from sgym.export.trigger import EventTrigger
    from sgym.export.view import REQUEST_ROW, EngineLimits, EngineSteering, EngineView
    from sgym.export.writing import write_builtin, write_bundle
    from sgym.export.zoo import zoo_bundles

_PLACES = {
    "about": ("About", "BuiltinManifest", "Manifest", "read_manifest"),
    "bundle": (
        "Bundle",
        "BuiltinBundle",
        "Stored",
        "load_bundle",
        "load_stored",
    ),
    "description": ("describe",),
    "names": ("is_bundle", "resolve", "simulate"),
    "onnx_policy": ("OnnxPolicy",),
    "reader": ("ReaderClock",),
    "runtime": ("PolicyRuntime",),
    "simulated": ("simulated_view",),
    "trigger": ("EventTrigger",),
    "view": ("REQUEST_ROW", "EngineLimits", "EngineSteering", "EngineView"),
    "writing": ("write_builtin", "write_bundle"),
    "zoo": ("zoo_bundles",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "REQUEST_ROW",
    "About",
    "BuiltinBundle",
    "BuiltinManifest",
    "Bundle",
    "EngineLimits",
    "EngineSteering",
    "EngineView",
    "EventTrigger",
    "Manifest",
    "OnnxPolicy",
    "PolicyRuntime",
    "ReaderClock",
    "Stored",
    "describe",
    "is_bundle",
    "load_bundle",
    "load_stored",
    "read_manifest",
    "resolve",
    "simulate",
    "simulated_view",
    "write_builtin",
    "write_bundle",
    "zoo_bundles",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
