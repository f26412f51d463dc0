"""Small policies as ONNX files, without torch: what `sgym.export.write_bundle` takes."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agents.scorers import Scorer
from sgym.envs.actions import INDEX_KNOBS

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


def scorer_action(scorer: Scorer, parameters: np.ndarray) -> bytes:
    """What `scorer.act` does with these parameters, as a file.

    Args:
        scorer: for an environment whose actions are `index` or `route`.
        parameters: (scorer.size,).
    """
    parts = scorer.parts(np.asarray(parameters, np.float64))
    width, instances = len(scorer.instances), scorer.num_instances
    constants: dict[str, np.ndarray] = {"rows_shape": np.array([0, instances, width], np.int64)}
    nodes = [helper.make_node("Reshape", ["instances", "rows_shape"], ["rows"])]
    pieces: list[str] = []
    inputs: dict[str, int | None] = {"instances": instances * width}
    if scorer.schedules:
        inputs["cluster"] = len(scorer.cluster)
        fixed = np.concatenate([parts["waiting"], parts["running"]])
        of_instance = np.zeros((width, len(parts["limits"])))
        of_cluster = np.zeros((len(scorer.cluster), len(parts["limits"])))
        for column, name in enumerate(scorer.context, start=1):
            if name in scorer.instances:
                of_instance[scorer.instances.index(name)] = parts["limits"][:, column]
            else:
                of_cluster[scorer.cluster.index(name)] = parts["limits"][:, column]
        constants |= {
            "asks_at": np.array([scorer.instances.index("asks")], np.int64),
            "fixed": _floats(fixed).reshape(1, -1),
            "fixed_width": np.array([len(fixed)], np.int64),
            "of_instance": _floats(of_instance),
            "of_cluster": _floats(of_cluster),
            "shift": _floats(parts["limits"][:, 0]),
            "second": np.array([1], np.int64),
        }
        nodes += [
            helper.make_node("Gather", ["rows", "asks_at"], ["asks"], axis=2),
            helper.make_node("Mul", ["rows", "asks"], ["asking_rows"]),
            helper.make_node("ReduceSum", ["asking_rows", "second"], ["asking"], keepdims=0),
            helper.make_node("MatMul", ["asking", "of_instance"], ["from_instance"]),
            helper.make_node("MatMul", ["cluster", "of_cluster"], ["from_cluster"]),
            helper.make_node("Add", ["from_instance", "from_cluster"], ["moved"]),
            helper.make_node("Add", ["moved", "shift"], ["limits"]),
            helper.make_node("Shape", ["cluster"], ["count"], start=0, end=1),
            helper.make_node("Concat", ["count", "fixed_width"], ["fixed_shape"], axis=0),
            helper.make_node("Expand", ["fixed", "fixed_shape"], ["weights"]),
        ]
        pieces += ["weights", "limits"]
    if scorer.places:
        share = 1.0 / width if scorer.schedules else 1.0
        constants |= {
            "place": _floats(parts["place"] * share).reshape(-1, 1),
            "last": np.array([2], np.int64),
        }
        nodes += [
            helper.make_node("MatMul", ["rows", "place"], ["column"]),
            helper.make_node("Squeeze", ["column", "last"], ["places"]),
        ]
        pieces.append("places")
    if not scorer.schedules:
        nodes.append(helper.make_node("Identity", ["places"], ["logits"]))
        return _file(nodes, constants, inputs, ("logits", instances))
    constants |= {"lowest": np.array(-1.0, np.float32), "highest": np.array(1.0, np.float32)}
    nodes += [
        helper.make_node("Concat", pieces, ["raw"], axis=1),
        helper.make_node("Clip", ["raw", "lowest", "highest"], ["action"]),
    ]
    numbers = 2 * len(scorer.requests) + len(INDEX_KNOBS) + (instances if scorer.places else 0)
    return _file(nodes, constants, inputs, ("action", numbers))


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
