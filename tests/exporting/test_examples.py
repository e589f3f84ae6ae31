from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from sharpkd.data.benchmark_guard import pixel_hash
from sharpkd.data.degradation import Bicubic, GaussianBlur
from sharpkd.data.degradation_maths import downscale, gaussian_blur
from sharpkd.exporting.checks import pictures_of
from sharpkd.exporting.examples import Example, examples_of, usual_degradation


def is_part(crop: NDArray[np.uint8], image: NDArray[np.uint8]) -> bool:
    """Whether a crop was cut from an image."""
    height, width = crop.shape[:2]
    rows, columns = image.shape[0] - height + 1, image.shape[1] - width + 1
    corners = (image[:rows, :columns] == crop[0, 0]).all(axis=2)
    places = zip(*np.nonzero(corners), strict=True)
    return any(np.array_equal(image[y : y + height, x : x + width], crop) for y, x in places)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photographs of 40x48 pixels, named by number."""
    for number in range(5):
        part = skimage.data.astronaut()[number * 60 : number * 60 + 40, 200:248]
        Image.fromarray(part).save(tmp_path / f"{number}.png")
    return tmp_path


def test_without_a_folder_they_are_scikit_images_photographs() -> None:
    made = examples_of(None, GaussianBlur(1.6), calibration=5, measurement=4, side=48)
    assert (len(made.calibration), len(made.measurement)) == (5, 4)
    assert is_part(made.calibration[0].sharp, skimage.data.astronaut())
    for number, image in enumerate((skimage.data.chelsea(), skimage.data.rocket())):
        assert is_part(made.measurement[number].sharp, image)
        assert is_part(made.measurement[number + 2].sharp, image)
    for one in (*made.calibration, *made.measurement):
        assert one.sharp.shape == (48, 48, 3)
        np.testing.assert_array_equal(one.degraded, gaussian_blur(one.sharp, 1.6))
    again = examples_of(None, GaussianBlur(1.6), calibration=5, measurement=4, side=48)
    np.testing.assert_array_equal(again.calibration[3].sharp, made.calibration[3].sharp)


def test_a_folders_images_are_either_for_calibration_or_for_measurement(folder: Path) -> None:
    made = examples_of(folder, GaussianBlur(1.0), calibration=6, measurement=4, side=64)
    images = [np.asarray(Image.open(folder / f"{number}.png")) for number in range(5)]
    for part, numbers in ((made.calibration, [1, 2, 3]), (made.measurement, [0, 4])):
        for place, one in enumerate(part):
            np.testing.assert_array_equal(one.sharp, images[numbers[place % len(numbers)]])


def test_images_for_nets_that_enlarge(folder: Path) -> None:
    made = examples_of(folder, Bicubic(3), scale=3, calibration=0, measurement=2, side=32)
    assert made.calibration == []
    for one in made.measurement:
        assert (one.sharp.shape, one.degraded.shape) == ((30, 30, 3), (10, 10, 3))
        np.testing.assert_array_equal(one.degraded, downscale(one.sharp, 3))


def test_what_a_net_is_for() -> None:
    blind, told, enlarging = (usual_degradation(*given) for given in ((None, 1), ([1.6, 2.0], 1), (None, 3)))
    assert blind.sigma == (0.3, 3.2)
    assert told.sigma == (1.6, 1.6)
    assert (type(enlarging), enlarging.scale) == (Bicubic, 3)


def test_images_that_will_not_do(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str, where: Path = folder, scale: int = 1) -> None:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            examples_of(where, GaussianBlur(1.0), scale=scale, calibration=2, measurement=1, side=16)

    refused(
        "degradation: GaussianBlur makes (16, 16, 3) of (16, 16, 3), but the net's output is 2 times as "
        "large as its input",
        scale=2,
    )
    refused(f"{folder / '1.png'}: 48x40 pixels are too few to reduce by 50", scale=50)
    image = np.asarray(Image.open(folder / "2.png"))
    monkeypatch.setattr(
        "sharpkd.data.benchmark_guard.sharpbench_hashes", lambda: {pixel_hash(image): "Set14/x"}
    )
    refused(
        "1 training image(s) belong to the benchmark, so its scores would mean nothing: "
        f"{folder / '2.png'} is Set14/x. Take them out of the training folder."
    )
    for name in ("1.png", "2.png", "3.png", "4.png"):
        (folder / name).unlink()
    refused(
        f"images: found 1 in {folder}, expected at least 2: some to calibrate int8 on, and others "
        "to measure on"
    )
    with pytest.raises(FileNotFoundError, match=f"^image folder {re.escape(str(tmp_path / 'no'))} does not"):
        examples_of(tmp_path / "no", GaussianBlur(1.0), calibration=2, measurement=1, side=16)


def test_pictures_of_any_size_continue_an_example_by_its_mirror_image() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    small, large = pictures_of([(1, 2), (5, 4)], [Example(pixels, pixels)])
    np.testing.assert_array_equal(small[0].transpose(1, 2, 0), pixels[:1, :2] / np.float32(255))
    rows, columns = [0, 1, 1, 0, 0], [0, 1, 2, 2]
    np.testing.assert_array_equal(large[0].transpose(1, 2, 0), pixels[rows][:, columns] / np.float32(255))
