"""A student under ONNX Runtime: integer pixels in, integer pixels out, on the CPU, in fp32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.cells import Run, on_cells
from sharpkd.inference.onnx_file import FLOAT, UINT8, Graph, Value
from sharpkd.inference.student import LUMA, Layers, PixelFormat
from sharpkd.inference.wiener import Details


def compile_student(layers: Layers, pixels: PixelFormat, threads: int | None = None) -> Run:
    """What sharpens pixels with these layers; as `sharpkd.inference.openvino_student.compile_student`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads

    def compiled(model: bytes, *names: str) -> Callable[..., NDArray[Any]]:
        session = onnxruntime.InferenceSession(
            model, sess_options=options, providers=["CPUExecutionProvider"]
        )

        def run(*given: NDArray[Any]) -> NDArray[Any]:
            (result,) = session.run(None, dict(zip(names, given, strict=True)))
            return result

        return run

    if layers.details is None:
        return on_cells(compiled(onnx_model(layers, pixels), "cells"), layers.unshuffle, pixels)
    filters = compiled(filter_model(layers.details, layers.unshuffle, pixels), "picture")
    net = compiled(onnx_model(layers, pixels), "cells", "details")
    return on_cells(net, layers.unshuffle, pixels, filters, layers.details.reach)


def onnx_model(layers: Layers, pixels: PixelFormat) -> bytes:
    """The graph: ``(1, h, r, w, r·C)`` -> the same, uint8 sharpened or float32 what is to be added.

    With filters it also takes ``details``, what `filter_model` gives.
    """
    r, deep = layers.unshuffle, layers.unshuffle * pixels.channels
    in_graph = pixels.bits == 8
    shape: Sequence[int | str] = [1, "rows", r, "columns", deep]
    element = UINT8 if in_graph else FLOAT
    inputs: dict[str, Value] = {"cells": (shape, element)}
    if layers.details is not None:
        inputs["details"] = ([1, layers.details.channels, "rows", "columns"], FLOAT)
    graph = Graph(inputs)

    def reshaped(node: str, *shape: int) -> str:
        return graph.add("Reshape", [node, graph.constant(np.array(shape, np.int64))])

    def scalar(value: float) -> str:
        return graph.constant(np.array(value, np.float32))

    node = reshaped(graph.add("Transpose", ["cells"], perm=[0, 1, 3, 2, 4]), 0, 0, 0, r * deep)
    node = graph.add("Transpose", [node], perm=[0, 3, 1, 2])
    picture = node = graph.add("Cast", [node], to=FLOAT) if in_graph else node
    if pixels.black:
        node = graph.add("Sub", [node, scalar(pixels.black)])
    if layers.details is not None:
        node = graph.add("Concat", [node, "details"], axis=1)
    for i, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        node = graph.add("Conv", [node, graph.constant(weight), graph.constant(bias)], pads=[1, 1, 1, 1])
        if i < len(layers.slopes):
            node = graph.add("PRelu", [node, graph.constant(layers.slopes[i].reshape(-1, 1, 1))])
    if layers.details is not None:
        added = "details"
        if not layers.details.adds_all:
            added = graph.add("Gather", ["details", graph.constant(layers.details.added)], axis=1)
        node = graph.add("Add", [node, graph.add("Mul", [added, scalar(layers.details.strength)])])
    if in_graph:
        node = graph.add("Round", [graph.add("Add", [node, picture])])
        node = graph.add("Clip", [node, scalar(0), scalar(pixels.top)])
        node = graph.add("Cast", [node], to=UINT8)
    node = reshaped(graph.add("Transpose", [node], perm=[0, 2, 3, 1]), 0, 0, 0, r, deep)
    return graph.model(graph.add("Transpose", [node], perm=[0, 1, 3, 2, 4]), shape, element)


def filter_model(details: Details, unshuffle: int, pixels: PixelFormat) -> bytes:
    """The graph: ``(1, H, W, C)`` pixels, their edges mirrored -> ``(1, n, h, w)`` of `Details`."""
    element = UINT8 if pixels.bits == 8 else FLOAT
    graph = Graph({"picture": ([1, "height", "width", pixels.channels], element)})
    planes = graph.add("Transpose", ["picture"], perm=[3, 0, 1, 2])
    if element == UINT8:
        planes = graph.add("Cast", [planes], to=FLOAT)
    made = []
    for kernels, of_luma in ((details.colours, False), (details.luma, True)):
        if kernels is None:
            continue
        seen = planes
        if of_luma and pixels.channels == 3:
            shares = graph.constant(np.array(LUMA, np.float32).reshape(3, 1, 1, 1))
            axes = graph.constant(np.array([0], np.int64))
            seen = graph.add("ReduceSum", [graph.add("Mul", [planes, shares]), axes], keepdims=1)
        node = graph.add("Conv", [seen, graph.constant(kernels)], strides=[unshuffle, unshuffle])
        if not of_luma:
            # (C, k·r·r, h, w) -> (1, C·k·r·r, h, w), with h and w unknown
            node = graph.add("Transpose", [node], perm=[2, 3, 0, 1])
            flat = graph.constant(np.array([0, 0, 1, -1], np.int64))
            node = graph.add("Transpose", [graph.add("Reshape", [node, flat])], perm=[2, 3, 0, 1])
        made.append(node)
    node = made[0] if len(made) == 1 else graph.add("Concat", made, axis=1)
    return graph.model(node, [1, details.channels, "rows", "columns"], FLOAT)
