"""bundle.json as an engine reads it: with no more than the standard library.

Here what a decision needs is read, and everything that would change a decision is checked;
`sgym.export.about` then checks all of it, with pydantic, against the environments.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from sgym.errors import PolicyError
from sgym.export.files import MANIFEST, MODEL, READABLE
from sgym.export.moment import SUPPLIED
from sgym.export.orderings import LIMITS, ORDERINGS
from sgym.export.slots import VERBS_OF
from sgym.export.trigger import TRIGGERS
from sgym.export.zoo import folder_of

AGAIN = "export the policy again"
OTHER = f"{AGAIN}, or use the sgym that wrote it"
AGING_BEFORE = 20.0
"""Tokens per second that every environment had when version 1 was written."""
KINDS = ("onnx", "builtin")
"""A network, or a scheduler that comes with sgym."""
SPACES = {"slots": "MultiDiscrete", "scores": "Box", "knobs": "Discrete", "index": "Box"}
"""Actions that an engine can carry out -> the space of each."""


class Sheet:
    """A bundle.json, and where it lies.

    Args:
        source: a bundle's folder, `bundle:FOLDER` or `zoo:NAME`.

    Raises:
        PolicyError: it is missing or no such file, or of a version or a kind that is unknown.
    """

    def __init__(self, source: str | Path) -> None:
        self.folder = folder_of(str(source))
        self.path = self.folder / MANIFEST
        try:
            data: Any = json.loads(self.path.read_text(encoding="utf-8"))
        except OSError as error:
            raise PolicyError(
                f"cannot read {self.path} ({error.strerror}): a bundle is a folder with "
                f"{MANIFEST}, as write_bundle makes it"
            ) from None
        except ValueError as error:
            raise PolicyError(f"{self.path} is not valid JSON ({error}): {AGAIN}") from None
        if not isinstance(data, dict):
            raise PolicyError(
                f"{self.path} must hold an object, got {type(data).__name__}: {AGAIN}"
            )
        self.data: dict[str, Any] = data
        if data.get("schema_version") not in READABLE:
            versions = " or ".join(map(str, READABLE))
            self.refuse("schema_version", versions, data.get("schema_version"), OTHER)
        if data["schema_version"] == 1 and isinstance(data.get("environment"), dict):
            data["environment"].setdefault("aging", AGING_BEFORE)
        self.kind: str = data.get("kind", KINDS[0])
        if self.kind not in KINDS:
            self.refuse("kind", f"one of {', '.join(KINDS)}", self.kind, OTHER)

    def refuse(self, field: str, rule: str, value: Any, fix: str = AGAIN) -> None:
        """Raise the error of a field that breaks a rule."""
        raise PolicyError(f"{self.path}: {field} must be {rule}, got {value!r}: {fix}")

    def get(self, field: str, kind: type | tuple[type, ...]) -> Any:
        """The value at a dotted name.

        Raises:
            PolicyError: there is none, or it is of another kind.
        """
        value: Any = self.data
        for part in field.split("."):
            if not isinstance(value, dict) or part not in value:
                raise PolicyError(f"{self.path}: {field} is required: {AGAIN}")
            value = value[part]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            self.refuse(field, f"of type {' or '.join(one.__name__ for one in kinds)}", value)
        return value

    def number(self, field: str, least: float) -> float:
        """A finite number of at least `least`."""
        value = self.get(field, (int, float))
        if not least <= value < 1e300:
            self.refuse(field, f"a number of at least {least:g}", value)
        return float(value)

    def model(self) -> bytes:
        """The content of policy.onnx.

        Raises:
            PolicyError: it is missing, or not the file that bundle.json is about.
        """
        path = self.folder / MODEL
        try:
            model = path.read_bytes()
        except OSError as error:
            raise PolicyError(
                f"cannot read {path} ({error.strerror}): a bundle needs it, {AGAIN}"
            ) from None
        found = hashlib.sha256(model).hexdigest()
        if found != self.get("sha256", str):
            raise PolicyError(
                f"{path}: sha256 is {found}, but {MANIFEST} says {self.data['sha256']}: the file "
                f"was damaged or replaced, {AGAIN}"
            )
        return model

    def features(self, table: str) -> list[dict[str, Any]]:
        """Features of a part of the observation, in order, all of which an engine supplies."""
        rows = self.get(f"observation.{table}", list)
        for k, row in enumerate(rows):
            where = f"observation.{table}[{k}]"
            if not isinstance(row, dict):
                self.refuse(where, "an object", row)
            name = row.get("name")
            if name not in SUPPLIED[table]:
                raise PolicyError(
                    f"{self.path}: {where}: feature {name!r} is none that an engine supplies; "
                    f"these are {', '.join(sorted(SUPPLIED[table]))}: train without it"
                )
            for key in ("scale", "squash", "low", "high"):
                if not isinstance(row.get(key), int | float):
                    self.refuse(f"{where}.{key}", "a number", row.get(key))
        return rows

    def action(self) -> str:
        """The action, if it is one that a single engine can carry out.

        Raises:
            PolicyError: it is not.
        """
        kind, controls = self.get("environment.id", str), self.get("environment.controls", list)
        if kind != "sgym/Colocated-v0" or controls != ["schedule"]:
            raise PolicyError(
                f"{self.path}: environment.id is {kind!r} and environment.controls are {controls}, "
                "but an engine decides only about its own batches: this needs sgym/Colocated-v0 "
                "with controls ['schedule']; policies that choose instances belong into a router, "
                "which no engine is"
            )
        action = self.get("environment.action", str)
        if action not in SPACES:
            self.refuse("environment.action", f"one of {', '.join(SPACES)}", action)
        if self.get("environment.allow_reject", bool):
            raise PolicyError(
                f"{self.path}: environment.allow_reject is true, but no engine lets a scheduler "
                "refuse requests: train with allow_reject=False"
            )
        if self.get("environment.decision", str) not in TRIGGERS:
            decision = self.data["environment"]["decision"]
            self.refuse("environment.decision", f"one of {', '.join(TRIGGERS)}", decision)
        if self.get("environment.base", str) not in ORDERINGS:
            base = self.data["environment"]["base"]
            self.refuse("environment.base", f"one of {', '.join(ORDERINGS)}", base)
        if self.get("action.space", str) != SPACES[action]:
            self.refuse("action.space", repr(SPACES[action]), self.data["action"]["space"])
        return action

    def meaning(self, action: str, num_features: int) -> list[str]:
        """What the numbers of an action stand for, all of which are understood here."""
        words: list[str] = self.get("action.meaning", list)
        if action == "slots":
            known = {verb for verbs in VERBS_OF for verb in verbs} | {"reject"}
            fine = all(word in known for word in words) and words[:1] == ["neutral"]
        elif action == "knobs":
            parts = [word.rsplit("+", 2) for word in words]
            fine = all(
                len(part) == 3
                and part[0] in ORDERINGS
                and part[2] in LIMITS
                and part[1].replace(".", "").isdigit()
                for part in parts
            )
        elif action == "index":
            fine = len(words) == 2 * num_features + 4
        else:
            fine = True
        if not fine:
            self.refuse("action.meaning", f"what this sgym knows of action {action!r}", words)
        return words
