"""Writing a bundle: all of its files at once, or none."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgym.errors import PolicyError
from sgym.export.about import About, BuiltinManifest
from sgym.export.bundle import load_stored
from sgym.export.files import CARD, MANIFEST, MODEL, WEIGHTS


def write_bundle(
    folder: str | Path,
    model: bytes,
    about: About,
    weights: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a bundle in one piece, in place of one that is there.

    Args:
        folder: of the bundle; its other files are kept.
        model: the content of policy.onnx.
        about: what `describe` says of the policy.
        weights: the numbers of a small network by name, for policy.npz, which people read.

    Returns:
        The folder.

    Raises:
        PolicyError: it is none that could be loaded again, and nothing was written.
    """
    content = about.model_dump(exclude={"sha256"})
    content["sha256"] = hashlib.sha256(model).hexdigest()

    def fill(draft: Path) -> None:
        (draft / MODEL).write_bytes(model)
        if weights is not None:
            np.savez(draft / WEIGHTS, allow_pickle=False, **weights)

    return _write(Path(folder), content, fill)


def write_builtin(folder: str | Path, about: BuiltinManifest) -> Path:
    """Write a bundle of a policy that comes with sgym; as `write_bundle`, but without a network."""

    def fill(draft: Path) -> None:
        for name in (MODEL, WEIGHTS):
            (draft / name).unlink(missing_ok=True)

    return _write(Path(folder), about.model_dump(), fill)


def _write(folder: Path, content: dict[str, Any], fill: Callable[[Path], None]) -> Path:
    try:
        text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise PolicyError(f"{folder / MANIFEST}: provenance must be JSON: {error}") from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        if folder.is_dir():
            shutil.copytree(folder, draft, dirs_exist_ok=True)
        fill(draft)
        (draft / MANIFEST).write_text(text, encoding="utf-8")
        (draft / CARD).write_text(content["card"].rstrip() + "\n", encoding="utf-8")
        load_stored(draft)
        draft.chmod(0o755)
        _replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _replace(draft: Path, folder: Path) -> None:
    """Rename, by way of a third name where a folder is in the way: one cannot be overwritten."""
    if not folder.is_dir():
        os.replace(draft, folder)
        return
    old = draft.with_name(f"{draft.name}.old")
    os.replace(folder, old)
    os.replace(draft, folder)
    shutil.rmtree(old)
