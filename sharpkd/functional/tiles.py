"""How an image is cut into tiles: which pixels each one reads, and which of its result are kept.

Every tile is read with a halo, so that what is kept of its result never saw the tile's edge, and starts at a
multiple of the net's stride, so that a net that works on a coarser grid sees the same grid as on the whole
image. Numbers only, no torch: whoever sharpens with an ONNX file uses it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

GLOBAL_HALO = 64
"""Pixels around a tile of a net that sees the whole image: no halo is exact there, this one keeps seams
faint."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in input pixels: read ``[start, stop)``, keep ``[keep_start, keep_stop)``."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    def read(self) -> slice:
        """Of the image."""
        return slice(self.start, self.stop)

    def kept(self, scale: int) -> slice:
        """Of the whole result."""
        return slice(self.keep_start * scale, self.keep_stop * scale)

    def inner(self, scale: int) -> slice:
        """Of the tile's own result."""
        return slice((self.keep_start - self.start) * scale, (self.keep_stop - self.start) * scale)


def halo_of(receptive_field: int, stride: int) -> int:
    """Pixels to read around a tile: half the receptive field, rounded up to a multiple of the stride.

    Raises:
        ValueError: ``receptive_field`` is not a positive odd number, or ``stride`` is below 1.
    """
    if receptive_field < 1 or receptive_field % 2 == 0:
        raise ValueError(f"receptive_field must be odd and at least 1 (pixels), got {receptive_field}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1 (pixels), got {stride}")
    return round_up(receptive_field // 2, stride)


def spans(length: int, tile: int, halo: int, stride: int) -> Iterator[Span]:
    """Cut an axis of ``length`` pixels into tiles of at most ``tile`` pixels plus ``halo`` on either side.

    Starts are multiples of ``stride``; the last tile ends where the image does, so that padding inside the
    net falls on the same pixels as for the whole image. What is kept covers ``[0, length)`` exactly once.

    Raises:
        ValueError: ``tile`` is below 1 pixel, or ``halo`` is no multiple of ``stride``.
    """
    if tile < 1:
        raise ValueError(f"tile must be at least 1 pixel, got {tile}")
    if halo % stride:
        raise ValueError(f"halo must be a multiple of the stride {stride}, got {halo}")
    step = round_up(tile, stride)
    for keep_start in range(0, length, step):
        keep_stop = min(keep_start + step, length)
        yield Span(max(keep_start - halo, 0), min(keep_stop + halo, length), keep_start, keep_stop)


def round_up(value: int, multiple: int) -> int:
    """The least multiple that is not below the value."""
    return -(-value // multiple) * multiple
