from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from sharpkd.inference.engine import ModelInfo, metadata_of

if TYPE_CHECKING:
    from sharpkd.nets.aware_student import AwareStudent


def _save_onnx(
    path: Path,
    operator: str,
    info: ModelInfo | None,
    changed: Mapping[str, str] | None = None,
    shape: Sequence[int | str] = (1, 3, "height", "width"),
) -> Path:
    """A graph of one operator, with the metadata of ``info``, of which some is ``changed``."""
    graph = helper.make_graph(
        [helper.make_node(operator, ["image"], ["result"])],
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    for key, value in {**(metadata_of(info) if info else {}), **(changed or {})}.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def save_onnx() -> Callable[..., Path]:
    """Write an ONNX file of one operator."""
    return _save_onnx


@pytest.fixture(scope="session")
def identity_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that returns its input."""
    path = tmp_path_factory.mktemp("identity") / "identity.onnx"
    return _save_onnx(path, "Identity", ModelInfo(path=path, net="Identity", receptive_field=1))


def _save_aware(
    path: Path, limits: list[float], metadata: Mapping[str, str] | None = None, **arguments: Any
) -> AwareStudent:
    """A student that is told the condition, with weights that visibly change an image, and its file."""
    from sharpkd.checkpoint import save_weights
    from sharpkd.nets.aware_student import AwareStudent

    torch.manual_seed(0)
    given = {**arguments, "condition_limits": limits}
    net = AwareStudent(**given).eval()
    with torch.no_grad():
        net.tail.weight.normal_(std=0.04)
        torch.nn.init.normal_(net.get_parameter("tail.bias"), std=0.02)
        net.get_parameter("modulation.body.2.weight").normal_(std=0.05)
        for i in range(net.depth - 1):
            net.get_parameter(f"body.{2 * i + 1}.weight").uniform_(-0.2, 0.4)
    save_weights(
        path,
        {"_target_": f"{AwareStudent.__module__}.AwareStudent", **given},
        net.state_dict(),
        metadata or {},
    )
    return net


@pytest.fixture(scope="session")
def save_aware() -> Callable[..., AwareStudent]:
    """Write a student that is told the condition; its limits and arguments as given."""
    return _save_aware


@pytest.fixture(scope="session")
def aware_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small student of luma alone that is told sigma and noise, as the packaged estimator gives them."""
    path = tmp_path_factory.mktemp("aware") / "aware.safetensors"
    _save_aware(path, [4.0, 5.0], unshuffle=4, width=16, depth=3, luma_only=True)
    return path


@pytest.fixture(scope="session")
def mobile_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net that only torch runs, and that looks at the whole image."""
    from sharpkd.checkpoint import save_weights
    from sharpkd.nets.mobile_student import MobileStudent

    path = tmp_path_factory.mktemp("mobile") / "mobile.safetensors"
    net = MobileStudent(width=8, blocks=1)
    assert net.receptive_field is None
    config = {"_target_": "sharpkd.nets.mobile_student.MobileStudent", "width": 8, "blocks": 1}
    save_weights(path, config, net.state_dict(), {})
    return path


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """``(101, 77, 3)``: part of the astronaut, with odd sides."""
    return np.ascontiguousarray(skimage.data.astronaut()[60:161, 160:237])
