"""A student under ONNX Runtime: integer pixels in, integer pixels out, on the CPU, in fp32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.cells import Run, on_cells
from sharpkd.inference.onnx_file import FLOAT, UINT8, Graph
from sharpkd.inference.student import Layers, PixelFormat


def compile_student(layers: Layers, pixels: PixelFormat, threads: int | None = None) -> Run:
    """What sharpens pixels with these layers; as `sharpkd.inference.openvino_student.compile_student`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        onnx_model(layers, pixels), sess_options=options, providers=["CPUExecutionProvider"]
    )

    def run(cells: NDArray[Any]) -> NDArray[Any]:
        (result,) = session.run(None, {"cells": cells})
        return result

    return on_cells(run, layers.unshuffle, pixels)


def onnx_model(layers: Layers, pixels: PixelFormat) -> bytes:
    """The graph: ``(1, h, r, w, r·C)`` -> the same, uint8 sharpened or float32 what is to be added."""
    r, deep = layers.unshuffle, layers.unshuffle * pixels.channels
    in_graph = pixels.bits == 8
    graph = Graph([1, "rows", r, "columns", deep], UINT8 if in_graph else FLOAT)

    def reshaped(node: str, *shape: int) -> str:
        return graph.add("Reshape", [node, graph.constant(np.array(shape, np.int64))])

    def scalar(value: float) -> str:
        return graph.constant(np.array(value, np.float32))

    node = reshaped(graph.add("Transpose", ["cells"], perm=[0, 1, 3, 2, 4]), 0, 0, 0, r * deep)
    node = graph.add("Transpose", [node], perm=[0, 3, 1, 2])
    picture = node = graph.add("Cast", [node], to=FLOAT) if in_graph else node
    if pixels.black:
        node = graph.add("Sub", [node, scalar(pixels.black)])
    for i, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        node = graph.add("Conv", [node, graph.constant(weight), graph.constant(bias)], pads=[1, 1, 1, 1])
        if i < len(layers.slopes):
            node = graph.add("PRelu", [node, graph.constant(layers.slopes[i].reshape(-1, 1, 1))])
    if in_graph:
        node = graph.add("Round", [graph.add("Add", [node, picture])])
        node = graph.add("Clip", [node, scalar(0), scalar(pixels.top)])
        node = graph.add("Cast", [node], to=UINT8)
    node = reshaped(graph.add("Transpose", [node], perm=[0, 2, 3, 1]), 0, 0, 0, r, deep)
    return graph.model("cells", graph.add("Transpose", [node], perm=[0, 1, 3, 2, 4]))
