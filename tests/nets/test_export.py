"""One ONNX file for every size, equal to the net."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor

from sharpkd.nets.attention_teacher import AttentionTeacher
from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.base import RestorationNet
from sharpkd.nets.enhanced_cnn import EnhancedCNN
from sharpkd.nets.mobile_student import MobileStudent
from sharpkd.nets.nafnet import NAFNet
from sharpkd.nets.pixel_student import PixelStudent
from sharpkd.nets.wiener_student import WienerStudent


# torch.export uses a name of its own that torch is about to drop
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning")
@pytest.mark.parametrize(
    "build",
    [
        lambda: PixelStudent(width=4, depth=3),
        lambda: MobileStudent(unshuffle=1, width=4, blocks=1, attention_window=40),
        lambda: AttentionTeacher(width=4, depths=[1, 1], channel_attention=False),
        lambda: NAFNet(4, [1], 1, [1], attention_window=40),
        lambda: PixelStudent(width=4, depth=3, scale=3),
        lambda: EnhancedCNN(width=4, blocks=1, global_residual=True, scale=2),
        lambda: PixelStudent(width=4, depth=3, luma_only=True, rep=True),
        lambda: AwareStudent(width=4, depth=3, scale=2),
        lambda: AwareStudent(width=4, depth=3, luma_only=True).fold(torch.tensor([1.6])),
        lambda: WienerStudent(4, 4, 3, candidates=2, taps=9).fold(torch.tensor([1.6])),
    ],
    ids=[
        "pixel_student",
        "mobile_student",
        "attention_teacher",
        "nafnet",
        "pixel_student-x3",
        "cnn-x2",
        "pixel_student-luma-rep",
        "aware_student-x2",
        "aware_student-luma-folded",
        "wiener_student-folded",
    ],
)
def test_exported_graph_takes_any_size(
    build: Callable[[], RestorationNet], image: Callable[..., Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = build().eval()
    with torch.no_grad():
        last = "body.ending" if isinstance(net, NAFNet) else "tail"
        net.get_submodule(last).get_parameter("weight").mul_(300)
    dynamic = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        net, (image(64, 48),), dynamo=True, dynamic_shapes={"degraded": dynamic}, verbose=False
    )
    assert program is not None
    path = tmp_path / "net.onnx"
    program.save(path)
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    for size in ((64, 48), (1, 1), (37, 51), (2, 7), (131, 90)):
        degraded = image(*size)
        with torch.no_grad():
            expected = net(degraded)
        (output,) = session.run(None, {name: degraded.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), expected, rtol=1e-4, atol=1e-5)
