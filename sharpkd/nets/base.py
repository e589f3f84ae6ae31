"""The contract that every restoration network keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 3


def check_image(image: Tensor, name: str = "degraded") -> None:
    """Raise a ValueError naming the shape unless ``image`` is a float tensor (N, 3, H, W), H and W >= 1."""
    shape = tuple(image.shape)
    if image.ndim != 4 or shape[1] != CHANNELS:
        raise ValueError(f"{name}: expected an RGB batch (N, 3, H, W), found shape {shape}")
    if shape[2] < 1 or shape[3] < 1:
        raise ValueError(f"{name}: expected at least one pixel, found shape {shape}")
    if not image.is_floating_point():
        raise ValueError(
            f"{name}: expected floats in [0, 1], found {image.dtype} of shape {shape}; divide by 255"
        )


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of (N, C, H, W) until H and W are multiples of ``multiple``."""
    height, width = image.shape[-2:]
    # Written as multiple * ceil so that torch.export can prove the result divisible.
    extra_rows = (height + multiple - 1) // multiple * multiple - height
    extra_columns = (width + multiple - 1) // multiple * multiple - width
    # A graph for all sizes has to contain the padding; eager code saves the copy.
    if multiple == 1 or not (torch.compiler.is_exporting() or extra_rows or extra_columns):
        return image
    # Unlike reflection, replication has no smallest image.
    return F.pad(image, (0, extra_columns, 0, extra_rows), mode="replicate")


class RestorationNet(nn.Module, ABC):
    """``forward(degraded, condition=None) -> sharp estimate`` for any height and width.

    A subclass implements ``restore``, ``macs_per_pixel`` and ``receptive_field``, and sets ``taps``: aliases
    of modules whose output is a map (N, C, h, w), always with the keys early, middle and late. Its
    constructor takes plain values only (int, float, str, bool, list), so that a weight file can carry them.
    """

    scale: int = 1
    condition_size: int = 0
    """How many numbers of the condition it is told, blur sigma first; 0 for a blind net."""
    taps: dict[str, str]

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> Self:
        """The net that a weight file describes; the file's tensors are loaded into it afterwards.

        Nets whose arguments name other files look into ``state`` instead, since those may be gone.
        """
        del state
        return cls(**arguments)

    @property
    def stride(self) -> int:
        """Sizes are padded inside to a multiple of this many pixels; tiles have to start at a multiple."""
        return 1

    @property
    @abstractmethod
    def receptive_field(self) -> int | None:
        """Side in pixels (odd) of the square window, centred on an output pixel, that can influence it.

        They are pixels of the input; where the net enlarges, the window is centred on that which the output
        pixel lies in. Where the reach differs between pixels (nets with a stride), the largest counts: a halo
        of (receptive_field - 1) / 2 makes tiles exact. None when the whole image has an influence.
        """

    @abstractmethod
    def macs_per_pixel(self) -> float:
        """Multiply-accumulates of all convolutions per output pixel, for large multiples of ``stride``.

        Of the deployed form, where there is another one to train.
        """

    @abstractmethod
    def restore(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) with H and W multiples of ``stride`` -> (N, 3, H * scale, W * scale)."""

    def restore_told(self, image: Tensor, condition: Tensor | None) -> Tensor:
        """As ``restore``, for nets that are told what was done to the image; blind ones do not look at it."""
        del condition
        return self.restore(image)

    def deployed(self) -> tuple[RestorationNet, dict[str, Any]]:
        """The net as it is counted, saved at the end of a training and exported: equal, perhaps simpler.

        Returns:
            The net (itself where there is no other form), and the constructor arguments that differ.
        """
        return self, {}

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        """(N, 3, H, W) in [0, 1], any H, W >= 1 -> (N, 3, H * scale, W * scale), not clamped.

        ``condition`` (N, k) is part of the contract and ignored by nets that are blind.
        Raises ValueError naming the shape or type when ``degraded`` is not an RGB float batch.
        """
        check_image(degraded)
        height, width = degraded.shape[-2:]
        output = self.restore_told(pad_to_multiple(degraded, self.stride), condition)
        return output[..., : height * self.scale, : width * self.scale]


def is_told(net: nn.Module) -> bool:
    """Whether a net looks at the condition."""
    return isinstance(net, RestorationNet) and net.condition_size > 0


def conv3x3(channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(channels, out_channels, 3, padding=1)


def init_small(layer: nn.Conv2d) -> nn.Conv2d:
    """Let a residual branch start near zero, but not at it: gradients must reach the layers before."""
    # Features are of order one; this keeps the start below half an 8-bit level.
    nn.init.normal_(layer.weight, std=2e-3 / layer.weight[0].numel() ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def at_least(name: str, value: int, minimum: int) -> int:
    """Return ``value``; below ``minimum`` raise a ValueError naming the constructor argument."""
    if value < minimum:
        raise ValueError(f"{name}: found {value}, expected at least {minimum}")
    return value
