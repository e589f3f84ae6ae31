"""Gaussian smoothing, gradients and thin edges of grey images: what every estimator of blur starts from."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CENTRAL_VARIANCE = 1 / 3
"""Variance in pixels² of the box that a central difference averages the derivative over, two pixels wide."""


def gaussian_taps(sigma: float) -> list[float]:
    """Half of a sampled Gaussian, from its middle outwards to ``ceil(3σ)``; the whole kernel sums to 1."""
    half = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(math.ceil(3 * sigma) + 1)]
    total = half[0] + 2 * sum(half[1:])
    return [value / total for value in half]


def smooth(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``sigma`` > 0 pixels along both axes; the border pixel is repeated.

    Sums of shifted copies: on one channel several times faster than torch's convolution on a processor.

    Args:
        image: ``(..., H, W)``, any H, W >= 1.
        sigma: standard deviation in pixels.
    """
    flat = image.reshape(1, -1, *image.shape[-2:])
    return _smooth_along(_smooth_along(flat, sigma, -1), sigma, -2).reshape(image.shape)


def _smooth_along(image: Tensor, sigma: float, axis: int) -> Tensor:
    taps = gaussian_taps(sigma)
    reach, length = len(taps) - 1, image.shape[axis]
    padding = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
    padded = F.pad(image, padding, mode="replicate")
    result = image * taps[0]
    for step, weight in enumerate(taps[1:], 1):
        left, right = padded.narrow(axis, reach - step, length), padded.narrow(axis, reach + step, length)
        result = result.add_(left + right, alpha=weight)
    return result


def central_differences(image: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives along x and y, ``(I(x + 1) - I(x - 1)) / 2``, the border pixel repeated; shapes stay."""
    flat = image.reshape(1, -1, *image.shape[-2:])
    padded = F.pad(flat, (1, 1, 1, 1), mode="replicate")
    along_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    along_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return along_x.reshape(image.shape), along_y.reshape(image.shape)


def gradient_magnitude_at(image: Tensor, index: Tensor) -> Tensor:
    """Length of :func:`central_differences` at chosen pixels alone, in levels per pixel.

    Args:
        image: ``(N, K, H, W)``.
        index: ``(N, M)`` positions in ``image.flatten(1)``.

    Returns:
        ``(N, M)``.
    """
    height, width = image.shape[-2:]
    values = image.flatten(1)
    x, y = index % width, index // width % height
    right, left = index + (x < width - 1).long(), index - (x > 0).long()
    below, above = index + width * (y < height - 1).long(), index - width * (y > 0).long()
    along_x = values.gather(1, right) - values.gather(1, left)
    along_y = values.gather(1, below) - values.gather(1, above)
    return torch.hypot(along_x, along_y) / 2


def thin_edges(along_x: Tensor, along_y: Tensor) -> Tensor:
    """Gradient magnitude where it is a maximum across the edge, 0 elsewhere (Canny 1986, coarse directions).

    A pixel stays where neither neighbour along the gradient's larger component is steeper.

    Args:
        along_x: ``(..., H, W)`` derivative along x.
        along_y: likewise along y.
    """
    steep = along_x.square() + along_y.square()
    height, width = steep.shape[-2:]
    padded = F.pad(steep.reshape(1, -1, height, width), (1, 1, 1, 1), mode="replicate")
    beside = torch.maximum(padded[..., 1:-1, 2:], padded[..., 1:-1, :-2]).reshape(steep.shape)
    above = torch.maximum(padded[..., 2:, 1:-1], padded[..., :-2, 1:-1]).reshape(steep.shape)
    neighbours = torch.where(along_x.abs() >= along_y.abs(), beside, above)
    return torch.where(steep >= neighbours, steep, 0).sqrt()
