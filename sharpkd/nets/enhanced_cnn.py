"""The residual CNN of the original report, at full resolution: slow, a reference for quality."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sharpkd.functional.bicubic import enlarge
from sharpkd.functional.bicubic import macs_per_pixel as macs_of_enlarging
from sharpkd.nets.base import CHANNELS, RestorationNet, at_least, conv3x3, init_small


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(x))), without normalisation (Lim et al., EDSR, CVPRW 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(width, width), nn.ReLU(), conv3x3(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class EnhancedCNN(RestorationNet):
    """conv 3->64, six residual blocks, conv 64->64, long skip, conv 64->3: 483,587 parameters.

    Args:
        width: channels of the features (>= 1).
        blocks: number of residual blocks (>= 1).
        global_residual: add the input to the output, and start as nearly the identity. The original has none.
        scale: how many times larger the output is, along each axis (>= 1); above 1 the last convolution is a
            sub-pixel convolution (Shi et al., CVPR 2016), and an input that is added is enlarged by bicubic
            interpolation.

    Raises ValueError naming the argument that is too small.
    """

    def __init__(
        self, width: int = 64, blocks: int = 6, global_residual: bool = False, scale: int = 1
    ) -> None:
        super().__init__()
        self.scale = at_least("scale", scale, 1)
        self.width = at_least("width", width, 1)
        self.global_residual = global_residual
        self.head = conv3x3(CHANNELS, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(at_least("blocks", blocks, 1))))
        self.fuse = conv3x3(width, width)
        self.tail = conv3x3(width, CHANNELS * scale**2)
        if global_residual:
            init_small(self.tail)
        self.taps = {"early": "head", "middle": f"blocks.{(blocks - 1) // 2}", "late": "fuse"}

    @property
    def receptive_field(self) -> int:
        convolutions = 2 * len(self.blocks) + 3
        return 2 * convolutions + 1

    def macs_per_pixel(self) -> float:
        ends = (1 + self.scale**2) * CHANNELS * self.width
        per_pixel = 9 * (ends + (2 * len(self.blocks) + 1) * self.width**2)
        added = macs_of_enlarging(CHANNELS, self.scale) if self.global_residual else 0
        return per_pixel / self.scale**2 + added

    def restore(self, image: Tensor) -> Tensor:
        features = self.head(image)
        output = self.tail(features + self.fuse(self.blocks(features)))
        if self.scale > 1:
            output = F.pixel_shuffle(output, self.scale)
        return enlarge(image, self.scale) + output if self.global_residual else output
