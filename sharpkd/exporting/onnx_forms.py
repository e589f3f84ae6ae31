"""What an ONNX file can be: with fp16 weights, or on uint8 pixels; and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LARGEST_HALF = 65504.0
"""Larger numbers do not exist in float16."""


def halve_weights(model: onnx.ModelProto) -> None:
    """Hold the weights in float16: each becomes a constant of half the bytes and a Cast back to float32.

    All is still computed in float32, on weights that are rounded to 11 significant bits. ONNX Runtime
    converts them once, when it opens the file. Single numbers and what float16 cannot hold stay float32.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < 2 or not np.abs(values).max() <= LARGEST_HALF:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16"))
        casts.append(
            helper.make_node("Cast", [f"{name}_fp16"], [name], name=f"node_{name}_fp32", to=TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def take_pixels(model: onnx.ModelProto) -> None:
    """Let the graph take and give uint8 ``(1, H, W, 3)`` under the names of before.

    Conversion to [0, 1], and the output's clamp and rounding (to the even number halfway) are then in it.
    """
    graph = model.graph
    given, result = graph.input[0], graph.output[0]
    for node in graph.node:
        node.input[:] = [_inner(one, given.name, result.name) for one in node.input]
        node.output[:] = [_inner(one, given.name, result.name) for one in node.output]

    def constant(name: str, value: float) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    white, black = constant("pixels_white", 255), constant("pixels_black", 0)
    before = [
        helper.make_node("Cast", [given.name], ["pixels_float"], name="pixels_cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels_float", white], ["pixels_unit"], name="pixels_divide"),
        helper.make_node(
            "Transpose",
            ["pixels_unit"],
            [_inner(given.name, given.name)],
            name="pixels_planes",
            perm=[0, 3, 1, 2],
        ),
    ]
    behind = [
        helper.make_node(
            "Mul", [_inner(result.name, result.name), white], ["levels"], name="levels_multiply"
        ),
        helper.make_node("Round", ["levels"], ["levels_whole"], name="levels_round"),
        helper.make_node("Clip", ["levels_whole", black, white], ["levels_clamped"], name="levels_clamp"),
        helper.make_node(
            "Transpose", ["levels_clamped"], ["levels_last"], name="levels_planes", perm=[0, 2, 3, 1]
        ),
        helper.make_node("Cast", ["levels_last"], [result.name], name="levels_cast", to=TensorProto.UINT8),
    ]
    nodes = [*before, *graph.node, *behind]
    del graph.node[:]
    graph.node.extend(nodes)
    for value in (given, result):
        batch, channels, height, width = value.type.tensor_type.shape.dim
        dims = [onnx.TensorShapeProto.Dimension() for _ in range(4)]
        for dim, old in zip(dims, (batch, height, width, channels), strict=True):
            dim.CopyFrom(old)
        value.type.tensor_type.elem_type = TensorProto.UINT8
        del value.type.tensor_type.shape.dim[:]
        value.type.tensor_type.shape.dim.extend(dims)


def _inner(name: str, *ends: str) -> str:
    """The name that a float32 input or output has where the graph itself now takes and gives uint8."""
    return f"{name}_float" if name in ends else name


def describe(model: onnx.ModelProto, pairs: Mapping[str, str]) -> None:
    """Say these about the model, and nothing else."""
    del model.metadata_props[:]
    for key, value in pairs.items():
        model.metadata_props.add(key=key, value=value)
