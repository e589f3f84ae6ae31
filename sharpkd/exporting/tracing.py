"""From PyTorch to ONNX."""

from __future__ import annotations

import warnings

import onnx
import torch
from torch import nn

INPUT, OUTPUT = "degraded", "sharp"


def traced(net: nn.Module, name: str, stride: int, opset: int) -> onnx.ModelProto:
    """A net as ONNX: float32 ``(1, 3, H, W)`` in and out, any H and W >= 1; padding is part of the graph.

    Args:
        net: in eval mode.
        name: what errors call it.
        stride: of the net, pixels.
        opset: ONNX operator set.

    Raises:
        ValueError: PyTorch's exporter returned nothing.
    """
    side = 16 * stride
    size = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        # Raised inside torch's own exporter; nothing here can avoid them.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            (torch.rand(1, 3, side, side + stride),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({2: size, 3: size},),
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ValueError(f"{name}: PyTorch's ONNX exporter returned nothing")
    model = program.model_proto
    _strip_traces(model.graph)
    return model


def _strip_traces(graph: onnx.GraphProto) -> None:
    """Remove what the exporter notes for debugging: stack traces with the paths of this machine."""
    for described in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del described.metadata_props[:]
