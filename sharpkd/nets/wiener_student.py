"""A student behind Wiener filters: what a linear filter can restore it need not learn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.base import at_least, conv3x3
from sharpkd.nets.filtered_student import DETAIL_GAIN, FilteredStudent, Filtering, mirrored
from sharpkd.nets.pixel_student import PixelStudent, luma_of
from sharpkd.nets.reparameterised import ReparameterisedConv
from sharpkd.nets.wiener_filter import GRID, wiener_filters

NOISE_TO_SIGNAL = (5e-5, 2e-4, 1.5e-5)
"""Where the learnt ratios start; further filters start at the first."""
DOUBLING = (0.3, 0.07, 0.1)
"""What doubles the ratio, of the conditions behind sigma: noise in 8-bit levels (rounding alone brings
1 / sqrt(12)), JPEG's compression, whose error at 1 is of some 4 levels, and the reduction, which leaves
nothing beyond half the old sampling rate that could be restored."""
CALM = 0.25
"""Square pixels. Below half a pixel of blur the ratio falls to 0, and the filter becomes the identity."""


class WienerStudent(Filtering, AwareStudent):
    """:class:`AwareStudent` that is also shown what Wiener filters for the blur that it is told make of it.

    The filters are those of `sharpkd.nets.wiener_filter.wiener_filters` for the sigma that it is told, with a
    noise-to-signal ratio n that a small network makes of the whole condition, times σ² / (σ² + 0.25) and
    1 + Σ (c / d)² over what is told beside sigma, with d of ``DOUBLING``: for noise that is its variance
    beside that of rounding.
    There are several, each with a ratio of its own: the smaller it is, the more detail, and the more ringing
    where sigma is wrong. The details that they add (filtered image less image) go into the first convolution
    beside the image, the first filter's are added to the image, and the net adds what is missing and takes
    away what rings.

    So the student starts as a deblurring filter, not as the identity, and the filters are the same at every
    pixel, where convolutions behind a pixel-unshuffle have to learn each place in the cell by itself.

    Args:
        candidates: how many filters (>= 1).
        taps: side of their kernels in pixels, odd (3…63).
        filter_chroma: with ``luma_only``, add the first filter's details of red, green and blue, not of luma
            alone: chroma is restored by the linear filter, luma by filter and net.
        unshuffle, width, depth, scale, luma_only, rep, condition_limits, hidden: see :class:`AwareStudent`;
            ``luma_only`` filters luma alone. The scale must be 1.

    Raises ValueError naming the argument, what was found and what was expected.
    """

    def __init__(
        self,
        unshuffle: int = 2,
        width: int = 32,
        depth: int = 6,
        scale: int = 1,
        luma_only: bool = False,
        rep: bool = False,
        condition_limits: list[float] | None = None,
        hidden: int = 32,
        candidates: int = 3,
        taps: int = 31,
        filter_chroma: bool = False,
    ) -> None:
        super().__init__(unshuffle, width, depth, scale, luma_only, rep, condition_limits, hidden)
        self.filter_chroma = filter_chroma
        if scale != 1:
            raise ValueError(f"scale: found {scale}, expected 1: the filters keep the size")
        if not 3 <= taps < GRID or taps % 2 == 0:
            raise ValueError(f"taps: found {taps}, expected an odd number from 3 to {GRID - 1}")
        self.candidates, self.taps_of_filter = at_least("candidates", candidates, 1), taps
        convolution: Callable[[int, int], nn.Module] = ReparameterisedConv if rep else conv3x3
        self.body[0] = convolution(self.inside * (1 + candidates), width)
        last = nn.Linear(hidden, candidates)
        nn.init.normal_(last.weight, std=1e-3)
        starts = [*NOISE_TO_SIGNAL, *[NOISE_TO_SIGNAL[0]] * candidates][:candidates]
        with torch.no_grad():
            last.bias.copy_(torch.tensor(starts).log())
        self.ratio = nn.Sequential(nn.Linear(self.condition_size, hidden), nn.SiLU(), last)

    def ratios(self, condition: Tensor) -> Tensor:
        """Noise to signal of each filter for ``(N, k)`` conditions: ``(N, candidates)``."""
        share = (condition / self.modulation.limits).clamp(0, 1)
        ratio = self.ratio((2 * share - 1).to(self.tail.weight)).float().exp()
        sigma_squared = condition[:, :1].float().square()
        ratio = ratio * sigma_squared / (sigma_squared + CALM)
        beside = condition[:, 1 : self.condition_size].float()[:, : len(DOUBLING)]
        doubling = torch.tensor(DOUBLING[: beside.shape[1]], device=condition.device)
        return ratio * (1 + (beside / doubling).square().sum(1, keepdim=True))

    def kernels(self, condition: Tensor) -> Tensor:
        """The filters for ``(N, k)`` conditions: ``(N, candidates, taps, taps)``, symmetric, of sum 1."""
        return wiener_filters(condition[:, 0], self.ratios(condition), self.taps_of_filter)

    def restore_told(self, image: Tensor, condition: Tensor | None) -> Tensor:
        told = self._read(condition, image)
        # rounded to bfloat16 the kernels would no longer sum to 1
        with _without_autocast(image.device.type):
            kernels, own = self.kernels(told), (luma_of(image) if self.luma_only else image).float()
            details = filtered(own, kernels) - own[:, None]
            added = details[:, 0]
            if self.luma_only and self.filter_chroma:
                added = filtered(image.float(), kernels[:, :1])[:, 0] - image
            shown = torch.cat([own, DETAIL_GAIN * details.flatten(1, 2)], dim=1).to(image)
        scales, shifts = self.modulation(told)
        features = F.pixel_unshuffle(shown, self.unshuffle)
        for i in range(self.depth - 1):
            features = self.body[2 * i](features) * scales[i, :, :, None, None] + shifts[i, :, :, None, None]
            features = self.body[2 * i + 1](features)
        return self.add_residual(image + added.to(image), features)

    @torch.no_grad()
    def fold(self, condition: Tensor) -> PixelStudent:
        """See :meth:`AwareStudent.fold`: the filters of one condition are plain convolutions too."""
        plain = super().fold(condition)
        assert isinstance(plain, FilteredStudent)
        told = condition[None, : self.condition_size].to(self.tail.weight)
        plain.filters.copy_(self.kernels(told)[0])
        return plain

    def _plain(self) -> PixelStudent:
        return FilteredStudent(**{**PixelStudent.arguments(self), "rep": False}, **self.filter_arguments())


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    """Some devices have none, such as ``meta``, on which nets are measured."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def filtered(image: Tensor, kernels: Tensor) -> Tensor:
    """Each image through filters of its own, continued by its mirror image; by FFT, for kernels of any size.

    Args:
        image: ``(N, C, H, W)`` float32.
        kernels: ``(N, K, t, t)``, t odd; correlated, as convolutions of neural nets are.

    Returns:
        ``(N, K, C, H, W)``.
    """
    reach = kernels.shape[-1] // 2
    padded = mirrored(image, reach)
    size = padded.shape[-2:]
    spectrum = torch.fft.rfft2(padded)[:, None] * torch.fft.rfft2(kernels.flip(-2, -1), s=size)[:, :, None]
    return torch.fft.irfft2(spectrum, s=size)[..., 2 * reach :, 2 * reach :]
