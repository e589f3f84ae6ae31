"""Plain 3x3 convolutions behind a pixel-unshuffle: the fastest shape on a CPU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sharpkd.functional.bicubic import enlarge
from sharpkd.functional.bicubic import macs_per_pixel as macs_of_enlarging
from sharpkd.nets.base import CHANNELS, RestorationNet, at_least, conv3x3, init_small


class PixelStudent(RestorationNet):
    """Pixel-unshuffle r, N plain 3x3 convolutions of c channels with PReLU, pixel-shuffle, global residual.

    Source: sub-pixel convolution, Shi et al., CVPR 2016 (used here in both directions, and to enlarge).

    Args:
        unshuffle: r, side of the square of pixels that becomes channels (>= 1).
        width: c, channels between the convolutions (>= 1).
        depth: N, number of convolutions, first and last included (>= 2).
        scale: how many times larger the output is, along each axis (>= 1); above 1 the last convolution has
            scale**2 times the channels, and the input is enlarged by bicubic interpolation and then added.

    Raises ValueError naming the argument that is too small.
    """

    def __init__(self, unshuffle: int = 2, width: int = 32, depth: int = 6, scale: int = 1) -> None:
        super().__init__()
        self.scale = at_least("scale", scale, 1)
        self.unshuffle = at_least("unshuffle", unshuffle, 1)
        self.width = at_least("width", width, 1)
        self.depth = at_least("depth", depth, 2)
        inside = CHANNELS * unshuffle**2
        layers: list[nn.Module] = []
        for i in range(depth - 1):
            layers += [conv3x3(inside if i == 0 else width, width), nn.PReLU(width)]
        self.body = nn.Sequential(*layers)
        self.tail = init_small(conv3x3(width, inside * scale**2))
        last = depth - 2
        self.taps = {
            "early": "body.1",
            "middle": f"body.{2 * (last // 2) + 1}",
            "late": f"body.{2 * last + 1}",
        }

    @property
    def stride(self) -> int:
        return self.unshuffle

    @property
    def receptive_field(self) -> int:
        return 2 * (self.unshuffle * self.depth + self.unshuffle - 1) + 1

    def macs_per_pixel(self) -> float:
        inside = CHANNELS * self.unshuffle**2
        per_cell = 9 * ((1 + self.scale**2) * inside * self.width + (self.depth - 2) * self.width**2)
        return per_cell / (self.unshuffle * self.scale) ** 2 + macs_of_enlarging(CHANNELS, self.scale)

    def restore(self, image: Tensor) -> Tensor:
        cells = F.pixel_unshuffle(image, self.unshuffle)
        residual = F.pixel_shuffle(self.tail(self.body(cells)), self.unshuffle * self.scale)
        return enlarge(image, self.scale) + residual
