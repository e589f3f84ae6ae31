from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from scipy.signal import correlate2d
from torch.nn import functional as F

from sharpkd.inference import onnx_student, openvino_luma, openvino_student
from sharpkd.inference.models import model_path
from sharpkd.inference.student import Layers, PixelFormat, Student
from sharpkd.inference.wiener import between_cells, of_sum_zero, to_bfloat16

SIZES = ((1, 1), (1, 30), (33, 1), (3, 50), (64, 96), (101, 77))
STUDIO = PixelFormat(1, 8, True)
FORMS = (PixelFormat(1), STUDIO)


def _plane(height: int, width: int) -> np.ndarray:
    return np.ascontiguousarray(skimage.data.camera()[100 : 100 + height, 100 : 100 + width, None])


def _layers(name: str, form: PixelFormat, strength: float = 1.0) -> Layers:
    return Student.read(Path(model_path(name))).fold((1.4, 0.5, 0.1, 0.2)).for_pixels(form, strength)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("margin", [0, 1, 2])
def test_cells_are_pixel_unshuffle_of_the_mirrored_plane_and_back(side: int, margin: int) -> None:
    plane = np.random.default_rng(0).integers(0, 256, (5 * side, 7 * side), np.uint8)
    cells = openvino_luma.to_cells(plane, side, margin)
    wide = torch.from_numpy(np.pad(plane, margin * side, mode="reflect"))[None].double()
    expected = F.pixel_unshuffle(wide, side).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(cells, expected)
    inner = cells[margin : margin + 5, margin : margin + 7]
    np.testing.assert_array_equal(openvino_luma.from_cells(np.ascontiguousarray(inner), side), plane)


@pytest.mark.parametrize(("taps", "side"), [(3, 2), (5, 4), (15, 4), (21, 4), (9, 3)])
def test_filters_between_cells_are_correlations(taps: int, side: int) -> None:
    random = np.random.default_rng(1)
    kernels = random.normal(size=(2, taps, taps)).astype(np.float32)
    plane = random.integers(0, 256, (6 * side, 5 * side), np.uint8)
    weight = between_cells(kernels, side)
    cells = openvino_luma.to_cells(plane, side, weight.shape[-1] // 2)
    given = torch.from_numpy(cells).permute(2, 0, 1)[None].double()
    found = F.pixel_shuffle(F.conv2d(given, torch.from_numpy(weight).double()), side)[0].numpy()
    wide = np.pad(plane, taps // 2, mode="reflect").astype(float)
    for kernel, one in zip(kernels.astype(float), found, strict=True):
        np.testing.assert_allclose(one, correlate2d(wide, kernel, mode="valid"), rtol=1e-9, atol=1e-9)


def test_rounding_is_that_of_torch() -> None:
    values = np.random.default_rng(2).normal(size=10_000).astype(np.float32)
    values = np.concatenate([values, np.array([0.0, 1 + 2**-8, 1 + 3 * 2**-8], np.float32)])  # two ties
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    np.testing.assert_array_equal(to_bfloat16(values), expected)


@pytest.mark.parametrize("sigma", [0.5, 1.2, 2.0, 3.5])
def test_a_rounded_filter_adds_nothing_to_a_flat_picture(sigma: float) -> None:
    kernels = Student.read(Path(model_path("balanced"))).kernels((sigma, 0.3, 0.0, 0.0))
    assert kernels is not None
    exact, rounded = of_sum_zero(kernels, None), of_sum_zero(kernels, "bf16")
    np.testing.assert_array_equal(to_bfloat16(rounded), rounded)
    plain = to_bfloat16(exact)
    assert abs(rounded.sum(dtype=float)) * 255 < 1e-3
    # none by more than the largest one's last place
    assert np.abs(rounded - exact).max() <= np.abs(exact).max() * 2**-7
    # what the correction is for
    assert abs(plain.sum(dtype=float)) > 30 * abs(rounded.sum(dtype=float))


@pytest.mark.parametrize("name", ["fast", "balanced"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0])
def test_it_computes_what_the_other_engine_does(name: str, form: PixelFormat, strength: float) -> None:
    layers = _layers(name, form, strength)
    assert openvino_luma.runs_here(form, "fp32")
    run = openvino_student.compile_student(layers, form, "fp32", 1)
    reference = onnx_student.compile_student(layers, form, 1)
    for size in SIZES:
        plane = _plane(*size)
        found, expected = run(plane), reference(plane)
        assert found.shape == plane.shape
        assert found.dtype == np.uint8
        # a sum in another order may round to the next level
        off = np.abs(found.astype(int) - expected)
        assert off.max() <= 1
        assert (off > 0).mean() < 2e-3
        if strength == 0:
            np.testing.assert_array_equal(found, plane)


def test_a_net_without_filters_runs_too(tmp_path: Path) -> None:
    from sharpkd.checkpoint import save_weights
    from sharpkd.nets.pixel_student import PixelStudent

    torch.manual_seed(0)
    net = PixelStudent(unshuffle=2, width=8, depth=3, luma_only=True)
    with torch.no_grad():
        net.tail.weight.normal_(std=0.05)
    target = "sharpkd.nets.pixel_student.PixelStudent"
    save_weights(tmp_path / "net.safetensors", {"_target_": target, **net.arguments()}, net.state_dict(), {})
    layers = Student.read(tmp_path / "net.safetensors").fold().for_pixels(STUDIO)
    plane = _plane(45, 33)
    found = openvino_student.compile_student(layers, STUDIO, "fp32", 1)(plane)
    expected = onnx_student.compile_student(layers, STUDIO, 1)(plane)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != plane).mean() > 0.1


@pytest.mark.parametrize("name", ["fast", "balanced"])
def test_what_bf16_costs(name: str) -> None:
    if "bf16" not in openvino_student.fast_precisions():
        pytest.skip("this CPU computes in no bf16 under OpenVINO")
    form = PixelFormat(1)
    layers = _layers(name, form)
    plane = _plane(256, 256)
    exact = openvino_student.compile_student(layers, form, "fp32", 1)(plane).astype(float)
    run = openvino_student.compile_student(layers, form, "bf16", 1)
    assert 10 * np.log10(255**2 / np.square(run(plane) - exact).mean()) > 55
    flat = np.full((64, 64, 1), 201, np.uint8)
    expected = openvino_student.compile_student(layers, form, "fp32", 1)(flat)
    off = np.abs(run(flat).astype(int) - expected)
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-3


def test_fp16_and_more_bits_stay_where_sums_are_in_fp32() -> None:
    assert not openvino_luma.runs_here(PixelFormat(1), "fp16")
    assert not openvino_luma.runs_here(PixelFormat(1, 10), "bf16")
    assert not openvino_luma.runs_here(PixelFormat(3), "bf16")
