"""Depthwise-separable convolutions with efficient channel attention: few parameters, few multiplications."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from sharpkd.functional.bicubic import enlarge
from sharpkd.functional.bicubic import macs_per_pixel as macs_of_enlarging
from sharpkd.nets.base import CHANNELS, RestorationNet, at_least, conv3x3, init_small
from sharpkd.nets.pooling import AttentionPool


class EfficientChannelAttention(nn.Module):
    """Scale each channel by a sigmoid of a short 1-D convolution over the channels' means.

    Source: Wang et al., "ECA-Net", CVPR 2020; the kernel's size is their eq. 12 with gamma 2 and b 1.
    """

    def __init__(self, width: int, window: int | None, stride: int) -> None:
        super().__init__()
        size = int(abs(math.log2(width) + 1) / 2)
        size += 1 - size % 2
        self.pool = AttentionPool(window, stride)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(x).permute(0, 2, 3, 1)
        mixed = self.conv(pooled.reshape(-1, 1, pooled.shape[-1])).reshape(pooled.shape)
        return x * self.pool.spread(mixed.sigmoid().permute(0, 3, 1, 2), x)

    def macs_per_pixel(self, width: int) -> float:
        """Asymptotically per pixel of the image."""
        return self.conv.kernel_size[0] * width * self.pool.places_per_pixel


class SeparableBlock(nn.Module):
    """x + ECA(separable(PReLU(separable(x)))).

    Separable is a depthwise 3x3, then a 1x1 convolution (Howard et al., "MobileNets", 2017).
    """

    def __init__(self, width: int, attention: bool, window: int | None, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.Conv2d(width, width, 1),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.Conv2d(width, width, 1),
        )
        self.attention = EfficientChannelAttention(width, window, stride) if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.body(x))


class MobileStudent(RestorationNet):
    """Pixel-unshuffle, conv, separable residual blocks with ECA, conv, pixel-shuffle, global residual.

    Args:
        unshuffle: side of the square of pixels that becomes channels (>= 1; 1 works at full resolution, where
            depthwise convolution is bound by memory).
        width: channels of the features (>= 1).
        blocks: residual blocks, each of two separable convolutions (>= 1).
        attention: efficient channel attention in every block. Without it the receptive field is finite.
        attention_window: pixels; outside training the attention pools windows of this side instead of the
            whole image (see AttentionPool). About 1.5 times the training crop; null pools the whole image.
        scale: how many times larger the output is, along each axis (>= 1); above 1 the last convolution has
            scale**2 times the channels, and the input is enlarged by bicubic interpolation and then added.

    Raises ValueError naming the argument that is too small.
    """

    def __init__(
        self,
        unshuffle: int = 2,
        width: int = 48,
        blocks: int = 6,
        attention: bool = True,
        attention_window: int | None = 192,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.scale = at_least("scale", scale, 1)
        self.unshuffle = at_least("unshuffle", unshuffle, 1)
        self.width = at_least("width", width, 1)
        self.attention = attention
        inside = CHANNELS * unshuffle**2
        self.head = nn.Sequential(conv3x3(inside, width), nn.PReLU(width))
        self.blocks = nn.Sequential(
            *(
                SeparableBlock(width, attention, attention_window, unshuffle)
                for _ in range(at_least("blocks", blocks, 1))
            )
        )
        self.tail = init_small(conv3x3(width, inside * scale**2))
        self.taps = {"early": "head", "middle": f"blocks.{(blocks - 1) // 2}", "late": f"blocks.{blocks - 1}"}

    @property
    def stride(self) -> int:
        return self.unshuffle

    @property
    def receptive_field(self) -> int | None:
        if self.attention:
            return None
        convolutions = 2 * len(self.blocks) + 2
        return 2 * (self.unshuffle * convolutions + self.unshuffle - 1) + 1

    def macs_per_pixel(self) -> float:
        inside = CHANNELS * self.unshuffle**2
        separable = 9 * self.width + self.width**2
        per_cell = (1 + self.scale**2) * 9 * inside * self.width + 2 * len(self.blocks) * separable
        eca = sum(
            m.macs_per_pixel(self.width) for m in self.modules() if isinstance(m, EfficientChannelAttention)
        )
        per_pixel = per_cell / self.unshuffle**2 + eca
        return per_pixel / self.scale**2 + macs_of_enlarging(CHANNELS, self.scale)

    def restore(self, image: Tensor) -> Tensor:
        cells = F.pixel_unshuffle(image, self.unshuffle)
        residual = F.pixel_shuffle(self.tail(self.blocks(self.head(cells))), self.unshuffle * self.scale)
        return enlarge(image, self.scale) + residual
