"""What a quantised net keeps in float: all that lies before its second and behind its last but one layer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import onnx
import openvino as ov

ONNX_LAYERS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
OPENVINO_LAYERS = {
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
    "MatMul",
}
SHAPES = {"Shape", "Size", "ShapeOf"}
"""What follows them are sizes, not pixels."""


@dataclass(frozen=True)
class Operator:
    """One node of a graph.

    Attributes:
        name: unlike that of any other.
        inputs: names of the operators whose results it takes.
        is_layer: whether it is a convolution or a multiplication of matrices.
        from_image, to_output: whether it takes the image itself, gives the output itself.
    """

    name: str
    inputs: list[str] = field(default_factory=list)
    is_layer: bool = False
    from_image: bool = False
    to_output: bool = False


def kept_in_float(operators: Collection[Operator]) -> list[str]:
    """Names of all operators that a path without another layer joins to the image or to the output.

    They are the first layers with what prepares the image for them, such as luma and fixed filters, the last
    with what is done to their result, and the global residual's Add: what passes there is the picture itself,
    which eight bits for each tensor, rounded twice, would coarsen.

    Raises:
        ValueError: no layer lies between the first and the last, so there is nothing to quantise.
    """
    takers: dict[str, list[str]] = {one.name: [] for one in operators}
    for one in operators:
        for given in one.inputs:
            takers[given].append(one.name)
    before = _reached({one.name for one in operators if one.from_image}, takers, operators)
    givers = {one.name: one.inputs for one in operators}
    behind = _reached({one.name for one in operators if one.to_output}, givers, operators)
    if all(one.name in before | behind for one in operators if one.is_layer):
        raise ValueError(
            "precision=int8: no convolution lies between the first and the last, which stay in float, so "
            "there is nothing to quantise; use precision=fp16"
        )
    return [one.name for one in operators if one.name in before | behind]


def _reached(
    starts: set[str], neighbours: Mapping[str, Iterable[str]], operators: Iterable[Operator]
) -> set[str]:
    """What can be reached without going through a layer."""
    layers = {one.name for one in operators if one.is_layer}
    reached, waiting = set(starts), list(starts)
    while waiting:
        name = waiting.pop()
        if name not in layers:
            new = set(neighbours[name]) - reached
            reached |= new
            waiting += new
    return reached


def operators_of_onnx(model: onnx.ModelProto) -> list[Operator]:
    """Those that compute pixels, in the graph's order."""
    graph = model.graph
    images, outputs = {one.name for one in graph.input}, {one.name for one in graph.output}
    source: dict[str, str] = {}
    found = []
    for node in graph.node:
        if node.op_type in SHAPES:
            continue
        inputs = [source[one] for one in node.input if one in source]
        from_image = any(one in images for one in node.input)
        if not inputs and not from_image:
            continue
        source |= dict.fromkeys(node.output, node.name)
        to_output = any(one in outputs for one in node.output)
        found.append(Operator(node.name, inputs, node.op_type in ONNX_LAYERS, from_image, to_output))
    return found


def operators_of_openvino(model: ov.Model) -> list[Operator]:
    """Those that compute pixels, in the graph's order."""
    found: dict[str, Operator] = {}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind in SHAPES or kind in ("Parameter", "Result"):
            continue
        givers = [one.get_node() for one in node.input_values()]
        inputs = [one.get_friendly_name() for one in givers if one.get_friendly_name() in found]
        from_image = any(one.get_type_name() == "Parameter" for one in givers)
        if not inputs and not from_image:
            continue
        takers = [one.get_node() for out in node.outputs() for one in out.get_target_inputs()]
        to_output = any(one.get_type_name() == "Result" for one in takers)
        name = node.get_friendly_name()
        found[name] = Operator(name, inputs, kind in OPENVINO_LAYERS, from_image, to_output)
    return list(found.values())
