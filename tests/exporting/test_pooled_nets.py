"""Nets whose attention pools windows, as files for all sizes: OpenVINO pools no map smaller than a cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from sharpkd.export import main
from sharpkd.exporting import export
from sharpkd.exporting.openvino_forms import converted
from sharpkd.exporting.tracing import traced
from sharpkd.nets.pooling import AttentionPool


class Gated(nn.Module):
    """An image times the mean of the windows around each place: nothing hides a wrong mean."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = AttentionPool(40, 1)

    def forward(self, image: Tensor) -> Tensor:
        return image * self.pool.spread(self.pool(image), image)


@torch.no_grad()
def test_windows_are_the_same_under_openvino_at_any_size() -> None:
    net = Gated().eval()
    assert net.pool.cell == 5
    run = ov.Core().compile_model(
        converted(traced(net, "Gated", 1, 20)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    for height, width in ((1, 1), (4, 3), (5, 10), (17, 31), (40, 47), (129, 65)):
        image = torch.rand(1, 3, height, width)
        np.testing.assert_allclose(run(image.numpy())[0], net(image).numpy(), atol=1e-6)


def _pooled(last: str) -> onnx.ModelProto:
    """A graph that OpenVINO, once it has computed a larger image, does not compute below 24 pixels."""
    nodes = [
        helper.make_node(
            "AveragePool", ["degraded"], ["cells"], kernel_shape=[24] * 2, strides=[24] * 2, ceil_mode=1
        ),
        helper.make_node("ReduceMean", ["cells"], ["mean"]),
        helper.make_node(last, ["degraded", "mean"], ["sharp"]),
    ]
    shape = [1, 3, None, None]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("degraded", "sharp")]
    graph = helper.make_graph(nodes, "pooled", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (
            "Add",
            "net.xml: OpenVINO cannot compute 4x4 pixels (Kernel after dilation has size (dim: 24) larger "
            "than the data shape after padding (dim: 4) at axis 0.); the file was not kept",
        ),
        (
            "Nonsense",
            "OpenVINO cannot read the net's graph (No conversion rule found for operations: Nonsense-20)",
        ),
    ],
)
def test_what_openvino_cannot_compute_is_one_line_and_leaves_no_file(
    last: str,
    said: str,
    student_checkpoint: Path,
    call: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "traced", lambda *_: _pooled(last))
    # with one thread OpenVINO says nothing, and gives the larger image's result once more
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    settings = [f"checkpoint={student_checkpoint}", "output=net.xml", "format=openvino"]
    outcome = call(main, *settings, "sizes=[[48,48],[4,4]]", "measurement_crops=1")
    assert (outcome.code, outcome.err) == (1, f"error: {said}\n")
    assert list(tmp_path.iterdir()) == []
