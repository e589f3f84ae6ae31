"""The part that all image metrics share: one score per image, averaged over images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sharpkd.functional.check import check_pair, check_range, full_precision, quantise_8bit


class PerImageMetric(Metric):
    """Mean of a per-image score. Every image counts once, whatever batch or DDP process it came in.

    Args:
        quantise: round both images to 8 bit first, as files on disk are (for evaluation).
        kwargs: for ``torchmetrics.Metric``.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, quantise: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantise = quantise
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def score(self, output: Tensor, sharp: Tensor) -> Tensor:
        """The score of every image: ``(N, 3, H, W)`` twice, in [0, 1] -> ``(N,)``."""
        raise NotImplementedError

    def update(self, output: Tensor, sharp: Tensor) -> None:
        """Add a batch.

        Args:
            output: ``(N, 3, H, W)``; clamped to [0, 1], as a displayed image would be.
            sharp: the same shape, in [0, 1].

        Raises:
            ValueError: the shapes differ, or ``sharp`` lies outside [0, 1].
        """
        check_pair(output, sharp)
        check_range(sharp)
        clean = quantise_8bit if self.quantise else self._clamp
        with torch.no_grad(), torch.autocast(device_type=output.device.type, enabled=False):
            scores = self.score(clean(full_precision(output)), clean(full_precision(sharp)))
        self.total += scores.sum().to(self.total)
        self.count += scores.numel()

    def compute(self) -> Tensor:
        """Mean over all images seen, scalar."""
        return self.total / self.count

    def local_mean(self) -> float:
        """Mean over the images that this process alone has seen; asks no other process."""
        return float(self.total / self.count)

    @staticmethod
    def _clamp(image: Tensor) -> Tensor:
        return image.clamp(0, 1)
