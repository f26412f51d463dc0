"""Policies out of the gym: bundles of an ONNX file and what it needs, played without torch."""

from sgym.export.about import About, Manifest, read_manifest
from sgym.export.bundle import Bundle, load_bundle, write_bundle
from sgym.export.description import describe
from sgym.export.names import is_bundle, resolve, simulate
from sgym.export.onnx_policy import OnnxPolicy
from sgym.export.zoo import zoo_bundles

__all__ = [
    "About",
    "Bundle",
    "Manifest",
    "OnnxPolicy",
    "describe",
    "is_bundle",
    "load_bundle",
    "read_manifest",
    "resolve",
    "simulate",
    "write_bundle",
    "zoo_bundles",
]
