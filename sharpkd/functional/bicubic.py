"""Bicubic enlargement as a convolution: the same at every place of an image, hence in every tile."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

SHARPNESS = -0.5
REACH = 2
"""Pixels of the small image, to either side, that a pixel of the large one depends on."""
TAPS = 2 * REACH + 1


def cubic(distance: float) -> float:
    """The kernel with a = -0.5 that MATLAB and Pillow use: Keys, IEEE Trans. ASSP 1981, equation 15."""
    x = abs(distance)
    if x < 1:
        return (SHARPNESS + 2) * x**3 - (SHARPNESS + 3) * x**2 + 1
    if x < 2:
        return SHARPNESS * (x**3 - 5 * x**2 + 8 * x - 4)
    return 0.0


def enlarge(image: Tensor, scale: int) -> Tensor:
    """``(N, C, H, W)`` -> ``(N, C, H * scale, W * scale)``; the image itself for a scale of 1.

    Away from the border it is Pillow's bicubic; outside the image its border pixels are repeated. One filter
    for each of the scale x scale places inside a pixel, then a pixel-shuffle: 25 multiplications for a value.
    Autocast does not reach it: an image in 16 bits would be a coarse one.

    Raises:
        ValueError: the scale is below 1.
    """
    if scale < 1:
        raise ValueError(f"enlarge: the scale must be at least 1, found {scale}")
    if scale == 1:
        return image
    channels = image.shape[1]
    phases = [(place + 0.5) / scale - 0.5 for place in range(scale)]
    line = [[cubic(tap - REACH - phase) for tap in range(TAPS)] for phase in phases]
    weights = torch.tensor(line, dtype=image.dtype, device=image.device)
    kernel = (weights[:, None, :, None] * weights[None, :, None, :]).reshape(scale**2, 1, TAPS, TAPS)
    padded = F.pad(image, (REACH, REACH, REACH, REACH), mode="replicate")
    with _no_autocast(image.device.type):
        places = F.conv2d(padded, kernel.repeat(channels, 1, 1, 1), groups=channels)
    return F.pixel_shuffle(places, scale)


def _no_autocast(device: str) -> AbstractContextManager[object]:
    # there is none on the meta device, nor in a graph that is being exported
    if device == "meta" or torch.compiler.is_exporting():
        return nullcontext()
    return torch.autocast(device, enabled=False)


def macs_per_pixel(channels: int, scale: int) -> int:
    """Multiply-accumulates of :func:`enlarge` per pixel of the large image, all channels together."""
    return 0 if scale == 1 else channels * TAPS**2
