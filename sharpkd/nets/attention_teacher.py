"""The teacher: a multi-scale residual CNN with channel and spatial attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpkd.functional.bicubic import enlarge
from sharpkd.functional.bicubic import macs_per_pixel as macs_of_enlarging
from sharpkd.nets.base import CHANNELS, RestorationNet, at_least, conv3x3, init_small
from sharpkd.nets.pooling import AttentionPool

SPATIAL_KERNEL = 7


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018): (N, C, h, w) -> gates that multiply it."""

    def __init__(self, width: int, reduction: int, window: int | None, stride: int) -> None:
        super().__init__()
        self.width, self.hidden = width, max(4, width // reduction)
        self.pool = AttentionPool(window, stride)
        self.gate = nn.Sequential(
            nn.Conv2d(width, self.hidden, 1), nn.SiLU(), nn.Conv2d(self.hidden, width, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.pool.spread(self.gate(self.pool(x)), x)

    def macs_per_pixel(self) -> float:
        """Asymptotically per pixel of the image."""
        return 2 * self.width * self.hidden * self.pool.places_per_pixel


class SpatialAttention(nn.Module):
    """Gates (N, 1, h, w) from the mean and maximum over the channels (Woo et al., CBAM, ECCV 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.conv(summary).sigmoid()


class AttentionBlock(nn.Module):
    """x + spatial(f) * channel(f) * f with f = conv(SiLU(conv(x))).

    Both attentions look at f itself, as in Roy et al., "Concurrent spatial and channel squeeze & excitation",
    2018, so that one multiplication applies both.
    """

    def __init__(
        self, width: int, channel: ChannelAttention | None, spatial: SpatialAttention | None
    ) -> None:
        super().__init__()
        last = conv3x3(width, width)
        # Without normalisation, many residual branches at full strength would add up to huge features.
        with torch.no_grad():
            last.weight.mul_(0.2)
        self.body = nn.Sequential(conv3x3(width, width), nn.SiLU(), last)
        self.channel = channel
        self.spatial = spatial

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        output = features
        if self.channel is not None:
            output = output * self.channel(features)
        if self.spatial is not None:
            output = output * self.spatial(features)
        return x + output


class AttentionTeacher(RestorationNet):
    """Encoder-decoder over len(depths) scales, with skip connections by addition and a global residual.

    Level i has width * 2**i channels and works at 1 / (unshuffle * 2**i) of the resolution, so that a block
    costs the same number of multiplications at every level.

    Args:
        width: channels of the first level (>= 1).
        depths: residual blocks of each level on the way down; the last is the bottom.
        decoder_depths: residual blocks of each level on the way up, first level first, one fewer than
            ``depths``; null means the same as on the way down.
        unshuffle: side of the square of pixels that becomes channels before the first level (>= 1). With 2
            nothing runs at full resolution.
        reduction: how much narrower the hidden layer of the channel attention is.
        channel_attention: gate the channels of every block. Without it the receptive field is finite.
        spatial_attention: gate the places of every block.
        attention_window: pixels; outside training the channel attention pools windows of this side instead
            of the whole image (see AttentionPool). About 1.5 times the training crop; null pools everything.
        scale: how many times larger the output is, along each axis (>= 1); above 1 the last convolution has
            scale**2 times the channels, and the input is enlarged by bicubic interpolation and then added.

    Raises ValueError naming the argument, what was found and what was expected.
    """

    def __init__(
        self,
        width: int = 64,
        depths: list[int] | None = None,
        decoder_depths: list[int] | None = None,
        unshuffle: int = 2,
        reduction: int = 8,
        channel_attention: bool = True,
        spatial_attention: bool = True,
        attention_window: int | None = 192,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.scale = at_least("scale", scale, 1)
        self.width = at_least("width", width, 1)
        self.unshuffle = at_least("unshuffle", unshuffle, 1)
        at_least("reduction", reduction, 1)
        self.depths = [3, 3, 2] if depths is None else list(depths)
        self.decoder_depths = self.depths[:-1] if decoder_depths is None else list(decoder_depths)
        if not self.depths or min(self.depths) < 1:
            raise ValueError(
                f"depths: found {self.depths}, expected at least one level of at least one block each"
            )
        if len(self.decoder_depths) != len(self.depths) - 1 or min(self.decoder_depths, default=1) < 1:
            raise ValueError(
                f"decoder_depths: found {self.decoder_depths}, expected {len(self.depths) - 1} numbers >= 1 "
                f"(one fewer than depths {self.depths})"
            )
        self.channel_attention, self.spatial_attention = channel_attention, spatial_attention

        def level(i: int, depth: int) -> nn.Sequential:
            channels = width * 2**i
            return nn.Sequential(
                *(
                    AttentionBlock(
                        channels,
                        ChannelAttention(channels, reduction, attention_window, unshuffle * 2**i)
                        if channel_attention
                        else None,
                        SpatialAttention() if spatial_attention else None,
                    )
                    for _ in range(depth)
                )
            )

        inside, steps = CHANNELS * unshuffle**2, range(len(self.depths) - 1)
        self.head = conv3x3(inside, width)
        self.encoder = nn.ModuleList(level(i, depth) for i, depth in enumerate(self.depths[:-1]))
        self.down = nn.ModuleList(nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 2, stride=2) for i in steps)
        self.bottom = level(len(self.depths) - 1, self.depths[-1])
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width * 2 ** (i + 1), width * 2 ** (i + 2), 1, bias=False), nn.PixelShuffle(2)
            )
            for i in steps
        )
        self.decoder = nn.ModuleList(level(i, depth) for i, depth in enumerate(self.decoder_depths))
        self.tail = init_small(conv3x3(width, inside * scale**2))
        single = len(self.depths) == 1
        self.taps = {
            "early": "head" if single else "encoder.0",
            "middle": f"bottom.{(self.depths[-1] - 1) // 2}" if single else "bottom",
            "late": "bottom" if single else "decoder.0",
        }

    @property
    def stride(self) -> int:
        return self.unshuffle * 2 ** (len(self.depths) - 1)

    @property
    def receptive_field(self) -> int | None:
        if self.channel_attention:
            return None
        return 2 * max(self._reach(pixel) for pixel in range(self.stride)) + 1

    def _reach(self, pixel: int) -> int:
        """How far from output pixel ``pixel`` the input still influences it, walking back through the net."""
        per_block = 2 + (SPATIAL_KERNEL // 2 if self.spatial_attention else 0)

        def level(i: int, low: int, high: int) -> tuple[int, int]:
            if i == len(self.depths) - 1:
                reach = per_block * self.depths[i]
                return low - reach, high + reach
            reach = per_block * self.decoder_depths[i]
            low, high = low - reach, high + reach
            below_low, below_high = level(i + 1, low // 2, high // 2)
            low, high = min(low, 2 * below_low), max(high, 2 * below_high + 1)
            reach = per_block * self.depths[i]
            return low - reach, high + reach

        cell = pixel // self.unshuffle
        low, high = level(0, cell - 1, cell + 1)
        low, high = (low - 1) * self.unshuffle, (high + 1) * self.unshuffle + self.unshuffle - 1
        return max(pixel - low, high - pixel)

    def macs_per_pixel(self) -> float:
        inside = CHANNELS * self.unshuffle**2
        macs = (1 + self.scale**2) * 9 * inside * self.width / self.unshuffle**2
        for i, depth in enumerate(self.depths):
            channels, area = self.width * 2**i, (self.unshuffle * 2**i) ** 2
            blocks = depth + (self.decoder_depths[i] if i < len(self.decoder_depths) else 0)
            macs += blocks * 2 * 9 * channels**2 / area
            if self.spatial_attention:
                macs += blocks * 2 * SPATIAL_KERNEL**2 / area
            if i < len(self.decoder_depths):
                # Down: 2x2 from c to 2c. Up: 1x1 from 2c to 4c. Both at a quarter of this level's places.
                macs += (4 * channels * 2 * channels + 2 * channels * 4 * channels) / (4 * area)
        macs += sum(m.macs_per_pixel() for m in self.modules() if isinstance(m, ChannelAttention))
        return macs / self.scale**2 + macs_of_enlarging(CHANNELS, self.scale)

    def restore(self, image: Tensor) -> Tensor:
        features = self.head(F.pixel_unshuffle(image, self.unshuffle))
        skips: list[Tensor] = []
        for encode, down in zip(self.encoder, self.down, strict=True):
            features = encode(features)
            skips.append(features)
            features = down(features)
        features = self.bottom(features)
        for i in reversed(range(len(skips))):
            features = self.decoder[i](skips[i] + self.up[i](features))
        residual = F.pixel_shuffle(self.tail(features), self.unshuffle * self.scale)
        return enlarge(image, self.scale) + residual
