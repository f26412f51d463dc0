"""The zoo: trained policies that come with sgym, by name."""

import difflib
import json
from pathlib import Path

from sgym.errors import PolicyError
from sgym.export.files import MANIFEST

ZOO, BUNDLE = "zoo:", "bundle:"
"""How a policy that is a bundle is named: `zoo:NAME` comes with sgym, `bundle:FOLDER` is yours."""


PACKAGE = Path(__file__).parents[1]
PLACES = (PACKAGE / "zoo", PACKAGE.parent / "agents" / "zoo")
"""Where the zoo lies: installed, and in a checkout."""


def zoo_bundles() -> dict[str, Path]:
    """Bundles that come with sgym: name -> folder."""
    for folder in PLACES:
        if folder.is_dir():
            return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{MANIFEST}"))}
    return {}


def trained_on(scenario: str) -> tuple[str, ...]:
    """Policies that come with sgym and were trained on the scenario of this name: `zoo:NAME`."""
    return tuple(
        f"{ZOO}{name}"
        for name, folder in zoo_bundles().items()
        if json.loads((folder / MANIFEST).read_text("utf-8"))["scenario"] == scenario
    )


def folder_of(name: str) -> Path:
    """The folder that `zoo:NAME`, `bundle:FOLDER` or a path names.

    Raises:
        PolicyError: the zoo has no such policy, or there is no such folder.
    """
    if name.startswith(ZOO):
        known, wanted = zoo_bundles(), name.removeprefix(ZOO)
        if wanted in known:
            return known[wanted]
        hint = difflib.get_close_matches(wanted, known, n=1)
        raise PolicyError(
            f"no policy {name!r}; the zoo has {', '.join(known) or 'none'}"
            + (f". Did you mean {ZOO}{hint[0]}?" if hint else "")
        )
    folder = Path(name.removeprefix(BUNDLE))
    if not folder.is_dir():
        raise PolicyError(
            f"no bundle {name!r}: {str(folder)!r} is no folder; name one with {MANIFEST}, "
            "or a policy of the zoo (`sgym list policies`)"
        )
    return folder
