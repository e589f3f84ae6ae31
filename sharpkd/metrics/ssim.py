"""Structural similarity, averaged per image."""

from __future__ import annotations

from torch import Tensor

from sharpkd.functional.ssim import ssim
from sharpkd.metrics.per_image import PerImageMetric


class SSIM(PerImageMetric):
    """Mean over images of the SSIM on RGB, in [-1, 1], higher is better.

    Window 11, sigma 1.5, over the valid region: torchmetrics' own class averages the reflect-padded border
    too, and on a GPU its convolutions round to TF32. Images must be at least 11x11 pixels.

    >>> import torch
    >>> metric = SSIM()
    >>> metric.update(torch.ones(1, 3, 16, 16), torch.ones(1, 3, 16, 16))
    >>> metric.compute()
    tensor(1.)
    """

    higher_is_better = True

    def score(self, output: Tensor, sharp: Tensor) -> Tensor:
        """``(N,)`` in [-1, 1]."""
        return ssim(output, sharp)
