"""Structural similarity (Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 2004)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sharpkd.functional.check import check_pair, full_precision

K1, K2 = 0.01, 0.03


def gaussian_window(size: int, sigma: float) -> Tensor:
    """``(size,)`` float64 Gaussian weights around the middle, summing to 1."""
    if size < 1 or size % 2 == 0 or not sigma > 0:
        raise ValueError(f"an SSIM window needs an odd size and sigma > 0, got window={size}, sigma={sigma}")
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-offset.square() / (2 * sigma**2))
    return weights / weights.sum()


def _filter_by_convolution(image: Tensor, weights: Tensor) -> Tensor:
    channels, size = image.shape[1], weights.numel()
    kernel = weights.to(image.dtype)
    image = F.conv2d(image, kernel.view(1, 1, size, 1).expand(channels, 1, size, 1), groups=channels)
    return F.conv2d(image, kernel.view(1, 1, 1, size).expand(channels, 1, 1, size), groups=channels)


def _filter_by_shifts(image: Tensor, weights: Tensor) -> Tensor:
    for axis in (2, 3):
        length = image.shape[axis] - weights.numel() + 1
        shifted = [weight * image.narrow(axis, k, length) for k, weight in enumerate(weights.tolist())]
        image = torch.stack(shifted).sum(0)
    return image


def _filter_valid(image: Tensor, weights: Tensor) -> Tensor:
    """Separable filter, valid region: ``(N, C, H, W)`` -> ``(N, C, H - size + 1, W - size + 1)``."""
    # A CUDA convolution rounds float32 to TF32 by default, which is coarser than variances in flat regions.
    # On a CPU the grouped convolution is exact, and four times as fast as shifting.
    chosen = _filter_by_convolution if image.device.type == "cpu" else _filter_by_shifts
    return chosen(image, weights)


def ssim(
    output: Tensor, sharp: Tensor, window: int = 11, sigma: float = 1.5, data_range: float = 1.0
) -> Tensor:
    """Mean SSIM of every image over the valid region (no padded border) and its channels. Differentiable.

    Equal to scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)``. Runs in float32 under autocast: 16 bits cannot hold the variances.

    Args:
        output: ``(N, C, H, W)`` with H, W >= window.
        sharp: the same shape.
        window: side of the Gaussian window, pixels, odd.
        sigma: of the window, pixels.
        data_range: distance from the darkest to the brightest possible value.

    Returns:
        ``(N,)`` in [-1, 1]; 1 for identical images.

    Raises:
        ValueError: shapes differ, the images are smaller than the window, or the window is even.
    """
    check_pair(output, sharp)
    weights = gaussian_window(window, sigma)
    if min(output.shape[-2:]) < window:
        raise ValueError(
            f"SSIM with a window of {window} needs images of at least {window}x{window} pixels, "
            f"got {output.shape[-2]}x{output.shape[-1]}"
        )
    with torch.autocast(device_type=output.device.type, enabled=False):
        x, y = full_precision(output), full_precision(sharp)
        moments = _filter_valid(torch.cat([x, y, x * x + y * y, x * y], dim=1), weights)
        mean_x, mean_y, squares, product = moments.chunk(4, dim=1)
        mean_product, mean_squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
        c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
        luminance = (2 * mean_product + c1) / (mean_squares + c1)
        structure = (2 * (product - mean_product) + c2) / (squares - mean_squares + c2)
        return (luminance * structure).mean(dim=(1, 2, 3))
