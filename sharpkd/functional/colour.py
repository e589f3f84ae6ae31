"""Colour conversions."""

from __future__ import annotations

from torch import Tensor


def rgb_to_y(image: Tensor) -> Tensor:
    """Luma as the super-resolution literature measures it: ITU-R BT.601, studio swing.

    The same as MATLAB's ``rgb2ycbcr`` and scikit-image's ``rgb2ycbcr(...)[..., 0] / 255``.

    Args:
        image: ``(N, 3, H, W)`` RGB in [0, 1].

    Returns:
        ``(N, 1, H, W)`` in [16/255, 235/255].

    Raises:
        ValueError: the image has not three channels.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"luma needs an (N, 3, H, W) RGB image, got shape {tuple(image.shape)}")
    red, green, blue = image.split(1, dim=1)
    return (65.481 * red + 128.553 * green + 24.966 * blue + 16) / 255
