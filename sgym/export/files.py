"""Names of the files of a bundle, and which forms of bundle.json this sgym reads."""

MANIFEST = "bundle.json"
MODEL = "policy.onnx"
WEIGHTS = "policy.npz"
CARD = "card.md"

SCHEMA_VERSION = 2
"""Of bundle.json as it is written now."""
READABLE = (1, SCHEMA_VERSION)
"""Versions that are read; 1 had no `kind`, and all were `onnx`."""
