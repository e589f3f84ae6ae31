"""Plain 3x3 convolutions behind a pixel-unshuffle: the fastest shape on a CPU."""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpkd.functional.bicubic import enlarge
from sharpkd.functional.bicubic import macs_per_pixel as macs_of_enlarging
from sharpkd.nets.base import CHANNELS, RestorationNet, at_least, conv3x3, init_small
from sharpkd.nets.reparameterised import ReparameterisedConv, collapsed_state

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in luma: ITU-R BT.601."""


def luma_of(image: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W), in the range of the image: the Y of JPEG, without headroom."""
    red, green, blue = image.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


class PixelStudent(RestorationNet):
    """Pixel-unshuffle r, N plain 3x3 convolutions of c channels with PReLU, pixel-shuffle, global residual.

    Source: sub-pixel convolution, Shi et al., CVPR 2016 (used here in both directions, and to enlarge).

    Args:
        unshuffle: r, side of the square of pixels that becomes channels (>= 1).
        width: c, channels between the convolutions (>= 1).
        depth: N, number of convolutions, first and last included (>= 2).
        scale: how many times larger the output is, along each axis (>= 1); above 1 the last convolution has
            scale**2 times the channels, and the input is enlarged by bicubic interpolation and then added.
        luma_only: the convolutions see luma (BT.601) alone, and what they add to it is added to red, green
            and blue alike: luma is restored, Cb and Cr stay what they are. First and last convolution have a
            third of the channels.
        rep: train every convolution but the last in the richer form of
            :class:`~sharpkd.nets.reparameterised.ReparameterisedConv`. :meth:`deployed` is the plain net that
            it is equal to; that one is counted, and saved at the end of a training.

    Raises ValueError naming the argument that is too small.
    """

    def __init__(
        self,
        unshuffle: int = 2,
        width: int = 32,
        depth: int = 6,
        scale: int = 1,
        luma_only: bool = False,
        rep: bool = False,
    ) -> None:
        super().__init__()
        self.scale = at_least("scale", scale, 1)
        self.unshuffle = at_least("unshuffle", unshuffle, 1)
        self.width = at_least("width", width, 1)
        self.depth = at_least("depth", depth, 2)
        self.luma_only, self.rep = luma_only, rep
        inside = self.inside
        convolution = ReparameterisedConv if rep else conv3x3
        layers: list[nn.Module] = []
        for i in range(depth - 1):
            layers += [convolution(inside if i == 0 else width, width), nn.PReLU(width)]
        self.body = nn.Sequential(*layers)
        self.tail = init_small(conv3x3(width, inside * scale**2))
        if rep:
            # the inputs that its blocks add make features larger: see init_small
            with torch.no_grad():
                self.tail.weight.mul_(0.5)
        last = depth - 2
        self.taps = {
            "early": "body.1",
            "middle": f"body.{2 * (last // 2) + 1}",
            "late": f"body.{2 * last + 1}",
        }

    def arguments(self) -> dict[str, Any]:
        """What the constructor was given."""
        names = ("unshuffle", "width", "depth", "scale", "luma_only", "rep")
        return {name: getattr(self, name) for name in names}

    @property
    def inside(self) -> int:
        """Channels behind the pixel-unshuffle."""
        return (1 if self.luma_only else CHANNELS) * self.unshuffle**2

    @property
    def stride(self) -> int:
        return self.unshuffle

    @property
    def receptive_field(self) -> int:
        return 2 * (self.unshuffle * self.depth + self.unshuffle - 1) + 1

    def macs_per_pixel(self) -> float:
        per_cell = 9 * ((1 + self.scale**2) * self.inside * self.width + (self.depth - 2) * self.width**2)
        return per_cell / (self.unshuffle * self.scale) ** 2 + macs_of_enlarging(CHANNELS, self.scale)

    def restore(self, image: Tensor) -> Tensor:
        return self.add_residual(image, self.body(self.cells(image)))

    def cells(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, inside, H / r, W / r): what the first convolution sees."""
        return F.pixel_unshuffle(luma_of(image) if self.luma_only else image, self.unshuffle)

    def add_residual(self, image: Tensor, features: Tensor) -> Tensor:
        """The image, enlarged, and what the last convolution makes of (N, c, H / r, W / r)."""
        residual = F.pixel_shuffle(self.tail(features), self.unshuffle * self.scale)
        return enlarge(image, self.scale) + residual

    @torch.no_grad()
    def deployed(self) -> tuple[Self, dict[str, Any]]:
        """See :meth:`RestorationNet.deployed`: with ``rep`` every convolution collapsed, in a copy."""
        if not self.rep:
            return self, {}
        changed = {"rep": False}
        # nobody's random numbers change because a net is counted or saved
        with torch.random.fork_rng(devices=[]):
            plain = type(self)(**{**self.arguments(), **changed}).to(self.tail.weight)
        plain.load_state_dict(collapsed_state(self))
        return plain.train(self.training), changed
