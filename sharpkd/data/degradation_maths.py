"""What degradations do to pixels, as pure functions; SharpBench's inputs are made by these same functions.

Images have the shape ``(H, W, 3)``, RGB. Functions whose names end in ``_float`` give float64 in 0…255 and do
not round; the others are uint8 in, uint8 out. Blur widths are in pixels, noise in 8-bit levels. Borders are
reflect-101 (the edge pixel is not repeated).
"""

from __future__ import annotations

import io
import math

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


def low_res(image: np.ndarray, scale: float) -> np.ndarray:
    """SharpBench's `lowres` track: Pillow's antialiased bicubic to ``round(size / scale)``, then back up.

    The benchmark crops to a multiple of the scale first; here any size is accepted.
    """
    height, width = image.shape[:2]
    small = (max(1, round(width / scale)), max(1, round(height / scale)))
    if small == (width, height):
        return image.copy()
    return np.asarray(Image.fromarray(image).resize(small, RESAMPLE).resize((width, height), RESAMPLE))


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Through Pillow's JPEG encoder and back, 4:2:0 chroma, quality 1…100."""
    return _through_codec(image, format="JPEG", quality=quality, subsampling="4:2:0")


def webp(image: np.ndarray, quality: int) -> np.ndarray:
    """Through Pillow's lossy WebP encoder and back (always 4:2:0), quality 1…100."""
    return _through_codec(image, format="WEBP", quality=quality, method=4)


def _through_codec(image: np.ndarray, **settings: object) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, **settings)  # type: ignore[arg-type]
    buffer.seek(0)
    return np.asarray(Image.open(buffer).convert("RGB"))
