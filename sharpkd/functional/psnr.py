"""Peak signal-to-noise ratio."""

from __future__ import annotations

from torch import Tensor

from sharpkd.functional.check import check_pair, full_precision

PSNR_CAP = 100.0
"""dB given to identical images, whose PSNR is infinite. Two 8-bit images that differ stay below it."""


def psnr(output: Tensor, sharp: Tensor, cap: float = PSNR_CAP) -> Tensor:
    """PSNR of every image, in dB: ``10 log10(1 / MSE)``, the MSE over all its channels and pixels.

    Args:
        output: ``(N, C, H, W)`` in [0, 1]; values outside count as they are.
        sharp: the same shape, in [0, 1].
        cap: the highest value returned, dB.

    Returns:
        ``(N,)``, one value per image.

    Raises:
        ValueError: the two are not image batches of one shape.

    >>> import torch
    >>> psnr(torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 8, 8), 0.6)).round()
    tensor([20.])
    """
    check_pair(output, sharp)
    mse = (full_precision(output) - full_precision(sharp)).square().mean(dim=(1, 2, 3))
    return -10 * mse.clamp_min(10 ** (-cap / 10)).log10()
