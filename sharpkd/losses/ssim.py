"""Structural dissimilarity: L_SSIM."""

from __future__ import annotations

from torch import Tensor, nn

from sharpkd.functional.ssim import gaussian_window, ssim


class SSIMLoss(nn.Module):
    """``1 - SSIM`` on RGB over the valid region, in [0, 2].

    Zhao, Gallo, Frosio and Kautz, "Loss functions for image restoration with neural networks", IEEE TCI 2017.

    Args:
        window: side of the Gaussian window, pixels, odd; crops must be at least as large.
        sigma: of the window, pixels.

    Raises:
        ValueError: the window is even or sigma is not positive.
    """

    def __init__(self, window: int = 11, sigma: float = 1.5) -> None:
        super().__init__()
        gaussian_window(window, sigma)
        self.window = window
        self.sigma = sigma

    def forward(self, output: Tensor, sharp: Tensor) -> Tensor:
        """``(N, C, H, W)`` twice, [0, 1] -> scalar."""
        return 1 - ssim(output, sharp, self.window, self.sigma).mean()
