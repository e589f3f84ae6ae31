"""A net of another project inside the contract of ``base.RestorationNet``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpkd.nets.base import CHANNELS, RestorationNet
from sharpkd.nets.stats import measured_macs_per_pixel

COUNTED_SIDE = 192
"""Multiplications are counted on a square image of at least this side, in pixels."""
PROBE_SIDE = 32
PROBE_GROWTH = 3
"""Nets pad their input to multiples of up to 64 pixels, which must not hide that an image is wider."""


class ForeignNet(RestorationNet):
    """Pads as the net needs, keeps its memory format, finds its feature maps, counts what it costs.

    Its weights lie under ``module``, so that ``module.layers.0`` is the path of the net's own ``layers.0``.
    How far it sees is not known, hence ``receptive_field`` is None: tiles of it are never called exact.

    Args:
        module: ``(N, 3, H, W)`` in [0, 1] -> ``(N, 3, H * scale, W * scale)``, for the sizes that it takes.
        scale: how many times it enlarges.
        minimum: the smallest side that it takes, in pixels.
        multiple: a side has to be a multiple of this.
        square: both sides have to be equal.
        call: ``(module, one image) -> output`` where it needs more than the image; None calls it as it is.
    """

    def __init__(
        self,
        module: nn.Module,
        scale: int,
        minimum: int = 1,
        multiple: int = 1,
        square: bool = False,
        call: Callable[[Any, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.scale = scale
        self.minimum, self.multiple, self.square = minimum, multiple, square
        self._call = call

    @property
    def receptive_field(self) -> None:
        """Unknown."""
        return None

    def macs_per_pixel(self) -> float:
        """As torch counts them, on a square of about 192 pixels."""
        side = -(-max(COUNTED_SIDE, self.minimum) // self.multiple) * self.multiple
        try:
            return measured_macs_per_pixel(self, side)
        except (RuntimeError, NotImplementedError):  # some nets look at values, which meta tensors lack
            return measured_macs_per_pixel(self, side, "cpu")

    def restore(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H * scale, W * scale), H and W >= 1, not clamped."""
        height, width = image.shape[-2:]
        # nets with `view` inside do not stand torch's channels-last order
        image = self._padded(image).contiguous()
        if self._call is None:
            output: Tensor = self.module(image)
        else:
            output = torch.cat([self._call(self.module, single) for single in image.split(1)])
        return output[..., : height * self.scale, : width * self.scale]

    def _padded(self, image: Tensor) -> Tensor:
        """Reflected at the right and at the bottom; with nothing left to reflect, the last line repeats."""
        sides = list(image.shape[-2:])
        wanted = [-(-max(side, self.minimum) // self.multiple) * self.multiple for side in sides]
        if self.square:
            wanted = [max(wanted)] * 2
        extra = [want - side for want, side in zip(wanted, sides, strict=True)]
        if not any(extra):
            return image
        rows, columns = (min(more, side - 1) for more, side in zip(extra, sides, strict=True))
        image = F.pad(image, (0, columns, 0, rows), mode="reflect")
        return F.pad(image, (0, extra[1] - columns, 0, extra[0] - rows), mode="replicate")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ForeignNet:
        super()._apply(fn, recurse)
        for parameter in self.module.parameters():
            if not parameter.is_contiguous():
                parameter.data = parameter.data.contiguous()
        return self

    @cached_property
    def maps(self) -> list[str]:
        """Paths of the modules whose output is one map (N, C, h, w), C > 3, in the order in which they end.

        Found by running the net on two small images, of which the second is wider. Only a map grows along its
        last side and no other: not an attention between places, nor a map with its channels last.
        """
        side = -(-max(PROBE_SIDE, self.minimum) // self.multiple) * self.multiple
        first, second = self._outputs(side, side), self._outputs(side, PROBE_GROWTH * side)
        return [path for path, shapes in first.items() if self._is_map(shapes, second.get(path, []))]

    def _is_map(self, before: list[torch.Size], after: list[torch.Size]) -> bool:
        if len(before) != 1 or len(after) != 1 or not len(before[0]) == len(after[0]) == 4:
            return False
        (batch, channels, height, width), (_, channels_after, height_after, width_after) = *before, *after
        same_height = height == height_after or self.square
        return batch == 1 and CHANNELS < channels == channels_after and same_height and width < width_after

    @torch.no_grad()
    def _outputs(self, height: int, width: int) -> dict[str, list[torch.Size]]:
        """Shapes of what each module returns, in the order in which they end."""
        found: dict[str, list[torch.Size]] = {}
        modes = [(part, part.training) for part in self.modules()]
        handles = [
            part.register_forward_hook(_recorder(found, path))
            for path, part in self.named_modules()
            if path not in ("", "module")
        ]
        like = next(self.parameters())
        try:
            self.eval()
            self(torch.zeros(1, CHANNELS, height, width, device=like.device, dtype=like.dtype))
        finally:
            for handle in handles:
                handle.remove()
            for part, training in modes:
                part.training = training
        return found

    @cached_property
    def taps(self) -> dict[str, str]:  # type: ignore[override]  # found when asked for
        """``early``, ``middle`` and ``late``: the first, the middle and the last of ``maps``; or nothing."""
        maps = self.maps
        return {"early": maps[0], "middle": maps[(len(maps) - 1) // 2], "late": maps[-1]} if maps else {}


def _recorder(found: dict[str, list[torch.Size]], path: str) -> Callable[[nn.Module, Any, Any], None]:
    def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found.setdefault(path, []).append(output.shape if isinstance(output, Tensor) else torch.Size())

    return record
