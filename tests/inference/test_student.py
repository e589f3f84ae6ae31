from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import skimage.data
import torch
from numpy.typing import NDArray

from sharpkd.checkpoint import load_net, save_weights
from sharpkd.inference import onnx_student, openvino_student
from sharpkd.inference.cells import Run
from sharpkd.inference.errors import ModelError
from sharpkd.inference.student import Layers, PixelFormat, Student
from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.pixel_student import PixelStudent

SHAPES: dict[str, dict[str, Any]] = {
    "fast": {"unshuffle": 4, "width": 32, "depth": 4, "luma_only": True},
    "balanced": {"unshuffle": 4, "width": 48, "depth": 6, "luma_only": True},
    "quality": {"unshuffle": 2, "width": 64, "depth": 8, "luma_only": False},
}
LIMITS = [4.0, 5.0, 60.0, 3.0]
CONDITION = (1.5, 2.0, 20.0, 1.25)
SIZES = ((1, 1), (3, 50), (37, 29), (64, 64), (101, 77))
RGB, RGB16 = PixelFormat(), PixelFormat(bits=16)
SaveAware = Callable[..., AwareStudent]
Compile = Callable[[Layers, PixelFormat], Run]
ENGINES: dict[str, Compile] = {
    "openvino": lambda layers, pixels: openvino_student.compile_student(layers, pixels, "fp32", 1),
    "onnxruntime": lambda layers, pixels: onnx_student.compile_student(layers, pixels, 1),
}


@pytest.fixture(scope="module", params=sorted(SHAPES))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, save_aware: SaveAware
) -> tuple[Student, PixelStudent]:
    """A student of each shape that ships, and the torch net that it is to be, folded."""
    path = tmp_path_factory.mktemp("pair") / "s.safetensors"
    net = save_aware(path, LIMITS, **SHAPES[request.param])
    return Student.read(path), net.fold(torch.tensor(CONDITION))


@pytest.fixture(scope="module")
def luma_pair(
    tmp_path_factory: pytest.TempPathFactory, save_aware: SaveAware
) -> tuple[Student, PixelStudent]:
    """The same of "fast"."""
    path = tmp_path_factory.mktemp("luma") / "s.safetensors"
    net = save_aware(path, LIMITS, **SHAPES["fast"])
    return Student.read(path), net.fold(torch.tensor(CONDITION))


def _photo(height: int, width: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(skimage.data.astronaut()[60 : 60 + height, 160 : 160 + width])


def _expected(net: PixelStudent, share: NDArray[Any]) -> NDArray[np.float32]:
    """(H, W, 3) in [0, 1] -> the net's output, clamped."""
    image = torch.from_numpy(share.astype(np.float32)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        return net(image)[0].clamp(0, 1).permute(1, 2, 0).numpy()


@torch.no_grad()
def test_folding_is_that_of_torch(pair: tuple[Student, PixelStudent]) -> None:
    student, net = pair
    assert student.receptive_field == net.receptive_field
    assert (student.unshuffle, student.condition_size) == (net.stride, 4)
    aware = load_net(student.file.path).net
    assert isinstance(aware, AwareStudent)
    for condition in (CONDITION, (0.0, 0.0, 0.0, 0.0), (9.0, 1.0, 70.0, -1.0, 5.0)):
        layers, state = student.fold(condition), aware.fold(torch.tensor(condition)).state_dict()
        for i in range(net.depth - 1):
            np.testing.assert_allclose(layers.weights[i], state[f"body.{2 * i}.weight"], atol=1e-6)
            np.testing.assert_allclose(layers.biases[i], state[f"body.{2 * i}.bias"], atol=1e-6)
            np.testing.assert_array_equal(layers.slopes[i], state[f"body.{2 * i + 1}.weight"])
        np.testing.assert_array_equal(layers.weights[-1], state["tail.weight"])
        np.testing.assert_array_equal(layers.biases[-1], state["tail.bias"])
    with pytest.raises(ValueError, match="condition: expected at least 4 numbers, found 3"):
        student.fold((1.0, 2.0, 3.0))


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_pictures_of_8_bits_are_those_of_torch(engine: str, pair: tuple[Student, PixelStudent]) -> None:
    student, net = pair
    run = ENGINES[engine](student.fold(CONDITION).for_pixels(RGB), RGB)
    for size in SIZES:
        photo = _photo(*size)
        expected = _expected(net, photo / 255) * 255
        result = run(photo)
        assert result.dtype == np.uint8
        assert result.shape == photo.shape
        # Half a level of rounding, and what sums of floats differ by.
        assert np.abs(result - expected).max() <= 0.51
    assert np.abs(expected - photo).max() > 10, "the net must change the picture, or this shows nothing"


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_pictures_of_16_bits_are_those_of_torch(engine: str, pair: tuple[Student, PixelStudent]) -> None:
    student, net = pair
    run = ENGINES[engine](student.fold(CONDITION).for_pixels(RGB16), RGB16)
    noise = np.random.default_rng(0).integers(0, 257, (37, 29, 3))
    photo = (_photo(37, 29).astype(np.int64) * 256 + noise).clip(0, 65535).astype(np.uint16)
    result = run(photo)
    assert result.dtype == np.uint16
    # 24 bits of a float, over the range of 16.
    assert np.abs(result - _expected(net, photo / 65535) * 65535).max() < 2


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_strength_is_a_mixture_of_input_and_output(engine: str, pair: tuple[Student, PixelStudent]) -> None:
    student, net = pair
    photo = _photo(37, 29)
    image = torch.from_numpy(photo.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.inference_mode():
        output = net(image)[0].permute(1, 2, 0).numpy() * 255
    for strength in (0.0, 0.5, 2.0):
        for form, factor in ((RGB, 1), (RGB16, 257)):
            run = ENGINES[engine](student.fold(CONDITION).for_pixels(form, strength), form)
            expected = np.clip(photo + strength * (output - photo), 0, 255) * factor
            given = (photo * np.array(factor)).astype(form.dtype)
            assert np.abs(run(given) - expected).max() <= 2
            if strength == 0:
                np.testing.assert_array_equal(run(given), given)


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("form", [PixelFormat(1), PixelFormat(1, 8, True), PixelFormat(1, 10, True)])
def test_luma_alone_is_the_luma_of_a_grey_picture(
    form: PixelFormat, engine: str, luma_pair: tuple[Student, PixelStudent]
) -> None:
    student, net = luma_pair
    photo = _photo(37, 30)[..., :1] / 255
    plane = np.rint(form.black + photo * (form.white - form.black)).astype(form.dtype)
    share = (plane.astype(np.float64) - form.black) / (form.white - form.black)
    with torch.inference_mode():
        grey = np.repeat(share, 3, axis=2).transpose(2, 0, 1)[None].astype(np.float32)
        output = net(torch.from_numpy(grey))[0, :1].permute(1, 2, 0).numpy()
    expected = np.clip(output * (form.white - form.black) + form.black, 0, form.top)
    result = ENGINES[engine](student.fold(CONDITION).for_pixels(form), form)(plane)
    assert result.dtype == form.dtype
    assert np.abs(result - expected).max() <= 0.52
    still = ENGINES[engine](student.fold(CONDITION).for_pixels(form, 0), form)
    np.testing.assert_array_equal(still(plane), plane)


def test_what_bf16_costs(pair: tuple[Student, PixelStudent], capsys: pytest.CaptureFixture[str]) -> None:
    """Against fp32, on a blurred photograph. The nets' changes are as large as trained ones'."""
    precision = openvino_student.fast_precisions()[0]
    if precision == "fp32":
        pytest.skip("this CPU computes in fp32 alone under OpenVINO")
    student, _ = pair
    layers = student.fold(CONDITION).for_pixels(RGB)
    photo = cv2.GaussianBlur(skimage.data.coffee()[:301, :403], (0, 0), 1.5)
    exact = openvino_student.compile_student(layers, RGB, "fp32", 1)(photo).astype(float)
    fast = openvino_student.compile_student(layers, RGB, precision, 1)(photo)
    psnr = _psnr(exact, fast)
    with capsys.disabled():
        print(f" {precision} to fp32: {psnr:.1f} dB (the net's change: {_psnr(exact, photo):.1f} dB)")
    assert psnr > 55


def _psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / np.square(one - other.astype(float)).mean()))


@pytest.mark.parametrize("form", [RGB, RGB16, PixelFormat(1, 8, True)])
def test_the_onnx_file_passes_the_checker(form: PixelFormat, luma_pair: tuple[Student, PixelStudent]) -> None:
    model = onnx.load_from_string(
        onnx_student.onnx_model(luma_pair[0].fold(CONDITION).for_pixels(form), form)
    )
    onnx.checker.check_model(model, full_check=True)
    sizes = [size.dim_param or size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [1, "rows", 4, "columns", 4 * form.channels]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 4
    assert {tuple(node.attribute[0].ints) for node in convolutions} == {(1, 1, 1, 1)}


def test_what_cannot_run_here_is_refused(tmp_path: Path, luma_pair: tuple[Student, PixelStudent]) -> None:
    path = tmp_path / "other.safetensors"
    net = PixelStudent(width=4, depth=3, rep=True)
    target = {"_target_": "sharpkd.nets.pixel_student.PixelStudent"}
    save_weights(path, {**target, "width": 4, "depth": 3, "rep": True}, net.state_dict(), {})
    with pytest.raises(ModelError, match=r"holds a sharpkd.nets.pixel_student.PixelStudent that needs torch"):
        Student.read(path)
    plain = PixelStudent(width=4, depth=3).state_dict()
    save_weights(path, {**target, "width": 5, "depth": 3}, plain, {})
    message = r"do not fit .*PixelStudent: body.0.bias is \(4,\), expected \(5,\)"
    with pytest.raises(ModelError, match=message):
        Student.read(path)
    save_weights(path, {**target, "width": 4, "depth": 3, "breadth": 1}, plain, {})
    with pytest.raises(ModelError, match="PixelStudent has no argument breadth"):
        Student.read(path)
    save_weights(path, {**target, "width": 4, "depth": 3}, plain, {})
    layers = Student.read(path).fold()
    with pytest.raises(
        ValueError, match="a net of RGB cannot run on luma alone; use a student with luma_only"
    ):
        layers.for_pixels(PixelFormat(1))
    missing = {"bf16", "fp16"} - set(openvino_student.fast_precisions())
    for precision in missing:
        with pytest.raises(ModelError, match=re.escape(f"this CPU does not compute in {precision} under")):
            openvino_student.compile_student(layers.for_pixels(RGB), RGB, precision)
