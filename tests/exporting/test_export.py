"""Formats, precisions and pixels, each beside PyTorch, under the runtimes themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from sharpkd.checkpoint import file_sha256, load_net, save_weights
from sharpkd.exporting.export import Exported, export_net
from sharpkd.inference.exported import OnnxEngine, OpenVinoEngine
from sharpkd.nets.filtered_student import FilteredStudent
from sharpkd.nets.wiener_student import WienerStudent

SIZES = ((1, 1), (3, 2), (19, 31), (63, 97), (129, 65))


def run(path: Path, image: np.ndarray) -> np.ndarray:
    """The file's output, without anything of this project."""
    if path.suffix == ".onnx":
        (output,) = onnxruntime.InferenceSession(str(path)).run(None, {"degraded": image})
        return output
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled({"degraded": image})["sharp"]


def computed(net: nn.Module, image: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return net(image).numpy()


def test_both_formats_compute_the_net_at_any_size(student_checkpoint: Path, tmp_path: Path) -> None:
    files = export_net(student_checkpoint, tmp_path / "net.xml", format="all")
    assert [one.path.name for one in files] == ["net.onnx", "net.xml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.bin", "net.onnx", "net.xml"]
    net = load_net(student_checkpoint).net
    for height, width in SIZES:
        image = torch.rand(1, 3, height, width)
        for one in files:
            assert one.max_error < 1e-4
            np.testing.assert_allclose(run(one.path, image.numpy()), computed(net, image), atol=1e-5)


def test_an_ir_says_what_it_is_and_names_no_path_of_this_machine(
    student_checkpoint: Path, tmp_path: Path
) -> None:
    (one,) = export_net(student_checkpoint, tmp_path / "net.xml", format="openvino", precision="fp16")
    text = one.path.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert ".py" not in text
    model = ov.Core().read_model(one.path)
    said = {key: model.get_rt_info(["sharpkd", key]).astype(str) for key in ("net", "sha256", "precision")}
    assert said == {
        "net": "sharpkd.nets.pixel_student.PixelStudent",
        "sha256": file_sha256(student_checkpoint),
        "precision": "fp16",
    }
    noted = json.loads(model.get_rt_info(["sharpkd", "metadata"]).astype(str))
    assert noted == {"run": "a test", "licence": "MIT"}
    assert json.loads(model.get_rt_info(["sharpkd", "args"]).astype(str)) == {
        "unshuffle": 2,
        "width": 8,
        "depth": 3,
    }


def test_a_checkpoints_own_licence_counts(student_checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_net(student_checkpoint)
    path = tmp_path / "net.safetensors"
    save_weights(path, loaded.config, loaded.net.state_dict(), {"licence": "CC-BY-4.0"})
    assert OnnxEngine(export_net(path)[0].path).info.metadata["licence"] == "CC-BY-4.0"


def test_fp16_is_the_net_with_rounded_weights(student_checkpoint: Path, tmp_path: Path) -> None:
    files = export_net(student_checkpoint, tmp_path / "half.onnx", format="all", precision="fp16")
    exact = load_net(student_checkpoint).net
    rounded = load_net(student_checkpoint).net
    rounded.load_state_dict({key: value.half().float() for key, value in exact.state_dict().items()})
    image = torch.rand(1, 3, 63, 97)
    assert np.abs(computed(rounded, image) - computed(exact, image)).max() > 2e-5
    for one in files:
        np.testing.assert_allclose(run(one.path, image.numpy()), computed(rounded, image), atol=2e-6)
    tensors = {one.name: one.data_type for one in onnx.load(tmp_path / "half.onnx").graph.initializer}
    assert tensors["body.0.weight_fp16"] == onnx.TensorProto.FLOAT16
    halved = 2 * sum(value.numel() for value in exact.state_dict().values())
    assert halved <= (tmp_path / "half.bin").stat().st_size < 1.5 * halved


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_uint8_pixels_are_converted_clamped_and_rounded_in_the_graph(
    precision: Any, student_checkpoint: Path, photo: Tensor, tmp_path: Path
) -> None:
    # a strong net, so that the clamp has something to do
    loaded = load_net(student_checkpoint)
    loaded.net.get_parameter("tail.weight").data.mul_(20)
    path = tmp_path / "strong.safetensors"
    save_weights(path, loaded.config, loaded.net.state_dict(), {})
    files = export_net(path, format="all", precision=precision, pixels="uint8", max_error=0.1)
    behind = "" if precision == "fp32" else "_fp16"
    assert [one.path.name for one in files] == [f"strong{behind}_uint8.onnx", f"strong{behind}_uint8.xml"]
    exact = 255 * computed(loaded.net, photo)
    assert (exact < -1).any()
    assert (exact > 256).any()
    expected = np.rint(np.clip(exact, 0, 255))[0].transpose(1, 2, 0)
    pixels = np.rint(255 * photo.numpy()).astype(np.uint8).transpose(0, 2, 3, 1)
    for one in files:
        found = run(one.path, pixels)
        assert (found.dtype, found.shape) == (np.uint8, (1, 37, 50, 3))
        # another level only where the exact one lies between two
        differs = found[0] != expected
        assert np.abs(found[0].astype(int) - expected).max() <= 1
        slack = 1e-3 if precision == "fp32" else 0.5
        between = np.abs(np.abs(exact[0].transpose(1, 2, 0) % 1) - 0.5) < slack
        assert not (differs & ~between).any()
    assert run(files[0].path, pixels[:, :1, :1]).shape == (1, 1, 1, 3)
    assert run(files[1].path, pixels[:, :1, :1]).shape == (1, 1, 1, 3)


def test_int8_leaves_the_first_and_the_last_convolution_and_the_residual_in_float(
    quantised: dict[str, Exported], student_checkpoint: Path
) -> None:
    state = load_net(student_checkpoint).net.state_dict()
    graph = onnx.load(quantised[".onnx"].path).graph
    tensors = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    source = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    kinds = [[getattr(source.get(one), "op_type", "") for one in node.input[:2]] for node in convolutions]
    assert [kind == ["DequantizeLinear", "DequantizeLinear"] for kind in kinds] == [False, True, False]
    np.testing.assert_array_equal(tensors[convolutions[0].input[1]], state["body.0.weight"].numpy())
    np.testing.assert_array_equal(tensors[convolutions[2].input[1]], state["tail.weight"].numpy())
    assert tensors[source[convolutions[1].input[1]].input[0]].dtype == np.int8
    (residual,) = [
        node
        for node in graph.node
        if node.op_type == "Add"
        and "DepthToSpace" in [getattr(source.get(one), "op_type", "") for one in node.input]
    ]
    assert "DequantizeLinear" not in [getattr(source.get(one), "op_type", "") for one in residual.input]

    model = ov.Core().read_model(quantised[".xml"].path)
    fakes = [one for one in model.get_ordered_ops() if one.get_type_name() == "FakeQuantize"]
    takers = {pin.get_node().get_type_name() for one in fakes for pin in one.output(0).get_target_inputs()}
    assert (len(fakes), takers) == (1, {"Convolution"})


def test_int8_is_near_the_net_and_both_formats_agree(
    quantised: dict[str, Exported], student_checkpoint: Path, photo: Tensor
) -> None:
    expected = computed(load_net(student_checkpoint).net, photo)
    outputs = [run(one.path, photo.numpy()) for one in quantised.values()]
    for one, output in zip(quantised.values(), outputs, strict=True):
        assert 1e-4 < np.abs(output - expected).max() < 0.05
        assert 1e-4 < one.max_error < 0.05
    assert np.abs(outputs[0] - outputs[1]).max() < 0.02
    for kind, engine in ((".onnx", OnnxEngine), (".xml", OpenVinoEngine)):
        opened = engine(quantised[kind].path)
        assert opened.info.precision == "int8"
        assert opened.precision == {".onnx": "fp32", ".xml": "int8"}[kind]


def test_int8_with_pixels(student_checkpoint: Path, photo: Tensor, tmp_path: Path) -> None:
    files = export_net(
        student_checkpoint,
        tmp_path / "net.onnx",
        format="all",
        precision="int8",
        pixels="uint8",
        calibration_crops=4,
        crop_size=64,
        max_loss_db=1.0,
    )
    expected = np.clip(computed(load_net(student_checkpoint).net, photo), 0, 1)[0].transpose(1, 2, 0)
    pixels = np.rint(255 * photo.numpy()).astype(np.uint8).transpose(0, 2, 3, 1)
    for one in files:
        found = run(one.path, pixels)
        assert found.dtype == np.uint8
        assert np.abs(found[0] / 255 - expected).max() < 0.05


def test_nets_behind_filters_keep_those_in_float(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"width": 6, "depth": 4, "luma_only": True, "filter_chroma": True}
    arguments |= {"candidates": 2, "taps": 9, "hidden": 4, "condition_limits": [4.0, 2.5]}
    torch.manual_seed(0)
    net = WienerStudent(**arguments).eval()
    nn.init.normal_(net.tail.weight, std=0.05)
    checkpoint = tmp_path / "wiener.safetensors"
    config = {"_target_": "sharpkd.nets.wiener_student.WienerStudent", **arguments}
    save_weights(checkpoint, config, net.state_dict(), {})
    files = export_net(
        checkpoint,
        format="all",
        precision="int8",
        condition=[1.2, 0.5],
        calibration_crops=4,
        crop_size=64,
        max_loss_db=1.0,
    )
    image = torch.rand(1, 3, 37, 50)
    with torch.inference_mode():
        expected = net(image, torch.tensor([[1.2, 0.5]])).numpy()
    for one in files:
        assert np.abs(run(one.path, image.numpy()) - expected).max() < 0.15
    info = OnnxEngine(files[0].path).info
    assert info.net == "sharpkd.nets.filtered_student.FilteredStudent"
    assert info.args == net.fold(torch.tensor([1.2, 0.5])).arguments()
    assert FilteredStudent(**info.args).receptive_field == info.receptive_field
    model = ov.Core().read_model(files[1].path)
    fakes = [one for one in model.get_ordered_ops() if one.get_type_name() == "FakeQuantize"]
    # of four convolutions and two kinds of filters, the two in the middle
    assert len(fakes) == 2


def test_the_quality_that_is_reported_is_the_pictures(
    quantised: dict[str, Exported], student_checkpoint: Path
) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    from sharpkd.data.degradation import GaussianBlur
    from sharpkd.exporting.examples import examples_of

    crops = examples_of(None, GaussianBlur((0.3, 3.2)), calibration=0, measurement=12, side=64).measurement
    net = load_net(student_checkpoint).net
    for one in quantised.values():
        scores = []
        for crop in crops:
            given = np.ascontiguousarray(crop.degraded.transpose(2, 0, 1)[None], np.float32) / 255
            outputs = (computed(net, torch.from_numpy(given)), run(one.path, given))
            pictures = [np.rint(255 * np.clip(output, 0, 1)).astype(np.uint8) for output in outputs]
            scores.append(
                [peak_signal_noise_ratio(crop.sharp, picture[0].transpose(1, 2, 0)) for picture in pictures]
            )
        trained, exported = np.mean(scores, axis=0)
        assert one.quality.images == 12
        assert one.quality.trained == pytest.approx(trained, abs=1e-3)
        assert one.quality.exported == pytest.approx(exported, abs=1e-3)
        assert one.quality.loss == pytest.approx(trained - exported, abs=1e-3)


def test_what_loses_too_much_is_refused(
    quantised: dict[str, Exported], student_checkpoint: Path, tmp_path: Path
) -> None:
    loss = quantised[".onnx"].quality
    settings: Any = {"precision": "int8", "calibration_crops": 8, "crop_size": 64}
    message = (
        f"net.onnx: int8 costs {loss.loss:.3f} dB ({loss.exported:.2f} instead of {loss.trained:.2f} dB on "
        f"12 degraded crops), more than max_loss_db={loss.loss - 1e-3:g}; the file was not kept"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        export_net(
            student_checkpoint,
            tmp_path / "net.onnx",
            format="all",
            max_loss_db=loss.loss - 1e-3,
            **settings,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pixels", "behind"), [("float32", ""), ("uint8", " and half a level")], ids=["float32", "uint8"]
)
@pytest.mark.parametrize("kind", ["onnx", "xml"])
def test_what_computes_something_else_is_refused(
    kind: str, pixels: Any, behind: str, student_checkpoint: Path, tmp_path: Path
) -> None:
    pattern = (
        rf"^net\.{kind}: the exported net differs from the trained one by \d\.\d\de-0\d, more than "
        rf"max_error=-1{behind}; the file was not kept$"
    )
    format: Any = {"onnx": "onnx", "xml": "openvino"}[kind]
    with pytest.raises(ValueError, match=pattern):
        export_net(student_checkpoint, tmp_path / f"net.{kind}", format=format, pixels=pixels, max_error=-1.0)
    assert list(tmp_path.iterdir()) == []
