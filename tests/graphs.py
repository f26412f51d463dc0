"""ONNX graphs for tests, with inputs that policies of agents have and with wrong ones."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KINDS = {"float": TensorProto.FLOAT, "bool": TensorProto.BOOL, "double": TensorProto.DOUBLE}


def linear(
    weights: np.ndarray,
    source: str = "cluster",
    output: str = "logits",
    mask: str = "",
    kind: str = "float",
    rows: str | int = "N",
) -> bytes:
    """`output = source @ weights`; with an input `mask` of kind `mask`, -1e8 where that is 0."""
    width, numbers = weights.shape
    inputs = [helper.make_tensor_value_info(source, KINDS[kind], [rows, width])]
    constants = [
        numpy_helper.from_array(
            weights.astype(np.float64 if kind == "double" else np.float32), "weights"
        )
    ]
    last = "raw" if mask else output
    nodes = [helper.make_node("MatMul", [source, "weights"], [last])]
    if mask:
        inputs.append(helper.make_tensor_value_info("mask", KINDS[mask], [rows, numbers]))
        constants.append(numpy_helper.from_array(np.float32(-1e8), "low"))
        nodes = [
            *nodes,
            helper.make_node("Cast", ["mask"], ["allowed"], to=TensorProto.BOOL),
            helper.make_node("Where", ["allowed", "raw", "low"], [output]),
        ]
    outputs = [helper.make_tensor_value_info(output, KINDS[kind], [rows, numbers])]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, constants)
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


def dynamic(model: bytes) -> bytes:
    """The graph without a word on its second axes."""
    loaded = onnx.load_from_string(model)
    for tensor in [*loaded.graph.input, *loaded.graph.output]:
        tensor.type.tensor_type.shape.dim[1].dim_param = f"{tensor.name}_width"
    return loaded.SerializeToString()


def one_row(numbers: int) -> bytes:
    """`action` is one row of zeros, however many are asked for."""
    zeros = numpy_helper.from_array(np.zeros((1, numbers), np.float32))
    node = helper.make_node("Constant", [], ["action"], value=zeros)
    output = helper.make_tensor_value_info("action", TensorProto.FLOAT, ["N", numbers])
    graph = helper.make_graph([node], "policy", [], [output])
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
