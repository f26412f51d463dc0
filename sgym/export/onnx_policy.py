"""A policy as an ONNX graph, run by onnxruntime: from observations to actions, without torch."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sgym.errors import PolicyError

TABLES = ("requests", "instances", "cluster")
INPUTS = (*TABLES, "mask")
BUDGET_LEVELS = 4  # as in sgym.envs.actions, which engines have not
FLOAT, BOOL = "tensor(float)", "tensor(bool)"
QUIET = 3  # onnxruntime logs errors only


class OnnxPolicy:
    """Actions from a graph.

    Its inputs are some of `requests` (N, K * F), `instances` (N, I * G), `cluster` (N, H), float32,
    and `mask` (N, L), float32 or bool. Its output is `logits` (N, L), of which the highest that the
    mask allows is taken in each factor, the first of equal ones; or `action` (N, A) for a Box.

    Args:
        model: the content of the file.
        label: its name, for errors.
        space: Discrete, MultiDiscrete or Box.
        num_slots: K, for MultiDiscrete.
        num_verbs: choices of a slot, for MultiDiscrete.

    Raises:
        PolicyError: the graph cannot be loaded, or has other inputs or outputs.
    """

    def __init__(
        self, model: bytes, label: str, space: str, num_slots: int = 0, num_verbs: int = 0
    ) -> None:
        self.label, self.space = label, space
        self.output = "action" if space == "Box" else "logits"
        self._slots, self._verbs = num_slots, num_verbs
        self._session = _session(model, label)
        self._check()
        self.inputs = {one.name: one.type for one in self._session.get_inputs()}
        """Name of each input -> its type."""
        self._outputs = [self.output]

    def _check(self) -> None:
        for one in self._session.get_inputs():
            if one.name not in INPUTS or (one.name == "mask" and self.output == "action"):
                has = ", ".join(TABLES) + (", mask" if self.output == "logits" else "")
                raise PolicyError(
                    f"{self.label}: input {one.name!r} is unknown, inputs may be {has}: "
                    "export the policy with these names"
                )
            allowed = (FLOAT, BOOL) if one.name == "mask" else (FLOAT,)
            self._check_tensor("input", one, allowed)
        outputs = self._session.get_outputs()
        if [one.name for one in outputs] != [self.output]:
            raise PolicyError(
                f"{self.label}: a policy for {self.space} must have one output, {self.output!r}, "
                f"got {', '.join(repr(one.name) for one in outputs)}: export it with that name"
            )
        self._check_tensor("output", outputs[0], (FLOAT,))

    def _check_tensor(self, what: str, one: Any, allowed: tuple[str, ...]) -> None:
        if one.type not in allowed or len(one.shape) != 2:
            raise PolicyError(
                f"{self.label}: {what} {one.name!r} must be a {' or '.join(allowed)} of two "
                f"axes, got {one.type} of shape {one.shape}: export it in that form"
            )

    def check_widths(self, widths: Mapping[str, int], where: str) -> None:
        """Refuse an environment whose numbers of slots, instances or choices the graph has not.

        Args:
            widths: numbers of each input and of the output.
            where: what environment it is, for the error.

        Raises:
            PolicyError: the graph has another, fixed number.
        """
        for one in [*self._session.get_inputs(), *self._session.get_outputs()]:
            width = one.shape[1]
            if isinstance(width, int) and width != widths[one.name]:
                raise PolicyError(
                    f"{self.label}: {one.name!r} has {width} numbers, but {where} has "
                    f"{widths[one.name]}: run it where there are as many instances as it was "
                    "trained for, or export it with a dynamic axis"
                )

    def act(self, observation: Mapping[str, Any], mask: Any = None) -> Any:
        """The action for what an environment shows, or an action for each of many.

        Args:
            observation: part -> float32 of one axis, or of two, (N, numbers), for many.
            mask: flat, 1 or True = allowed, of as many axes; none = all is allowed.

        Returns:
            Discrete: int64; MultiDiscrete: int64 (factors,); Box: float32 (A,); for many (N, ...).

        Raises:
            PolicyError: inputs or outputs have wrong shapes, or the graph answers NaN.
        """
        single = np.ndim(observation["cluster"]) == 1
        answer = self.run(
            {name: self._fed(name, kind, observation, mask) for name, kind in self.inputs.items()}
        )
        count = 1 if single else len(observation["cluster"])
        if answer.ndim != 2 or len(answer) != count:
            raise PolicyError(
                f"{self.label}: {self.output} must have {count} rows, got shape {answer.shape}: "
                "export it with a dynamic first axis"
            )
        chosen = self.chosen(answer, mask)
        return chosen[0] if single else chosen

    def run(self, fed: Mapping[str, np.ndarray]) -> np.ndarray:
        """What the graph answers: float32 (N, numbers).

        Args:
            fed: all of `inputs`, (N, numbers), of their types.

        Raises:
            PolicyError: the graph cannot take them, or answers NaN.
        """
        try:
            answer: np.ndarray = self._session.run(self._outputs, fed)[0]
        except Exception as error:  # onnxruntime's own kinds, of no common base but this one
            raise PolicyError(f"{self.label} cannot be run: {error}") from None
        if math.isnan(answer.sum()) and np.isnan(answer).any():  # a sum alone may have inf - inf
            raise PolicyError(f"{self.label}: {self.output} has NaN: the policy is broken")
        return answer

    def chosen(self, answer: np.ndarray, mask: Any) -> np.ndarray:
        """Actions from what `run` returned; an action per row."""
        return self._box(answer) if self.output == "action" else self._choice(answer, mask)

    def _fed(self, name: str, kind: str, observation: Mapping[str, Any], mask: Any) -> np.ndarray:
        given = observation[name] if name != "mask" else mask
        if given is None:
            raise PolicyError(f"{self.label} has the input 'mask': give act() the action mask")
        return np.atleast_2d(np.asarray(given, np.bool_ if kind == BOOL else np.float32))

    def _box(self, answer: np.ndarray) -> np.ndarray:
        return np.clip(answer, -1.0, 1.0)

    def _choice(self, logits: np.ndarray, mask: Any) -> np.ndarray:
        if mask is not None:
            allowed = np.atleast_2d(np.asarray(mask, np.bool_))
            if allowed.shape != logits.shape:
                raise PolicyError(
                    f"{self.label}: logits have shape {logits.shape}, but the action mask "
                    f"{allowed.shape}: run it where there are as many slots and instances as it "
                    "was trained for"
                )
            logits = np.where(allowed, logits, -np.inf)
        if self.space == "Discrete":
            return logits.argmax(axis=1)
        slots = self._slots * self._verbs
        parts = [logits[:, :slots].reshape(len(logits), self._slots, self._verbs).argmax(axis=2)]
        ends = (slots, slots + BUDGET_LEVELS, logits.shape[1])
        parts += [
            logits[:, start:end].argmax(axis=1)[:, None]
            for start, end in itertools.pairwise(ends)
            if start < end
        ]
        return np.concatenate(parts, axis=1)


def _session(model: bytes, label: str) -> Any:
    import onnxruntime  # here: half of what importing sgym costs, and most people run no bundle

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = QUIET
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds, of no common base but this one
        raise PolicyError(
            f"{label} is no ONNX graph that onnxruntime {onnxruntime.__version__} can load "
            f"({error}): export the policy again, or update onnxruntime"
        ) from None
