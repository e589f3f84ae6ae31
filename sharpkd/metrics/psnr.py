"""Peak signal-to-noise ratio, averaged per image."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sharpkd.functional.psnr import PSNR_CAP, psnr
from sharpkd.metrics.per_image import PerImageMetric


class PSNR(PerImageMetric):
    """Mean over images of the PSNR on RGB, dB, higher is better (not the PSNR of the pooled error).

    Args:
        cap: dB given to identical images.
        quantise: round both images to 8 bit first.
        kwargs: for ``torchmetrics.Metric``.

    >>> import torch
    >>> metric = PSNR()
    >>> metric.update(torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 8, 8), 0.6))
    >>> metric.compute().round()
    tensor(20.)
    """

    higher_is_better = True

    def __init__(self, cap: float = PSNR_CAP, quantise: bool = False, **kwargs: Any) -> None:
        super().__init__(quantise=quantise, **kwargs)
        self.cap = cap

    def score(self, output: Tensor, sharp: Tensor) -> Tensor:
        """``(N,)``, dB."""
        return psnr(output, sharp, self.cap)
