"""Run a function over an image in tiles that do not show.

Every tile is read with a halo, so that what is kept of its result never saw the tile's edge, and starts at a
multiple of the net's stride, so that a net that works on a coarser grid sees the same grid as on the whole
image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.generic]


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in input pixels: read ``[start, stop)``, keep ``[keep_start, keep_stop)``."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def halo_of(receptive_field: int, stride: int) -> int:
    """Pixels to read around a tile: half the receptive field, rounded up to a multiple of the stride.

    Raises:
        ValueError: ``receptive_field`` is not a positive odd number, or ``stride`` is below 1.
    """
    if receptive_field < 1 or receptive_field % 2 == 0:
        raise ValueError(f"receptive_field must be odd and at least 1 (pixels), got {receptive_field}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1 (pixels), got {stride}")
    return _round_up(receptive_field // 2, stride)


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
    step = _round_up(tile, stride)
    for keep_start in range(0, length, step):
        keep_stop = min(keep_start + step, length)
        yield Span(max(keep_start - halo, 0), min(keep_stop + halo, length), keep_start, keep_stop)


def run_tiled(
    function: Callable[[Image], Image],
    image: Image,
    *,
    tile: int,
    halo: int,
    stride: int = 1,
    scale: int = 1,
    on_tile: Callable[[int, int], None] | None = None,
) -> Image:
    """``function(image)``, computed tile by tile.

    Args:
        function: takes ``(h, w, C)`` and returns ``(h * scale, w * scale, D)``; its result's dtype is kept.
        image: ``(H, W, C)``.
        tile: side of what is kept of one tile, in input pixels (rounded up to the stride); 0 means no tiles.
        halo: pixels read around it, a multiple of ``stride``; see `halo_of`.
        stride: the grid on which tiles start, in input pixels.
        scale: output pixels per input pixel along each axis.
        on_tile: called with (tiles done, tiles in all) after each.

    Returns:
        ``(H * scale, W * scale, D)``.
    """
    if tile == 0:
        return function(image)
    rows = list(spans(image.shape[0], tile, halo, stride))
    columns = list(spans(image.shape[1], tile, halo, stride))
    result: Image | None = None
    for done, (row, column) in enumerate(((r, c) for r in rows for c in columns), start=1):
        window = function(image[row.start : row.stop, column.start : column.stop])
        _check_size(window, row, column, scale)
        if result is None:
            size = (image.shape[0] * scale, image.shape[1] * scale, window.shape[2])
            result = np.empty(size, dtype=window.dtype)
        result[_kept(row, scale), _kept(column, scale)] = window[_inner(row, scale), _inner(column, scale)]
        if on_tile is not None:
            on_tile(done, len(rows) * len(columns))
    if result is None:
        raise ValueError(f"cannot tile an image without pixels: shape {image.shape}")
    return result


def _check_size(window: Image, row: Span, column: Span, scale: int) -> None:
    expected = ((row.stop - row.start) * scale, (column.stop - column.start) * scale)
    if window.shape[:2] != expected:
        raise ValueError(f"a tile came back as {window.shape[:2]}, expected {expected} (scale {scale})")


def _kept(span: Span, scale: int) -> slice:
    return slice(span.keep_start * scale, span.keep_stop * scale)


def _inner(span: Span, scale: int) -> slice:
    return slice((span.keep_start - span.start) * scale, (span.keep_stop - span.start) * scale)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
