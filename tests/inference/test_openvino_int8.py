"""Students in 8 bits: their ranges, what they cost, and that they are computed so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from scipy.ndimage import gaussian_filter

from sharpkd.data.degradation_maths import gaussian_blur
from sharpkd.inference import openvino_student
from sharpkd.inference.dead_leaves import SIDE, dead_leaves, degraded_leaves
from sharpkd.inference.engine import open_engine
from sharpkd.inference.errors import ModelError
from sharpkd.inference.models import model_path
from sharpkd.inference.openvino_layers import ROOM, ranges_on_leaves
from sharpkd.inference.openvino_luma import luma_graph
from sharpkd.inference.sharpener import Sharpener
from sharpkd.inference.student import PixelFormat, Student

CONDITION = (1.4, 0.3, 0.0, 0.0)


def test_leaves_are_always_the_same_and_fill_the_range() -> None:
    picture = dead_leaves()
    assert picture.shape == (SIDE, SIDE, 3)
    assert (picture.min(), picture.max()) == (0, 255)
    assert 100 < picture.mean() < 155
    dead_leaves.cache_clear()
    np.testing.assert_array_equal(dead_leaves(), picture)


def test_leaves_have_the_spectrum_of_photographs() -> None:
    """Their power falls as f⁻², or a little faster."""
    luma = dead_leaves().mean(axis=2) - 127.5
    power = np.abs(np.fft.fft2(luma * np.outer(np.hanning(SIDE), np.hanning(SIDE)))) ** 2
    distance = np.hypot(*np.meshgrid(*[np.fft.fftfreq(SIDE)] * 2))
    low = power[(distance > 0.02) & (distance < 0.04)].mean()
    high = power[(distance > 0.2) & (distance < 0.4)].mean()
    assert 1.5 < np.log10(low / high) < 3.5


@pytest.mark.parametrize("sigma", [0.0, 0.9, 2.5])
def test_leaves_are_blurred_as_by_scipy(sigma: float) -> None:
    expected = gaussian_filter(dead_leaves(), (sigma, sigma, 0), mode="wrap", truncate=8)
    # a sampled Gaussian is a little narrower than it is said to be
    np.testing.assert_allclose(degraded_leaves(sigma, 0), expected, atol=1.0)
    noise = degraded_leaves(sigma, 2.0) - degraded_leaves(sigma, 0.0)
    assert 1.8 < noise[64:192, 64:192].std() < 2.05


def test_ranges_hold_zero_and_nearly_all_numbers() -> None:
    form = PixelFormat(3)
    seen: list[np.ndarray] = []

    def hidden(picture: np.ndarray) -> list[np.ndarray]:
        assert (picture.shape, picture.dtype) == ((SIDE, SIDE, 3), np.uint8)
        seen.append(picture)
        return [picture.astype(np.float32), picture.astype(np.float32) + 10, np.zeros(5, np.float32)]

    one, two, three = ranges_on_leaves(hidden, form, CONDITION)
    low, high = np.quantile(seen[0].astype(np.float32), (2e-4, 1 - 2e-4))
    assert one == pytest.approx((min(0, ROOM * low), ROOM * high))
    assert two == pytest.approx((0.0, ROOM * (high + 10)))
    assert three[0] == 0 < three[1]
    assert len(seen) == 1
    ranges_on_leaves(hidden, form, ())
    assert len(seen) == 4
    assert seen[1].std() > seen[2].std() > seen[3].std(), "a blind net is shown several blurs"


@pytest.mark.parametrize("name", ["fast", "balanced", "quality"])
@pytest.mark.parametrize("sigma", [0.9, 1.8])
@pytest.mark.parametrize("luma", [False, True])
def test_what_8_bits_cost(name: str, sigma: float, luma: bool) -> None:
    """Less than a tenth of a decibel; ``quality``, whose net adds most, half of one."""
    losses = []
    for sharp in (skimage.data.astronaut()[:256, 100:356], skimage.data.coffee()[:256, 200:456]):
        blurred = gaussian_blur(sharp, sigma)
        estimate = Sharpener(name).measure(blurred)
        pixels, truth = (blurred[..., 1].copy(), sharp[..., 1]) if luma else (blurred, sharp)
        found = []
        for precision in ("fp32", "int8"):
            sharpen = Sharpener(name, "openvino", precision=precision, threads=1)
            assert sharpen.precision == precision
            result = (sharpen.plane if luma else sharpen)(pixels, estimate=estimate).astype(float)
            found.append(-10 * np.log10(np.square((result - truth) / 255).mean()))
        losses.append(found[0] - found[1])
    assert max(losses) < (0.5 if name == "quality" else 0.1)
    assert losses != [0, 0]


def test_all_convolutions_but_the_first_are_in_8_bits() -> None:
    form = PixelFormat(1)
    layers = Student.read(Path(model_path("balanced"))).fold(CONDITION).for_pixels(form)
    ranges = [(-3.0, 3.0)] * (len(layers.weights) - 1)
    graph, _ = luma_graph(layers, form, "fp32", ranges)
    graph.reshape([1, 40, 40, layers.unshuffle**2])
    program = openvino_student.core().compile_model(
        graph, "CPU", openvino_student.settings_for(openvino_student.INT8, 1)
    )
    kinds = [
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in program.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    whole = sum(kind in ("i8", "u8") for kind in kinds)
    assert whole == len(layers.weights) - 1, kinds
    assert len(kinds) == len(layers.weights) + 1  # and the filter


def test_pictures_of_more_bits_are_kept_outside(tmp_path: Path) -> None:
    deep = skimage.data.astronaut()[:64, :80].astype(np.uint16) * 257
    settings = {"threads": 1, "tile": 0}
    bits = Sharpener("fast", "openvino", precision="int8", **settings)(deep, strength=0.0)  # type: ignore[arg-type]  # both are right
    np.testing.assert_array_equal(bits, deep)


def test_files_that_hold_their_precision_are_not_computed_in_another(tmp_path: Path) -> None:
    path = tmp_path / "net.xml"
    path.write_text("<net/>")
    with pytest.raises(
        ModelError, match=r"net\.xml is computed in what it holds: export it with precision=int8"
    ):
        open_engine(path, precision="int8")
    with pytest.raises(ModelError, match="the onnxruntime engine computes in fp32, not in int8"):
        open_engine(model_path("fast"), "onnxruntime", precision="int8")
