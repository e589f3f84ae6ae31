"""From PyTorch to ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from torch import nn

INPUT, OUTPUT = "degraded", "sharp"
OPSETS = (18, 25)
"""Those that PyTorch's exporter writes; for another it notes a traceback, and writes the first."""
TALKATIVE = ("onnxscript", "torch.onnx")


def traced(net: nn.Module, name: str, stride: int, opset: int) -> onnx.ModelProto:
    """A net as ONNX: float32 ``(1, 3, H, W)`` in and out, any H and W >= 1; padding is part of the graph.

    Args:
        net: in eval mode.
        name: what errors call it.
        stride: of the net, pixels.
        opset: ONNX operator set.

    Raises:
        ValueError: PyTorch's exporter returned nothing, or cannot write this operator set.
    """
    wrong = f"opset: found {opset}, expected {OPSETS[0]} to {OPSETS[1]}"
    if not isinstance(opset, int):
        raise ValueError(wrong)
    side = 16 * stride
    size = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings(), _silent(*TALKATIVE):
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
    written = [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")]
    if written != [opset]:
        found = ", ".join(map(str, written))
        raise ValueError(f"{wrong}: PyTorch's exporter writes this net in {found} instead")
    _strip_traces(model.graph)
    return model


@contextmanager
def _silent(*names: str) -> Iterator[None]:
    """Without what these loggers say: what matters of it is raised as an error."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _strip_traces(graph: onnx.GraphProto) -> None:
    """Remove what the exporter notes for debugging: stack traces with the paths of this machine."""
    for described in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del described.metadata_props[:]
