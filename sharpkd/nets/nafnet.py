"""NAFNet: a U-shaped net without activation functions, the teacher that learns most from as many samples."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpkd.functional.bicubic import enlarge
from sharpkd.functional.bicubic import macs_per_pixel as macs_of_enlarging
from sharpkd.functional.torchvision_guard import define_missing_operators
from sharpkd.nets.base import CHANNELS, RestorationNet, at_least, conv3x3, init_small
from sharpkd.nets.pooling import AttentionPool

BRANCH_START = 1e-2


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of (N, C, h, w), with a weight and a bias a channel."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        shape = (1, -1, 1, 1)
        return self.weight.view(shape) * (centred / (variance + self.eps).sqrt()) + self.bias.view(shape)


class LocalAttention(nn.Sequential):
    """NAFNet's simplified channel attention, with the mean of a window outside training (AttentionPool)."""

    def __init__(self, pool: AttentionPool, conv: nn.Conv2d) -> None:
        # a sequence, for the names that the tensors have in the authors' weight files
        super().__init__(pool, conv)
        self.width = conv.in_channels

    def forward(self, x: Tensor) -> Tensor:
        pool: Any = self[0]
        return pool.spread(self[1](pool(x)), x)

    def macs_per_pixel(self) -> float:
        """Asymptotically per pixel of the image."""
        pool: Any = self[0]
        return self.width**2 * pool.places_per_pixel


class NAFNet(RestorationNet):
    """``net=nafnet``: encoder and decoder with skip connections by addition, and a global residual.

    Chen et al., "Simple Baselines for Image Restoration", ECCV 2022 (arXiv 2204.04676), in spandrel's form,
    whose tensors it names as the authors do, under ``body``. Level i has width * 2**i channels at 1 / 2**i of
    the resolution. The defaults have 4.0 million parameters.

    Two things differ from the paper. The residual branches start at 0.01 of their strength, not at zero, so
    that gradients reach all of them; and outside training the channel attention looks at windows, as in Chu
    et al., "Improving Image Restoration by Revisiting Global Information Aggregation", ECCV 2022.

    Args:
        width: channels of the first level (>= 1).
        encoder_blocks: blocks of each level on the way down.
        middle_blocks: blocks at the bottom (>= 1).
        decoder_blocks: blocks of each level on the way up, deepest first, as many levels as on the way down.
        attention_window: pixels; about 1.5 times the training crop; null looks at the whole image always.
        scale: how many times larger the output is, along each axis (>= 1); above 1 the last convolution has
            scale**2 times the channels, and the input is enlarged by bicubic interpolation and then added.

    Raises ValueError naming the argument, what was found and what was expected.
    """

    def __init__(
        self,
        width: int = 32,
        encoder_blocks: list[int] | None = None,
        middle_blocks: int = 6,
        decoder_blocks: list[int] | None = None,
        attention_window: int | None = 192,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.scale = at_least("scale", scale, 1)
        self.width = at_least("width", width, 1)
        self.middle_blocks = at_least("middle_blocks", middle_blocks, 1)
        self.encoder_blocks = [2, 2, 4] if encoder_blocks is None else list(encoder_blocks)
        self.decoder_blocks = [2, 2, 2] if decoder_blocks is None else list(decoder_blocks)
        if not self.encoder_blocks or min(self.encoder_blocks) < 1:
            raise ValueError(
                f"encoder_blocks: found {self.encoder_blocks}, expected at least one level of at least one "
                "block each"
            )
        levels = len(self.encoder_blocks)
        if len(self.decoder_blocks) != levels or min(self.decoder_blocks) < 1:
            raise ValueError(
                f"decoder_blocks: found {self.decoder_blocks}, expected {levels} numbers >= 1 (as many as "
                f"encoder_blocks {self.encoder_blocks})"
            )
        self.body = self._build(attention_window)
        self.taps = {
            "early": "body.encoders.0",
            "middle": "body.middle_blks",
            "late": f"body.decoders.{levels - 1}",
        }

    def _build(self, attention_window: int | None) -> nn.Module:
        # several of spandrel's architectures import torchvision
        define_missing_operators()
        from spandrel.architectures.NAFNet import NAFNet as Architecture

        body: Any = Architecture(
            img_channel=CHANNELS,
            width=self.width,
            middle_blk_num=self.middle_blocks,
            enc_blk_nums=self.encoder_blocks,
            dec_blk_nums=self.decoder_blocks,
        )
        for _, stride, block in _blocks(body):
            # spandrel's own normalisation has a backward pass by hand, which torch cannot export
            block.norm1 = LayerNorm2d(block.norm1.weight.numel(), block.norm1.eps)
            block.norm2 = LayerNorm2d(block.norm2.weight.numel(), block.norm2.eps)
            block.sca = LocalAttention(AttentionPool(attention_window, stride), block.sca[1])
            nn.init.constant_(block.beta, BRANCH_START)
            nn.init.constant_(block.gamma, BRANCH_START)
        if self.scale > 1:
            body.ending = conv3x3(self.width, CHANNELS * self.scale**2)
        init_small(body.ending)
        return body

    @property
    def stride(self) -> int:
        return 2 ** len(self.encoder_blocks)

    @property
    def receptive_field(self) -> None:
        """The channel attention looks at everything, or at a large window."""
        return None

    def macs_per_pixel(self) -> float:
        macs = (1 + self.scale**2) * 9.0 * CHANNELS * self.width
        for i in range(len(self.encoder_blocks)):
            channels, area = self.width * 2**i, 4**i
            # Down: 2x2 from c to 2c. Up: 1x1 from 2c to 4c. Both at a quarter of this level's places.
            macs += (4 * channels * 2 * channels + 2 * channels * 4 * channels) / (4 * area)
        for channels, stride, block in _blocks(self.body):
            macs += (6 * channels**2 + 9 * 2 * channels) / stride**2 + block.sca.macs_per_pixel()
        return macs / self.scale**2 + macs_of_enlarging(CHANNELS, self.scale)

    def restore(self, image: Tensor) -> Tensor:
        body: Any = self.body
        features = body.intro(image)
        skips: list[Tensor] = []
        for encode, down in zip(body.encoders, body.downs, strict=True):
            features = encode(features)
            skips.append(features)
            features = down(features)
        features = body.middle_blks(features)
        for decode, up, skip in zip(body.decoders, body.ups, reversed(skips), strict=True):
            features = decode(up(features) + skip)
        return enlarge(image, self.scale) + F.pixel_shuffle(body.ending(features), self.scale)


def _blocks(body: Any) -> list[tuple[int, int, Any]]:
    """Channels, pixels of the image per place, and the block, for every block."""
    width, levels = body.intro.out_channels, len(body.encoders)
    parts = [*enumerate(body.encoders), (levels, body.middle_blks)]
    parts += [(levels - 1 - i, decoder) for i, decoder in enumerate(body.decoders)]
    return [(width * 2**i, 2**i, block) for i, blocks in parts for block in blocks]
