"""Blur, noise and JPEG in a camera's order, against the single degradations."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import skimage.data
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from sharpkd.data.camera import Camera, compression_of, equal_blur
from sharpkd.data.degradation import GaussianBlur, LowRes, Noisy, degrade
from sharpkd.data.degradation_maths import jpeg


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[:90, 100:220])


def test_alone_its_steps_are_the_single_degradations(image: np.ndarray) -> None:
    blurred, condition = degrade(Camera(sigma=1.3, sigma_p=1, noise_p=0, quality_p=0), image, 3)
    np.testing.assert_array_equal(blurred, degrade(GaussianBlur(1.3), image, 3)[0])
    assert condition is not None
    np.testing.assert_allclose(condition, [1.3, 0, 0, 0])
    noisy, condition = degrade(Camera(sigma=1.3, sigma_p=1, noise=2, noise_p=1, quality_p=0), image, 3)
    np.testing.assert_array_equal(noisy, degrade(Noisy(1.3, 2.0), image, 3)[0])
    assert condition is not None
    np.testing.assert_allclose(condition, [1.3, 2, 0, 0])


def test_jpeg_comes_last(image: np.ndarray) -> None:
    camera = Camera(sigma=1.3, sigma_p=1, noise=2, noise_p=1, quality=60, quality_p=1)
    made, condition = degrade(camera, image, 5)
    np.testing.assert_array_equal(made, jpeg(degrade(Noisy(1.3, 2.0), image, 5)[0], 60))
    assert condition is not None
    np.testing.assert_allclose(condition, [1.3, 2, 0.8, 0])


def test_an_untouched_image_says_so(image: np.ndarray) -> None:
    for camera in (Camera(p=0), Camera(sigma_p=0, noise_p=0, quality_p=0)):
        made, condition = degrade(camera, image, 0)
        np.testing.assert_array_equal(made, image)
        assert condition is not None
        assert condition.tolist() == [0, 0, 0, 0]


def test_shares_and_ranges_are_kept_and_seeds_repeat() -> None:
    camera = Camera()
    tiny = np.zeros((2, 2, 3), dtype=np.uint8)
    drawn, again = (
        np.array([degrade(camera, tiny, seed)[1] for seed in range(count)], dtype=float)
        for count in (600, 20)
    )
    np.testing.assert_array_equal(drawn[:20], again)
    shares = (drawn[:, 0] > 0).mean(), (drawn[:, 1] > 0).mean(), (drawn[:, 2] > 0).mean()
    np.testing.assert_allclose(shares, (0.9, 0.5, 0.6), atol=0.07)
    assert drawn[:, 0].max() <= 4
    assert drawn[:, 1].max() <= 5
    # qualities of 40 to 95
    np.testing.assert_allclose(drawn[drawn[:, 2] > 0, 2].min(), 0.1, atol=1e-6)
    np.testing.assert_allclose(drawn[:, 2].max(), 1.25, atol=1e-6)
    assert not drawn[:, 3].any()


def test_an_enlarged_image_is_not_blurred_beside_it(image: np.ndarray) -> None:
    camera = Camera(sigma=1.3, sigma_p=1, noise_p=0, quality_p=0, scale=2, scale_p=1)
    made, condition = degrade(camera, image, 3)
    np.testing.assert_array_equal(made, degrade(LowRes(2), image, 3)[0])
    assert condition is not None
    np.testing.assert_allclose(condition, [equal_blur(2), 0, 0, 1], rtol=1e-6)
    tiny = np.zeros((2, 2, 3), dtype=np.uint8)
    drawn = [degrade(Camera(scale=[1.5, 3], scale_p=0.3), tiny, seed)[1] for seed in range(600)]
    reductions = np.array([one[3] for one in drawn if one is not None])
    np.testing.assert_allclose((reductions > 0).mean(), 0.3, atol=0.06)
    assert reductions[reductions > 0].min() >= 0.5
    assert reductions.max() <= 2


def test_a_share_of_what_is_enlarged_is_so_by_a_whole_number() -> None:
    tiny = np.zeros((2, 2, 3), dtype=np.uint8)
    camera = Camera(scale=[1.25, 4.25], scale_p=1, whole_p=0.5)
    drawn = [degrade(camera, tiny, seed)[1] for seed in range(600)]
    scales = np.array([one[3] + 1 for one in drawn if one is not None])
    found, counts = np.unique(scales[scales == scales.round()], return_counts=True)
    np.testing.assert_array_equal(found, [2, 3, 4])
    np.testing.assert_allclose(counts / 600, 1 / 6, atol=0.05)
    assert scales.min() < 1.5
    assert scales.max() > 4


def test_shares_that_are_0_change_nobodys_random_numbers(image: np.ndarray) -> None:
    np.testing.assert_array_equal(
        degrade(Camera(), image, 7)[0], degrade(Camera(scale=[1, 2], scale_p=0), image, 7)[0]
    )


@pytest.mark.parametrize("quality", [1, 30, 49, 50, 75, 95])
def test_compression_is_what_libjpeg_multiplies_its_tables_by(quality: int) -> None:
    def table(of: int) -> np.ndarray:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=of)
        read = Image.open(buffer)
        assert isinstance(read, JpegImageFile)
        return np.array(read.quantization[0], dtype=float)

    expected = np.clip(np.floor(table(50) * round(100 * compression_of(quality)) / 100 + 0.5), 1, 255)
    # libjpeg takes whole per cent
    np.testing.assert_allclose(table(quality), expected, atol=1)
    assert compression_of(100) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": -1.0}, "Camera: sigma must be a number or [low, high] with 0 <= low <= high; found -1.0"),
        ({"sigma_p": 2.0}, "Camera: sigma_p must be a number in 0…1; found 2.0"),
        ({"noise_p": -0.1}, "Camera: noise_p must be a number in 0…1; found -0.1"),
        ({"quality": 40.5}, "Camera: quality must be whole numbers; found 40.5"),
        ({"scale": 0.5}, "Camera: scale must be a number or [low, high] with 1 <= low <= high; found 0.5"),
        (
            {"scale": 1.5, "whole_p": 0.5},
            "Camera: whole_p must be 0 where scale has no whole number from 2; found 0.5",
        ),
        ({"quality_p": "x"}, "Camera: quality_p must be a number in 0…1; found 'x'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Camera(**settings)
