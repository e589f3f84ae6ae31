from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skimage.data
import torch
from numpy.typing import NDArray

from sharpkd.checkpoint import save_weights
from sharpkd.inference import onnx_student, openvino_student
from sharpkd.inference.cells import Run
from sharpkd.inference.engine import EngineName, open_engine
from sharpkd.inference.errors import ModelError
from sharpkd.inference.sharpener import Sharpener
from sharpkd.inference.student import Layers, PixelFormat, Student
from sharpkd.nets.filtered_student import FilteredStudent
from sharpkd.nets.pixel_student import PixelStudent
from sharpkd.nets.wiener_student import WienerStudent

LIMITS = [4.0, 2.5, 1.5, 3.0]
SHAPES: dict[str, dict[str, Any]] = {
    "fast": {"unshuffle": 4, "width": 8, "depth": 4, "luma_only": True, "candidates": 1, "taps": 21},
    "balanced": {
        "unshuffle": 4,
        "width": 8,
        "depth": 5,
        "luma_only": True,
        "candidates": 2,
        "taps": 31,
        "filter_chroma": True,
    },
    "quality": {"unshuffle": 2, "width": 8, "depth": 6, "luma_only": False, "candidates": 3, "taps": 31},
}
CONDITION = (1.5, 1.0, 0.5, 1.25)
SIZES = ((1, 1), (1, 30), (33, 1), (3, 50), (37, 29))
RGB, RGB16 = PixelFormat(), PixelFormat(bits=16)
ENGINES: dict[str, Callable[[Layers, PixelFormat], Run]] = {
    "openvino": lambda layers, pixels: openvino_student.compile_student(layers, pixels, "fp32", 1),
    "onnxruntime": lambda layers, pixels: onnx_student.compile_student(layers, pixels, 1),
}
NAME = "sharpkd.nets.wiener_student.WienerStudent"


def _save(path: Path, shape: str) -> WienerStudent:
    """A small student whose filters and layers both change a picture visibly, and its file."""
    torch.manual_seed(0)
    given = {**SHAPES[shape], "condition_limits": LIMITS, "hidden": 8}
    net = WienerStudent(**given).eval()
    with torch.no_grad():
        net.tail.weight.normal_(std=0.04)
        net.get_parameter("modulation.body.2.weight").normal_(std=0.05)
        net.get_parameter("ratio.2.weight").normal_(std=0.3)
        for i in range(net.depth - 1):
            net.get_parameter(f"body.{2 * i + 1}.weight").uniform_(-0.2, 0.4)
    save_weights(path, {"_target_": NAME, **given}, net.state_dict(), {})
    return net


Trio = tuple[Student, WienerStudent, PixelStudent]


@pytest.fixture(scope="module", params=sorted(SHAPES))
def trio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trio:
    """A file's student, the net that is in it, and that net folded."""
    path = tmp_path_factory.mktemp("trio") / "s.safetensors"
    net = _save(path, request.param)
    return Student.read(path), net, net.fold(torch.tensor(CONDITION))


@pytest.fixture(scope="module", params=["fast", "balanced"])
def luma_trio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trio:
    """Those of luma alone."""
    path = tmp_path_factory.mktemp("luma") / "s.safetensors"
    net = _save(path, request.param)
    return Student.read(path), net, net.fold(torch.tensor(CONDITION))


def _photo(height: int, width: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(skimage.data.astronaut()[60 : 60 + height, 160 : 160 + width])


def _output(net: PixelStudent, share: NDArray[Any]) -> NDArray[np.float32]:
    """(H, W, 3) in [0, 1] -> the net's output, not clamped."""
    image = torch.from_numpy(share.astype(np.float32)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        return net(image)[0].permute(1, 2, 0).numpy()


@torch.no_grad()
@pytest.mark.parametrize(
    "condition", [CONDITION, (0.0,) * 4, (0.4, 0.0, 1.5, 1.0), (9.0, 3.0, 2.0, -1.0, 5.0)]
)
def test_the_filters_are_those_of_torch(condition: tuple[float, ...], trio: Trio) -> None:
    student, net, plain = trio
    found = student.kernels(condition)
    assert found is not None
    expected = net.kernels(torch.tensor(condition)[None, :4])[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert student.receptive_field == net.receptive_field == plain.receptive_field


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_pictures_of_8_bits_are_those_of_torch(engine: str, trio: Trio) -> None:
    student, _, plain = trio
    run = ENGINES[engine](student.fold(CONDITION).for_pixels(RGB), RGB)
    for size in SIZES:
        photo = _photo(*size)
        expected = _output(plain, photo / 255).clip(0, 1) * 255
        result = run(photo)
        assert (result.dtype, result.shape) == (np.uint8, photo.shape)
        # Half a level of rounding, and what sums of floats differ by.
        assert np.abs(result - expected).max() <= 0.52
    assert np.abs(expected - photo).max() > 10, "the net must change the picture, or this shows nothing"


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_strength_multiplies_all_that_is_added(strength: float, engine: str, trio: Trio) -> None:
    student, _, plain = trio
    photo = _photo(37, 29)
    output = _output(plain, photo / 255) * 255
    expected = np.clip(photo + strength * (output - photo), 0, 255)
    # 16 bits: 24 bits of a float over their range, and the sums of 961 numbers.
    for form, factor, off in ((RGB, 1, 0.53), (RGB16, 257, 4)):
        run = ENGINES[engine](student.fold(CONDITION).for_pixels(form, strength), form)
        given = (photo * np.array(factor)).astype(form.dtype)
        result = run(given)
        assert result.dtype == form.dtype
        assert np.abs(result - expected * factor).max() <= off
        if strength == 0:
            np.testing.assert_array_equal(result, given)


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("form", [PixelFormat(1), PixelFormat(1, 8, True), PixelFormat(1, 10, True)])
def test_luma_alone_is_the_luma_of_a_grey_picture(form: PixelFormat, engine: str, luma_trio: Trio) -> None:
    student, _, plain = luma_trio
    swing = form.white - form.black
    plane = np.rint(form.black + _photo(37, 30)[..., :1] / 255 * swing).astype(form.dtype)
    output = _output(plain, np.repeat((plane.astype(np.float64) - form.black) / swing, 3, axis=2))
    expected = np.clip(output[..., :1] * swing + form.black, 0, form.top)
    result = ENGINES[engine](student.fold(CONDITION).for_pixels(form), form)(plane)
    assert result.dtype == form.dtype
    assert np.abs(result - expected).max() <= 0.53
    still = ENGINES[engine](student.fold(CONDITION).for_pixels(form, 0), form)
    np.testing.assert_array_equal(still(plane), plane)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_tiles_do_not_show(engine: EngineName, trio: Trio) -> None:
    photo = np.ascontiguousarray(skimage.data.astronaut()[40:211, 130:317])
    path = trio[0].file.path
    assert open_engine(path, engine).name == engine
    settings: dict[str, Any] = {"precision": "fp32", "threads": 1}
    sharpen = {tile: Sharpener(path, engine, tile=tile, **settings) for tile in (0, 32)}
    whole, tiled = (one(photo, sigma=1.5) for one in sharpen.values())
    # a sum in another order may round to the next level
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    assert (whole != tiled).mean() < 1e-3


def test_what_bf16_costs(trio: Trio) -> None:
    """Little, and nothing where a picture is flat: the filters, whose weights have to sum to 0, stay fp32."""
    student, _, plain = trio
    precision = openvino_student.fast_precisions()[0]
    if precision == "fp32":
        pytest.skip("this CPU computes in fp32 alone under OpenVINO")
    layers = student.fold(CONDITION).for_pixels(RGB)
    photo = _photo(101, 77)
    result = openvino_student.compile_student(layers, RGB, precision, 1)(photo)
    off = result - _output(plain, photo / 255).clip(0, 1) * 255
    assert 10 * np.log10(255**2 / np.square(off).mean()) > 52


@pytest.mark.parametrize("form", [RGB, RGB16])
def test_the_onnx_files_pass_the_checker(form: PixelFormat, trio: Trio) -> None:
    layers = trio[0].fold(CONDITION).for_pixels(form)
    assert layers.details is not None
    for model in (
        onnx_student.onnx_model(layers, form),
        onnx_student.filter_model(layers.details, layers.unshuffle, form),
    ):
        onnx.checker.check_model(onnx.load_from_string(model), full_check=True)


def test_a_folded_student_runs_too(trio: Trio, tmp_path: Path) -> None:
    _, _, plain = trio
    assert isinstance(plain, FilteredStudent)
    path = tmp_path / "folded.safetensors"
    target = "sharpkd.nets.filtered_student.FilteredStudent"
    save_weights(path, {"_target_": target, **plain.arguments()}, plain.state_dict(), {})
    student = Student.read(path)
    assert (student.condition_size, student.receptive_field) == (0, plain.receptive_field)
    photo = _photo(37, 29)
    result = ENGINES["openvino"](student.fold().for_pixels(RGB), RGB)(photo)
    assert np.abs(result - _output(plain, photo / 255).clip(0, 1) * 255).max() <= 0.52


def test_what_cannot_run_here_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    net = _save(path, "fast")
    given = {"_target_": NAME, **net.arguments()}

    def refused(message: str, **changed: Any) -> None:
        save_weights(path, {**given, **changed}, net.state_dict(), {})
        with pytest.raises(ModelError, match=re.escape(message)):
            Student.read(path)

    misfit = f"{path}: its tensors do not fit {NAME}: "
    refused(f"{misfit}body.0.weight is (8, 32, 3, 3), expected (8, 48, 3, 3)", candidates=2)
    refused(f"{misfit}modulation.body.0.bias is (8,), expected (9,)", hidden=9)
    refused(f"{path}: taps: found 20, expected an odd number from 3 to 63", taps=20)
    refused(f"{path}: taps: found 65, expected an odd number from 3 to 63", taps=65)
    refused(f"{path}: {NAME} has no argument breadth", breadth=1)
    refused(f"{path} holds a {NAME} that needs torch", rep=True)
    state = {name: tensor for name, tensor in net.state_dict().items() if name != "ratio.2.bias"}
    save_weights(path, given, state, {})
    with pytest.raises(ModelError, match=re.escape(f"{misfit}ratio.2.bias is None, expected (1,)")):
        Student.read(path)
