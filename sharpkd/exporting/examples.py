"""Degraded photographs: what int8 is calibrated on, and what losses are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.data.benchmark_guard import pixel_hash, refuse_benchmark_images
from sharpkd.data.degradation import Bicubic, GaussianBlur, degrade, name_seed
from sharpkd.data.images import find_images, read_image
from sharpkd.data.sample import SampleSource

Pixels = NDArray[np.uint8]
EVERY = 4
"""Of so many images of a folder, one is for measuring."""


@dataclass(frozen=True)
class Example:
    """One crop.

    Attributes:
        degraded: ``(h, w, 3)`` uint8.
        sharp: ``(h * scale, w * scale, 3)`` uint8: what it was made from.
    """

    degraded: Pixels
    sharp: Pixels

    def as_input(self) -> NDArray[np.float32]:
        """``(1, 3, h, w)`` float32 in [0, 1]."""
        return as_input(self.degraded)


@dataclass(frozen=True)
class Examples:
    """Crops of photographs, in two parts that share no photograph.

    Attributes:
        calibration: what a quantised net is fitted to.
        measurement: what it is measured on.
    """

    calibration: list[Example]
    measurement: list[Example]


def examples_of(
    folder: Path | None,
    degradation: Any,
    *,
    scale: int = 1,
    calibration: int,
    measurement: int,
    side: int,
) -> Examples:
    """Cut and degrade crops; the same ones every time.

    Args:
        folder: with at least two images; the first and then every fourth, by path, is for measurement. None
            takes the photographs inside scikit-image's wheel: five to calibrate on, two to measure on.
        degradation: an albumentations transform (`sharpkd.data.degradation`).
        scale: how many times smaller the degraded image is.
        calibration, measurement: how many crops of each part, shared equally by its images.
        side: of the sharp crop, pixels; smaller images are taken whole.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.
        ValueError: fewer than two images; one cannot be read, belongs to the benchmark, or is smaller than
            the scale.
    """
    if folder is None:
        source = SampleSource()
        fitted, measured = source.train_files(), source.val_files()
    else:
        files = find_images(folder)
        if len(files) < 2:
            raise ValueError(
                f"images: found {len(files)} in {folder}, expected at least 2: some to calibrate int8 on, "
                "and others to measure on"
            )
        measured = files[::EVERY]
        fitted = [path for path in files if path not in measured]
    parts = ((fitted, calibration), (measured, measurement))
    made = [_crops(files, count, side, degradation, scale) if count else [] for files, count in parts]
    return Examples(*made)


def usual_degradation(condition: Sequence[float] | None, scale: int) -> Any:
    """What a net is for, as far as it can be known: see ``degradation`` in conf/export.yaml.

    Args:
        condition: that the net is exported for, blur sigma first; None of a blind net.
        scale: of the net.

    Returns:
        Bicubic reduction for a net that enlarges, Gaussian blur of the condition's sigma for one that is
        told it, and of 0.3 to 3.2 pixels for any other.
    """
    if scale > 1:
        return Bicubic(scale)
    return GaussianBlur((0.3, 3.2) if condition is None else float(condition[0]))


def as_input(pixels: Pixels) -> NDArray[np.float32]:
    """``(h, w, 3)`` uint8 -> ``(1, 3, h, w)`` float32 in [0, 1]."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)


def _crops(files: Sequence[Path], count: int, side: int, degradation: Any, scale: int) -> list[Example]:
    chosen = files[:count]
    images = [read_image(path) for path in chosen]
    refuse_benchmark_images((path, pixel_hash(image)) for path, image in zip(chosen, images, strict=True))
    made = []
    for number in range(count):
        path, image = chosen[number % len(chosen)], images[number % len(chosen)]
        seed = name_seed(f"{path.name}/{number}")
        sharp = _crop(image, path, side, scale, np.random.default_rng(seed))
        degraded, _ = degrade(degradation, sharp, seed)
        if degraded.shape[0] * scale != sharp.shape[0] or degraded.shape[1] * scale != sharp.shape[1]:
            raise ValueError(
                f"degradation: {type(degradation).__name__} makes {degraded.shape} of {sharp.shape}, but the "
                f"net's output is {scale} times as large as its input"
            )
        made.append(Example(degraded, sharp))
    return made


def _crop(image: Pixels, path: Path, side: int, scale: int, generator: np.random.Generator) -> Pixels:
    sizes = [min(side, one) // scale * scale for one in image.shape[:2]]
    if 0 in sizes:
        raise ValueError(f"{path}: {image.shape[1]}x{image.shape[0]} pixels are too few to reduce by {scale}")
    top, left = (
        int(generator.integers(all_ - own + 1)) for all_, own in zip(image.shape, sizes, strict=False)
    )
    return np.ascontiguousarray(image[top : top + sizes[0], left : left + sizes[1]])
