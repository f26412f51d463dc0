"""An exported policy inside an engine: numpy and onnxruntime, nothing else.

    runtime = PolicyRuntime("zoo:assistants_14b")      # or a bundle's folder
    trigger = runtime.trigger(start=0.0)
    ...                                                # each time that a batch is to be formed:
    if trigger.is_due(view):
        steering = runtime.decide(view)
        trigger.note_decision(view.now)

What it says is what the environment's kernels would do in the same state (`tests/export` compares
them on recorded states). Importing it loads neither numba nor torch; gymnasium only where it is
installed, because `import sgym` registers environments.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sgym.errors import PolicyError
from sgym.export.features import RequestFeatures
from sgym.export.heuristics import Heuristic, check_parameters
from sgym.export.moment import Moment, Surroundings
from sgym.export.onnx_policy import BOOL, BUDGET_LEVELS, OnnxPolicy
from sgym.export.orderings import Index, mask_of_knobs, turn
from sgym.export.reading import Sheet
from sgym.export.slots import Slots, allowed_verbs, arrangement, say, score
from sgym.export.trigger import EventTrigger
from sgym.export.view import EngineSteering, EngineView, matrix_of


class PolicyRuntime:
    """A policy that decides for one engine. Not for several threads at once.

    Args:
        bundle: a folder, `bundle:FOLDER`, `zoo:NAME`, or a loaded bundle.

    Attributes:
        name: of the policy.
        kind: onnx or builtin.
        decision: when it wants to be asked, one of `sgym.export.trigger.TRIGGERS`.
        interval: seconds, for the decision `interval`.

    Raises:
        PolicyError: the bundle is missing, damaged, of another version, or not for an engine; the
            message names file, field, value, rule and fix.
    """

    def __init__(self, bundle: Any) -> None:
        folder = getattr(bundle, "folder", bundle)
        if not isinstance(folder, str | Path):
            raise PolicyError(
                "bundle must be a folder, zoo:NAME, bundle:FOLDER or a loaded bundle, got "
                f"{bundle!r}"
            )
        sheet = Sheet(folder)
        self.folder, self.kind = sheet.folder, sheet.kind
        self.name: str = sheet.get("name", str)
        self.interval = 0.1
        self._decide: Callable[[EngineView], EngineSteering]
        if self.kind == "builtin":
            policy, parameters = sheet.get("policy", str), sheet.get("parameters", dict)
            check_parameters(policy, parameters, str(sheet.path))
            self.decision = "iteration"
            self._decide = Heuristic(policy, parameters).decide
        else:
            network = Network(sheet)
            self.decision = sheet.get("environment.decision", str)
            self.interval = sheet.number("environment.interval", 0.0)
            self._decide = network.decide

    def __repr__(self) -> str:
        """Its name and kind."""
        return f"<PolicyRuntime {self.name}: {self.kind}, asked by {self.decision}>"

    def trigger(self, start: float = 0.0) -> EventTrigger:
        """A new trigger of the kind that the policy was trained with.

        Args:
            start: seconds; the engine's clock now.
        """
        return EventTrigger(self.decision, self.interval, start)

    def decide(self, view: EngineView) -> EngineSteering:
        """What the policy says of this moment.

        Args:
            view: the engine about to form a batch.

        Raises:
            PolicyError: the network answers NaN or in a wrong shape.
        """
        return self._decide(view)


class Network:
    """A graph, what it sees, and what its answer means.

    Args:
        sheet: of a bundle with a network.

    Raises:
        PolicyError: it is not for an engine.
    """

    def __init__(self, sheet: Sheet) -> None:
        self._action = sheet.action()
        self._slots = int(sheet.number("environment.num_slots", 2))
        rows = {table: sheet.features(table) for table in ("requests", "instances", "cluster")}
        self._features = RequestFeatures(rows["requests"])
        self._surroundings = Surroundings(rows["instances"], rows["cluster"])
        self._words = sheet.meaning(self._action, self._features.width)
        self._allowed = allowed_verbs(self._words)
        self._mask_of = lru_cache(maxsize=4096)(self._mask_of_slots)
        self._expected_output = sheet.number("environment.expected_output", 0.0)
        self._aging = sheet.number("environment.aging", 0.0)
        space = sheet.get("action.space", str)
        label = f"{sheet.folder / 'policy.onnx'}"
        self._graph = OnnxPolicy(sheet.model(), label, space, self._slots, len(self._words))
        numbers = {
            "slots": self._slots * len(self._words) + BUDGET_LEVELS,
            "scores": self._slots,
            "knobs": len(self._words),
            "index": len(self._words),
        }[self._action]
        widths = {name: len(rows[name]) for name in ("instances", "cluster")}
        widths["requests"] = self._slots * self._features.width
        widths |= {"mask": numbers, "logits": numbers, "action": numbers}
        self._graph.check_widths(widths, "an engine, which sees one instance,")
        if self._action == "index":
            gain = sheet.number("action.constants.gain", 0.0)
            base = sheet.get("environment.base", str)
            self._index = Index(self._features, base, gain, self._expected_output, self._aging)

    def decide(self, view: EngineView) -> EngineSteering:
        """What the policy says of this moment."""
        inputs = self._graph.inputs
        slots = Slots(view, self._slots) if self._needs_slots else None
        mask = self._mask(view, slots)
        fed: dict[str, np.ndarray] = {}
        if slots is not None and "requests" in inputs:
            fed["requests"] = self._seen(view, slots)
        if "instances" in inputs or "cluster" in inputs:
            around = self._surroundings(Moment(view, self._slots))
            fed |= {name: array for name, array in around.items() if name in inputs}
        if "mask" in inputs and mask is not None:
            fed["mask"] = mask.astype(np.bool_ if inputs["mask"] == BOOL else np.float32)
        action = self._graph.chosen(self._graph.run(fed), mask)[0]
        return self._said(view, slots, action)

    @property
    def _needs_slots(self) -> bool:
        return self._action in ("slots", "scores") or "requests" in self._graph.inputs

    def _seen(self, view: EngineView, slots: Slots) -> np.ndarray:
        """The input `requests`: float32 (1, K * number of features), zeros in empty slots."""
        rows = matrix_of(view.rows)[slots.shown]
        seen = np.zeros((self._slots, self._features.width), np.float32)
        seen[slots.places] = self._features(rows, slots.num_running, view).T
        return seen.reshape(1, -1)

    def _mask(self, view: EngineView, slots: Slots | None) -> np.ndarray | None:
        """Valid choices, factor after factor: bool (1, numbers); none for a Box."""
        if self._action == "knobs":
            return mask_of_knobs(self._words, view)[None]
        if self._action != "slots" or slots is None:
            return None
        waiting = len(slots.places) - slots.num_running
        return self._mask_of(slots.num_running, waiting, bool(view.limits.chunked_prefill))

    def _mask_of_slots(self, running: int, waiting: int, chunks: bool) -> np.ndarray:
        """The mask of `slots` with so many requests shown: bool (1, numbers)."""
        _, content = arrangement(running, waiting, self._slots)
        levels = np.full(BUDGET_LEVELS, chunks)
        levels[0] = True
        mask = np.concatenate((self._allowed[content].ravel(), levels))[None]
        mask.flags.writeable = False
        return mask

    def _said(self, view: EngineView, slots: Slots | None, action: Any) -> EngineSteering:
        if self._action == "index":
            return self._index.decide(view, action.astype(np.float64))
        if self._action == "knobs":
            return turn(view, self._words[int(action)], self._expected_output, self._aging)
        if slots is None:  # it is there for all other actions
            raise PolicyError(f"action {self._action!r} needs slots")
        if self._action == "scores":
            return score(view, slots, action.astype(np.float64))
        chosen = action[: self._slots]
        return say(view, slots, chosen, self._words, int(action[self._slots]))
