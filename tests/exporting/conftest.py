from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skimage.data
import torch
from torch import nn

from sharpkd.exporting import export
from sharpkd.exporting.export import Exported, export_net
from sharpkd.exporting.tracing import traced


@pytest.fixture(scope="package", autouse=True)
def traced_once() -> Iterator[None]:
    """PyTorch's exporter takes seconds, and most tests here export the same net: its graph is kept."""
    kept: dict[tuple[Any, ...], bytes] = {}

    def remembered(net: nn.Module, *settings: Any) -> onnx.ModelProto:
        tensors = b"".join(value.numpy().tobytes() for value in net.state_dict().values())
        key = (str(net), tensors, *settings)
        if key not in kept:
            kept[key] = traced(net, *settings).SerializeToString()
        return onnx.load_model_from_string(kept[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "traced", remembered)
        yield


@pytest.fixture(scope="package")
def quantised(student_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """The student in int8, by suffix; its random weights lose more than a trained net's."""
    target = tmp_path_factory.mktemp("int8") / "student.onnx"
    files = export_net(
        student_checkpoint,
        target,
        format="all",
        precision="int8",
        calibration_crops=8,
        crop_size=64,
        max_loss_db=1.0,
    )
    return {one.path.suffix: one for one in files}


@pytest.fixture
def photo() -> torch.Tensor:
    """``(1, 3, 37, 50)``, whole levels of 8 bits."""
    pixels = np.ascontiguousarray(skimage.data.astronaut()[100:137, 200:250].transpose(2, 0, 1)[None])
    return torch.from_numpy(pixels).float() / 255
