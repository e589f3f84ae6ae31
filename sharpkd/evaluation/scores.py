"""What one output is worth: the metrics of SharpBench, on 8-bit images."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpkd.evaluation.protocols import Condition, Image
from sharpkd.functional.psnr import PSNR_CAP
from sharpkd.metrics.lpips import LPIPS, SMALLEST_SIDE

LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966]) / 255
"""BT.601 in studio swing, for 8-bit RGB; 16 is added."""
SSIM_SIDE = 11
"""Pixels: the side of SSIM's window, and of the smallest image that has one."""
SSIM_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

Luma = NDArray[np.float64]


def luma(image: Image) -> Luma:
    """``(H, W, 3)`` uint8 RGB to ``(H, W)`` float64 in [16, 235], not rounded.

    ITU-R BT.601, studio swing: ``16 + (65.481 R + 128.553 G + 24.966 B) / 255``, as MATLAB's ``rgb2ycbcr``.
    """
    weighted: Luma = image.astype(np.float64) @ LUMA_WEIGHTS
    return weighted + 16


def psnr_of(mse: float) -> float:
    """dB for a mean squared error in 8-bit levels: ``10 log10(255² / mse)``, at most ``PSNR_CAP``."""
    return min(PSNR_CAP, 10 * math.log10(255**2 / mse)) if mse > 0 else PSNR_CAP


def ssim_luma(output: Luma, sharp: Luma) -> float | None:
    """Mean SSIM over the valid region (Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 2004), data range 255.

    Gaussian window of 11 pixels, σ 1.5; biased (co)variances, as in the paper. Equal to scikit-image's
    ``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)``.

    Args:
        output: ``(H, W)`` float64.
        sharp: the same shape.

    Returns:
        In [-1, 1], or None for an image of less than 11 pixels in height or width.
    """
    if min(sharp.shape) < SSIM_SIDE:
        return None
    mean_x, mean_y = _windowed(output), _windowed(sharp)
    squares, product = _windowed(output * output + sharp * sharp), _windowed(output * sharp)
    mean_product, mean_squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    luminance = (2 * mean_product + _C1) / (mean_squares + _C1)
    structure = (2 * (product - mean_product) + _C2) / (squares - mean_squares + _C2)
    return float((luminance * structure).mean())


def _windowed(values: Luma) -> Luma:
    window = cv2.getGaussianKernel(SSIM_SIDE, SSIM_SIGMA, cv2.CV_64F)
    edge = SSIM_SIDE // 2
    filtered = cv2.sepFilter2D(values, cv2.CV_64F, window, window)[edge:-edge, edge:-edge]
    return filtered.astype(np.float64, copy=False)


def score_pair(
    condition: Condition, output: Image, sharp: Image, lpips: LPIPS | None = None
) -> dict[str, float | None]:
    """Every metric of one image by its track's protocol.

    Same-size tracks: PSNR on RGB, SSIM on luma, no border crop. `sr`: PSNR and SSIM on luma, a border of
    ``condition.scale`` pixels cropped, as in the super-resolution papers. LPIPS on the whole RGB image.

    Args:
        condition: what was done to the image.
        output: ``(H, W, 3)`` uint8 RGB.
        sharp: the same shape.
        lpips: the metric, or None to leave it blank.

    Returns:
        ``psnr`` and ``psnr_y`` (dB, at most ``PSNR_CAP``), ``ssim`` (None under 11 pixels a side, after the
        crop) and ``lpips`` (None without the metric, or where the image is too small for its backbone).

    Raises:
        ValueError: not two uint8 RGB images of one shape, or an image that the crop leaves nothing of.
    """
    check_images(output, sharp)
    border = condition.scale if condition.scale > 1 else 0
    if min(sharp.shape[:2]) <= 2 * border:
        raise ValueError(
            f"{condition.name} crops {border} pixels on every side: an image of "
            f"{sharp.shape[0]}x{sharp.shape[1]} pixels is too small"
        )
    lumas = [crop_border(luma(image), border) for image in (output, sharp)]
    psnr_y = psnr_of(float(np.square(lumas[0] - lumas[1]).mean()))
    psnr = psnr_y if border else psnr_of(squared_error(output, sharp) / sharp.size)
    return {
        "psnr": psnr,
        "ssim": ssim_luma(*lumas),
        "psnr_y": psnr_y,
        "lpips": None if lpips is None else _lpips(lpips, output, sharp),
    }


def squared_error(output: Image, sharp: Image) -> float:
    """Sum of squared differences over all pixels and channels, 8-bit levels; exact."""
    return cv2.norm(np.ascontiguousarray(output), np.ascontiguousarray(sharp), cv2.NORM_L2SQR)


def crop_border(image: NDArray[Any], border: int) -> NDArray[Any]:
    """Without ``border`` pixels on every side; a view."""
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


def check_images(output: NDArray[Any], sharp: NDArray[Any]) -> None:
    """Two uint8 RGB images of one shape.

    Raises:
        ValueError: says what they are instead.
    """
    for image in (output, sharp):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"a score needs (H, W, 3) uint8 RGB images, got shape {image.shape} of {image.dtype}"
            )
    if output.shape != sharp.shape:
        raise ValueError(f"the output's shape {output.shape} is not the sharp image's, {sharp.shape}")


def _lpips(metric: LPIPS, output: Image, sharp: Image) -> float | None:
    """The metric's own score; half the time is saved where several outputs are compared with one image."""
    if min(sharp.shape[:2]) < SMALLEST_SIDE[metric.backbone]:
        return None
    net: Any = metric.net.module
    with torch.inference_mode():
        pairs = zip(_features(net, output), _kept_features(net, sharp.tobytes(), sharp.shape), strict=True)
        # The heads are linear and have no bias, so that the mean over pixels may be taken first.
        means = ((a - b).square_().mean(dim=(2, 3), keepdim=True) for a, b in pairs)
        return float(sum(head(mean) for head, mean in zip(net.lins, means, strict=True)))


@lru_cache(maxsize=1)
def _kept_features(net: Any, pixels: bytes, shape: tuple[int, ...]) -> list[Tensor]:
    return _features(net, np.frombuffer(pixels, np.uint8).reshape(shape))


def _features(net: Any, image: Image) -> list[Tensor]:
    from lpips import normalize_tensor

    tensor = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    return [normalize_tensor(layer) for layer in net.net(net.scaling_layer(2 * tensor - 1))]
