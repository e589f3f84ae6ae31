"""A plain student that is shown what fixed filters find: what WienerStudent becomes for one condition."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sharpkd.nets.base import at_least, conv3x3
from sharpkd.nets.pixel_student import PixelStudent, luma_of

DETAIL_GAIN = 4.0
"""Details are much smaller than the image: what the first convolution sees of them is multiplied by this."""


class Filtering(PixelStudent):
    """What students with filters have in common: what they say about themselves."""

    candidates: int
    taps_of_filter: int
    filter_chroma: bool

    def filter_arguments(self) -> dict[str, Any]:
        """What the constructors take beside those of :class:`PixelStudent`."""
        return {
            "candidates": self.candidates,
            "taps": self.taps_of_filter,
            "filter_chroma": self.filter_chroma,
        }

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), **self.filter_arguments()}

    @property
    def receptive_field(self) -> int:
        return super().receptive_field + self.taps_of_filter - 1

    def macs_per_pixel(self) -> float:
        planes = self.candidates * (1 if self.luma_only else 3)
        planes += 2 if self.luma_only and self.filter_chroma else 0
        # what they make the first convolution's input larger
        wider = 9 * self.candidates * self.inside * self.width / self.unshuffle**2
        return super().macs_per_pixel() + planes * self.taps_of_filter**2 + wider


class FilteredStudent(Filtering):
    """:class:`PixelStudent` whose first convolution also sees what linear filters would add to the image.

    Args:
        unshuffle, width, depth, scale, luma_only, rep: as of :class:`PixelStudent`; scale 1, not ``rep``.
        candidates: how many filters (>= 1); the details of the first are added to the image.
        taps: side of their kernels in pixels, odd.
        filter_chroma: with ``luma_only``, add the first filter's details of all colours, not of luma alone.

    Raises ValueError naming the argument, what was found and what was expected.
    """

    filters: Tensor

    def __init__(
        self,
        unshuffle: int = 2,
        width: int = 32,
        depth: int = 6,
        scale: int = 1,
        luma_only: bool = False,
        rep: bool = False,
        candidates: int = 3,
        taps: int = 31,
        filter_chroma: bool = False,
    ) -> None:
        if scale != 1 or rep:
            raise ValueError(f"scale and rep: found {scale} and {rep}, expected 1 and False")
        super().__init__(unshuffle, width, depth, scale, luma_only, rep)
        self.candidates = at_least("candidates", candidates, 1)
        self.taps_of_filter = at_least("taps", taps, 3)
        if taps % 2 == 0:
            raise ValueError(f"taps: found {taps}, expected an odd number")
        self.filter_chroma = filter_chroma
        self.body[0] = conv3x3(self.inside * (1 + candidates), width)
        identity = torch.zeros(candidates, taps, taps)
        identity[:, taps // 2, taps // 2] = 1
        self.register_buffer("filters", identity)

    def restore(self, image: Tensor) -> Tensor:
        own = luma_of(image) if self.luma_only else image
        if self.luma_only and self.filter_chroma:
            added = self._filtered(image, self.filters[:1])[:, 0] - image
            details = luma_of(added)[:, None]
            if self.candidates > 1:
                more = self._filtered(own, self.filters[1:]) - own[:, None]
                details = torch.cat([details, more], dim=1)
        else:
            details = self._filtered(own, self.filters) - own[:, None]
            added = details[:, 0]
        shown = torch.cat([own, DETAIL_GAIN * details.flatten(1, 2)], dim=1)
        return self.add_residual(image + added, self.body(F.pixel_unshuffle(shown, self.unshuffle)))

    def _filtered(self, image: Tensor, filters: Tensor) -> Tensor:
        """(N, C, H, W) and (K, t, t) -> (N, K, C, H, W)."""
        count, colours, height, width = image.shape
        planes = image.reshape(count * colours, 1, height, width)
        made = F.conv2d(mirrored(planes, self.taps_of_filter // 2), filters[:, None].to(planes))
        return made.view(count, colours, len(filters), height, width).transpose(1, 2)


def mirrored(image: Tensor, reach: int) -> Tensor:
    """``(N, C, H, W)`` continued on all sides by ``reach`` pixels: mirrored, without the edge itself.

    What blurred the image that way, such as this project's degradations, is undone up to its edge; repeating
    the edge instead would leave there what a sharp filter makes large. Images no larger than ``reach`` are
    mirrored as often as need be.
    """
    rows, columns = (_mirror(side, reach, image) for side in image.shape[-2:])
    return image[..., rows[:, None], columns]


def _mirror(side: int, reach: int, like: Tensor) -> Tensor:
    place = torch.arange(-reach, side + reach, device=like.device)
    # at least 1, for a side of 1; a tensor, since a graph for all sizes knows no number here
    period = (2 * torch.full_like(place, side) - 2).clamp_min(1)
    place = place.remainder(period)
    return torch.minimum(place, period - place)
