"""What degradations do to pixels, as pure functions; SharpBench's inputs are made by these same functions.

Images have the shape ``(H, W, 3)``, RGB. Functions whose names end in ``_float`` give float64 in 0…255 and do
not round; the others are uint8 in, uint8 out. Blur widths are in pixels, noise in 8-bit levels. Borders are
reflect-101 (the edge pixel is not repeated).
"""

from __future__ import annotations

import io
import math
from typing import Any

import cv2
import numpy as np
from PIL import Image

RESAMPLE = Image.Resampling.BICUBIC


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Round to the nearest integer (ties to even), clip to 0…255."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def gaussian_blur_float(image: np.ndarray, sigma: float) -> np.ndarray:
    """Isotropic Gaussian of ``sigma`` pixels in float64, kernel size ``2·ceil(4σ) + 1``; not rounded."""
    if sigma == 0:
        return image.astype(np.float64)
    size = 2 * math.ceil(4 * sigma) + 1
    return cv2.GaussianBlur(
        image.astype(np.float64), (size, size), sigma, sigmaY=sigma, borderType=cv2.BORDER_REFLECT_101
    )


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """SharpBench's `gaussian` track: :func:`gaussian_blur_float`, rounded to uint8. σ = 0 changes nothing."""
    return to_uint8(gaussian_blur_float(image, sigma))


def gaussian_noise_float(image: np.ndarray, level: float, generator: np.random.Generator) -> np.ndarray:
    """Add independent Gaussian noise with a standard deviation of ``level`` (8-bit levels); not rounded."""
    return image + level * generator.standard_normal(image.shape)


def filter_float(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve with an odd-sized kernel (as correlation: every kernel here is symmetric); not rounded."""
    return cv2.filter2D(image.astype(np.float64), cv2.CV_64F, kernel, borderType=cv2.BORDER_REFLECT_101)


def anisotropic_kernel(sigma_along: float, sigma_across: float, angle: float) -> np.ndarray:
    """Gaussian with two widths in pixels; ``angle`` turns its first axis, degrees from x towards y (down).

    Both widths must be above 0. The side is ``2·ceil(4·max(σ)) + 1``, the sum 1.
    """
    x, y = _grid(math.ceil(4 * max(sigma_along, sigma_across)))
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = x * cos + y * sin, y * cos - x * sin
    return _to_sum_1(np.exp(-0.5 * ((along / sigma_along) ** 2 + (across / sigma_across) ** 2)))


def disk_kernel(radius: float, samples: int = 16) -> np.ndarray:
    """Defocus of an ideal round aperture: a disk of ``radius`` pixels, its edge antialiased, sum 1."""
    reach = math.ceil(radius)
    side = 2 * reach + 1
    fine = (np.arange(side * samples) + 0.5) / samples - reach - 0.5
    inside = fine[:, None] ** 2 + fine[None, :] ** 2 <= radius**2
    coverage = inside.reshape(side, samples, side, samples).mean(axis=(1, 3))
    return _to_sum_1(coverage) if radius > 0.1 else np.ones((1, 1))


def motion_kernel(length: float, angle: float) -> np.ndarray:
    """Straight, even motion over ``length`` pixels, sum 1; ``angle`` in degrees from x towards y (down).

    Points along the line are shared out bilinearly, which adds up to 1/6 pixel² of variance.
    """
    reach = math.ceil(length / 2) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    steps = 16 * math.ceil(length) + 1
    along = (np.arange(steps) - (steps - 1) / 2) * (length / steps)
    x, y = reach + along * math.cos(math.radians(angle)), reach + along * math.sin(math.radians(angle))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for column, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
        for row, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
            np.add.at(kernel, (row, column), weight_x * weight_y)
    return _to_sum_1(kernel)


def kernel_variance(kernel: np.ndarray) -> float:
    """Variance of a centred kernel in pixels², the mean over both axes: σ² for an isotropic Gaussian."""
    x, y = _grid(kernel.shape[0] // 2)
    return float((kernel * (x**2 + y**2)).sum() / 2)


def _grid(reach: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    return x, y


def _to_sum_1(kernel: np.ndarray) -> np.ndarray:
    return kernel / kernel.sum()


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's bicubic, antialiased where it reduces, as MATLAB's ``imresize``; or the image itself.

    Both use Keys' cubic kernel with a = -0.5 and widen it by the factor of the reduction.
    """
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), RESAMPLE))


def downscale(image: np.ndarray, scale: float) -> np.ndarray:
    """:func:`resize` to ``round(size / scale)``, at least one pixel: SharpBench's `sr` track."""
    height, width = (max(1, round(side / scale)) for side in image.shape[:2])
    return resize(image, height, width)


def low_res(image: np.ndarray, scale: float) -> np.ndarray:
    """SharpBench's `lowres` track: :func:`downscale`, then back up; never the image itself.

    The benchmark crops to a multiple of the scale first; here any size is accepted.
    """
    small = downscale(image, scale)
    return image.copy() if small is image else resize(small, *image.shape[:2])


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Through Pillow's JPEG encoder and back, 4:2:0 chroma, quality 1…100."""
    return _through_codec(image, format="JPEG", quality=quality, subsampling="4:2:0")


def webp(image: np.ndarray, quality: int) -> np.ndarray:
    """Through Pillow's lossy WebP encoder and back (always 4:2:0), quality 1…100."""
    return _through_codec(image, format="WEBP", quality=quality, method=4)


def _through_codec(image: np.ndarray, **settings: Any) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, **settings)
    buffer.seek(0)
    return np.asarray(Image.open(buffer).convert("RGB"))
