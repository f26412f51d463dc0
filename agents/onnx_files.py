"""Small policies as ONNX files, without torch: what `sgym.export.write_bundle` takes."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 18, 9  # old enough for every onnxruntime that sgym runs with
Nodes = Sequence[onnx.NodeProto]


def constant_action(vector: np.ndarray) -> bytes:
    """A Box action that is the same in every state.

    Args:
        vector: (A,).

    Returns:
        The file: input `cluster` (N, H), which only says how many rows are wanted, output `action`.
    """
    numbers = _floats(vector).reshape(1, -1)
    nodes = [
        helper.make_node("Shape", ["cluster"], ["rows"], start=0, end=1),
        helper.make_node("Concat", ["rows", "width"], ["shape"], axis=0),
        helper.make_node("Expand", ["vector", "shape"], ["action"]),
    ]
    constants = {"vector": numbers, "width": np.array([numbers.shape[1]], np.int64)}
    return _file(nodes, constants, {"cluster": None}, ("action", numbers.shape[1]))


def linear_action(weights: np.ndarray, bias: np.ndarray, inputs: Mapping[str, int]) -> bytes:
    """A Box action that is linear in what is seen: `weights @ seen + bias`; running it clips it.

    Args:
        weights: (A, W).
        bias: (A,).
        inputs: part of the observation -> its numbers, in the order of the W columns, such as
            {"instances": 15, "cluster": 12}.

    Returns:
        The file: an input for each part, output `action`.
    """
    matrix, shift = _floats(weights), _floats(bias)
    if matrix.shape != (len(shift), sum(inputs.values())):
        raise ValueError(
            f"weights must have shape {(len(shift), sum(inputs.values()))}, got {matrix.shape}"
        )
    nodes = [
        helper.make_node("Concat", list(inputs), ["seen"], axis=1),
        helper.make_node("Gemm", ["seen", "weights", "bias"], ["action"], transB=1),
    ]
    return _file(nodes, {"weights": matrix, "bias": shift}, inputs, ("action", len(shift)))


def instance_scores(weights: np.ndarray) -> bytes:
    """A score for each instance, linear in its features, for `action="route"`.

    Args:
        weights: (G,), one for each feature of an instance.

    Returns:
        The file: input `instances` (N, I * G) of any number of instances, output `logits` (N, I).
    """
    column = _floats(weights).reshape(-1, 1)
    nodes = [
        helper.make_node("Reshape", ["instances", "each"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["scores"]),
        helper.make_node("Squeeze", ["scores", "last"], ["logits"]),
    ]
    constants = {
        "weights": column,
        "each": np.array([0, -1, len(column)], np.int64),
        "last": np.array([2], np.int64),
    }
    return _file(nodes, constants, {"instances": None}, ("logits", "I"))


def _floats(numbers: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(numbers, np.float32)


def _file(
    nodes: Nodes,
    constants: Mapping[str, np.ndarray],
    inputs: Mapping[str, int | None],
    output: tuple[str, int | str],
) -> bytes:
    """A checked graph as bytes; rows are N everywhere, an input of None numbers takes any."""
    graph = helper.make_graph(
        nodes,
        "policy",
        [
            _tensor(name, f"{name}_width" if width is None else width)
            for name, width in inputs.items()
        ],
        [_tensor(*output)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _tensor(name: str, width: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width])
