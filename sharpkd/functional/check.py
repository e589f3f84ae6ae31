"""What two images must have in common before anything compares them."""

from __future__ import annotations

import torch
from torch import Tensor

# Rounding of resampling filters may step over the ends by this much; a 0-255 image never hides below it.
RANGE_SLACK = 1e-3


def check_pair(output: Tensor, sharp: Tensor) -> None:
    """Check that two tensors are image batches of one shape, ``(N, C, H, W)``, floating point.

    Raises:
        ValueError: naming the shapes or the dtypes found.
    """
    if output.ndim != 4 or output.shape != sharp.shape or output.numel() == 0:
        raise ValueError(
            f"output and sharp must be non-empty (N, C, H, W) batches of one shape, got "
            f"{tuple(output.shape)} and {tuple(sharp.shape)}"
        )
    if not (output.is_floating_point() and sharp.is_floating_point()):
        raise ValueError(
            f"output and sharp must be floating point in [0, 1], got {output.dtype} and {sharp.dtype}; "
            "divide 8-bit images by 255 first"
        )


def check_range(sharp: Tensor) -> None:
    """Check that an image batch lies in [0, 1] (up to a thousandth of filter overshoot).

    Raises:
        ValueError: naming the shape and the range found.
    """
    low, high = (float(bound) for bound in torch.aminmax(sharp))
    if not (low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK):
        raise ValueError(f"sharp must lie in [0, 1], got {low:g} to {high:g} at shape {tuple(sharp.shape)}")


def full_precision(image: Tensor) -> Tensor:
    """The same values in float32 where they came in 16 bit; float32 and float64 pass unchanged."""
    return image.float() if image.dtype in (torch.float16, torch.bfloat16) else image


def quantise_8bit(image: Tensor) -> Tensor:
    """Values in [0, 1] rounded to the 256 levels that an 8-bit file can hold."""
    return (image.clamp(0, 1) * 255).round() / 255
