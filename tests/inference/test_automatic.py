"""Which model for which input, how strongly, and that a sharp picture stays what it is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sharpkd.data.degradation_maths import gaussian_blur
from sharpkd.inference import automatic
from sharpkd.inference.automatic import AutoSharpener, Choice, OneModel
from sharpkd.inference.blur import Estimate
from sharpkd.inference.engine import ModelError
from sharpkd.inference.picture import ImageFile, Picture
from sharpkd.inference.sharpener import Sharpener


def estimate(sigma: float, noise: float = 0.0) -> Estimate:
    values = np.array([sigma, noise, 0, 0], np.float32)
    return Estimate(("sigma", "noise", "compression", "reduction"), values, np.ones(4, np.float32))


@pytest.fixture(scope="module")
def auto() -> AutoSharpener:
    return AutoSharpener(threads=1)


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[100:292, 100:340])


def file_of(*pixels: NDArray[np.uint8], grey: bool = False) -> ImageFile:
    return ImageFile(tuple(Picture(one, grey=grey) for one in pixels), "PNG")


@pytest.mark.parametrize(
    ("size", "noise", "model"),
    [
        ((512, 768), 0.0, "quality"),
        ((4000, 6500), 0.0, "quality"),
        ((4000, 6501), 0.0, "balanced"),
        ((4000, 6501), 1.0, "quality"),
        ((8000, 8000), 0.0, "balanced"),
        ((8000, 8001), 0.0, "fast"),
    ],
)
def test_the_size_and_the_noise_choose_the_model(
    auto: AutoSharpener, size: tuple[int, int], noise: float, model: str
) -> None:
    choice = auto.choose(*size, estimate(1.2, noise))
    assert (choice.model, choice.strength) == (model, 1)
    assert str(choice).startswith(f"{model} at strength 1.00: {size[0] * size[1] / 1e6:.3g} megapixels")
    assert str(choice).endswith(", noisy") == (noise >= 1)


@pytest.mark.parametrize(("sigma", "strength"), [(0.0, 0), (0.29, 0), (0.4, 0.5), (0.5, 1), (3.0, 1)])
def test_the_blur_chooses_the_strength(auto: AutoSharpener, sigma: float, strength: float) -> None:
    choice = auto.choose(100, 100, estimate(sigma))
    assert choice.strength == pytest.approx(strength, abs=1e-6)
    if strength == 0:
        assert str(choice) == f"left alone: it is sharp (sigma {sigma:.2f})"


def test_a_sharp_picture_is_left_alone_and_a_blurred_one_is_what_its_model_makes(
    auto: AutoSharpener, photograph: NDArray[np.uint8]
) -> None:
    # reduced to half, so that it is sharp whatever it was
    sharp = photograph.reshape(96, 2, 120, 2, 3).mean((1, 3)).round().astype(np.uint8)
    chosen = auto.chosen_for(file_of(sharp))
    assert chosen.choice.strength == 0
    assert chosen.picture(Picture(sharp)).pixels is sharp
    blurred = gaussian_blur(photograph, 1.5)
    chosen = auto.chosen_for(file_of(blurred))
    assert chosen.choice.model == "quality"
    same = Sharpener("quality", threads=1)
    np.testing.assert_array_equal(chosen.picture(Picture(blurred)).pixels, same(blurred))
    np.testing.assert_array_equal(chosen.picture(Picture(blurred), 0.5).pixels, same(blurred, 0.5))
    assert re.fullmatch(r"quality at strength 1\.00: 0\.0461 megapixels; sigma 1\.\d\d ± .*", str(chosen))
    grey = np.repeat(blurred[..., 1:2], 3, axis=2)
    found = auto.chosen_for(file_of(grey, grey=True)).picture(Picture(grey, grey=True)).pixels
    np.testing.assert_array_equal(found[..., 0], same(np.ascontiguousarray(grey[..., 0])))


def test_all_frames_have_the_model_of_the_first_and_a_blur_of_their_own(
    auto: AutoSharpener, photograph: NDArray[np.uint8]
) -> None:
    frames = [gaussian_blur(photograph, sigma) for sigma in (1.0, 2.0)]
    chosen, same = auto.chosen_for(file_of(*frames)), Sharpener("quality", threads=1)
    for frame in frames:
        np.testing.assert_array_equal(chosen.picture(Picture(frame)).pixels, same(frame))


def test_a_budget_takes_the_best_model_that_is_fast_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"quality": 400.0, "balanced": 100.0, "fast": 50.0}
    monkeypatch.setattr(AutoSharpener, "_milliseconds", lambda self, name: costs[name])

    def model(budget: float, side: int = automatic.TRIAL) -> str:
        return AutoSharpener(budget_ms=budget).choose(side, side, estimate(1.0)).model

    assert [model(400), model(399), model(100), model(99), model(50)] == [
        "quality",
        "balanced",
        "balanced",
        "fast",
        "fast",
    ]
    # a quarter of the pixels, a quarter of the time; and nothing is fast enough
    assert model(100, automatic.TRIAL // 2) == "quality"
    choice = AutoSharpener(budget_ms=1).choose(512, 512, estimate(1.0))
    assert str(choice) == "fast at strength 1.00: 0.262 megapixels, about 50 ms of 1"


def test_models_are_timed_on_this_machine() -> None:
    auto = AutoSharpener(threads=1, budget_ms=1e9)
    assert auto.choose(2000, 2000, estimate(1.0)).model == "quality"
    assert list(auto._speed) == ["quality"]
    assert auto._speed["quality"] > 1
    assert AutoSharpener(threads=1, budget_ms=0.001).choose(2000, 2000, estimate(1.0)).model == "fast"


def test_a_video_has_the_model_of_its_size(auto: AutoSharpener, photograph: NDArray[np.uint8]) -> None:
    assert auto.choose_for_frames(720, 1280).model == "balanced"
    assert auto.choose_for_frames(1080, 1920).model == "fast"
    luma = gaussian_blur(photograph, 1.0)[..., 1]
    expected = Sharpener("balanced", threads=1).for_scene(0.8)
    restore = auto.for_scene(0.8)
    for frame in (luma, luma[::-1].copy()):
        np.testing.assert_array_equal(restore(frame), expected(frame))


def test_one_model_is_that_model_and_measures_only_if_asked(photograph: NDArray[np.uint8]) -> None:
    blurred = gaussian_blur(photograph, 1.5)
    sharpener = Sharpener("fast", threads=1)
    one = OneModel(sharpener)
    chosen = one.chosen_for(file_of(blurred))
    assert (chosen.choice, chosen.estimate, str(chosen)) == (Choice("fast"), None, "fast")
    np.testing.assert_array_equal(chosen.picture(Picture(blurred)).pixels, sharpener(blurred))
    assert str(one.chosen_for(file_of(blurred), measured=True)).startswith("fast; sigma 1.")
    np.testing.assert_array_equal(one.for_scene()(blurred), sharpener.for_scene()(blurred))


def test_what_is_missing_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^budget_ms must be above 0, got 0$"):
        AutoSharpener(budget_ms=0)
    with pytest.raises(ModelError, match=r"^no student comes with this package: give a file with --model$"):
        AutoSharpener(folder=tmp_path)
    weights = Path(automatic.__file__).parents[1] / "weights"
    shutil.copy(weights / "fast.safetensors", tmp_path)
    assert AutoSharpener(folder=tmp_path).choose(9, 9, estimate(1.0)).model == "fast"
