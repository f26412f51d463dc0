"""Bundles of random networks that look at everything and use every kind of action."""

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sgym.envs import ColocatedEnv
from sgym.export import describe, write_bundle
from sgym.export.description import widths_of

ACTIONS = ("slots", "scores", "knobs", "index")
TRIGGERS = ("event", "iteration", "admission", "interval")
NUM_SLOTS = 16


def write_random(folder: Path, seed: int) -> Path:
    """Write a bundle; the seed chooses action, trigger, base and weights.

    Args:
        folder: where bundles lie.
        seed: 0, 1, ...
    """
    action, decision = ACTIONS[seed % 4], TRIGGERS[seed // 4 % 4]
    rng = np.random.default_rng(seed)
    env = ColocatedEnv(
        scenario="tiny",
        action=action,
        decision=decision,
        num_slots=NUM_SLOTS,
        base=str(rng.choice(["fcfs", "spf", "edf", "llf", "slack-victim"])),
        expected_output=float(rng.uniform(10.0, 200.0)),
        aging=float(rng.uniform(0.0, 20.0)),
    )
    widths = widths_of(env.plan)
    output = "action" if "action" in widths else "logits"
    model = network(rng, widths, output)
    about = describe(env, f"random-{seed}", card="a random network")
    return write_bundle(folder / f"random-{seed}", model, about)


def network(rng: np.random.Generator, widths: dict[str, int], output: str) -> bytes:
    """One layer over all inputs."""
    inputs = ("requests", "instances", "cluster")
    width = sum(widths[name] for name in inputs)
    shape = width, widths[output]
    weights = rng.normal(size=shape) * 2.0 / math.sqrt(width)
    constants = [numpy_helper.from_array(weights.astype(np.float32), "weights")]
    nodes = [
        helper.make_node("Concat", inputs, ["all"], axis=1),
        helper.make_node("MatMul", ["all", "weights"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "policy",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", widths[name]])
            for name in inputs
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", widths[output]])],
        constants,
    )
    opset = helper.make_opsetid("", 18)
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    return made.SerializeToString()
