"""Distances between corresponding pixels: L_pixel."""

from __future__ import annotations

import math

from torch import Tensor, nn

from sharpkd.functional.check import check_pair, full_precision


def _difference(output: Tensor, sharp: Tensor) -> Tensor:
    check_pair(output, sharp)
    return full_precision(output) - full_precision(sharp)


class L1Loss(nn.Module):
    """Mean absolute error, >= 0: ``mean |output - sharp|``."""

    def forward(self, output: Tensor, sharp: Tensor) -> Tensor:
        """``(N, C, H, W)`` twice, [0, 1] -> scalar."""
        return _difference(output, sharp).abs().mean()


class CharbonnierLoss(nn.Module):
    """A smooth L1, >= epsilon: ``mean sqrt((output - sharp)² + ε²)`` (Lai et al., CVPR 2017, eq. 1).

    Args:
        epsilon: where the loss turns from quadratic to linear, in units of the image ([0, 1]).

    Raises:
        ValueError: epsilon is not a positive number.
    """

    def __init__(self, epsilon: float = 1e-3) -> None:
        super().__init__()
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise ValueError(f"loss.pixel.epsilon must be a positive number, got {epsilon}")
        self.epsilon = epsilon

    def forward(self, output: Tensor, sharp: Tensor) -> Tensor:
        """``(N, C, H, W)`` twice, [0, 1] -> scalar."""
        return (_difference(output, sharp).square() + self.epsilon**2).sqrt().mean()


class MSELoss(nn.Module):
    """Mean squared error, >= 0: ``mean (output - sharp)²``."""

    def forward(self, output: Tensor, sharp: Tensor) -> Tensor:
        """``(N, C, H, W)`` twice, [0, 1] -> scalar."""
        return _difference(output, sharp).square().mean()


class PSNRLoss(nn.Module):
    """PSNR to be raised, in decibels and negated: ``mean over images of 10 log10(mse + ε²)``, below 0.

    An image that is almost right counts as much as one that cannot be: a tenth of its error less is the same
    gain. NAFNet is trained with it (Chen et al., Simple baselines for image restoration, ECCV 2022).

    Args:
        epsilon: root mean squared error below which nothing more is gained, in units of the image ([0, 1]).

    Raises:
        ValueError: epsilon is not a positive number.
    """

    def __init__(self, epsilon: float = 1e-3) -> None:
        super().__init__()
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise ValueError(f"loss.pixel.epsilon must be a positive number, got {epsilon}")
        self.epsilon = epsilon

    def forward(self, output: Tensor, sharp: Tensor) -> Tensor:
        """``(N, C, H, W)`` twice, [0, 1] -> scalar."""
        squared = _difference(output, sharp).square().flatten(1).mean(1)
        return 10 * (squared + self.epsilon**2).log10().mean()
