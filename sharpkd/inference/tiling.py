"""Run a function over an image in tiles that do not show; see :mod:`sharpkd.functional.tiles`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from sharpkd.functional.tiles import Span, round_up

Image = NDArray[np.generic]


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
    """``function(image)``, computed tile by tile, from windows of one size.

    Args:
        function: takes ``(h, w, C)`` and returns ``(h * scale, w * scale, D)``; its result's dtype is kept.
        image: ``(H, W, C)``.
        tile: side of what is kept of one tile in the middle, in input pixels (rounded up to the stride); 0
            means no tiles.
        halo: pixels read around it, a multiple of ``stride``; see `sharpkd.functional.tiles.halo_of`.
        stride: the grid on which tiles start, in input pixels.
        scale: output pixels per input pixel along each axis.
        on_tile: called with (tiles done, tiles in all) after each.

    Returns:
        ``(H * scale, W * scale, D)``.
    """
    if tile == 0:
        return function(image)
    rows = list(even_spans(image.shape[0], tile, halo, stride))
    columns = list(even_spans(image.shape[1], tile, halo, stride))
    result: Image | None = None
    for done, (row, column) in enumerate(((r, c) for r in rows for c in columns), start=1):
        window = function(image[row.read(), column.read()])
        _check_size(window, row, column, scale)
        if result is None:
            size = (image.shape[0] * scale, image.shape[1] * scale, window.shape[2])
            result = np.empty(size, dtype=window.dtype)
        result[row.kept(scale), column.kept(scale)] = window[row.inner(scale), column.inner(scale)]
        if on_tile is not None:
            on_tile(done, len(rows) * len(columns))
    if result is None:
        raise ValueError(f"cannot tile an image without pixels: shape {image.shape}")
    return result


def even_spans(length: int, tile: int, halo: int, stride: int) -> Iterator[Span]:
    """As `sharpkd.functional.tiles.spans`, but all tiles read as much, so that an engine sees one size.

    They are as many as tiles of ``tile`` pixels have to be, and no larger than so many have to be. The last
    one begins early enough to read as much; only where ``length`` is no multiple of the stride it reads up to
    ``stride - 1`` pixels less, which padding to the stride makes up for. Arguments and errors are those of
    `spans`.
    """
    if tile < 1:
        raise ValueError(f"tile must be at least 1 pixel, got {tile}")
    if halo % stride:
        raise ValueError(f"halo must be a multiple of the stride {stride}, got {halo}")
    padded = round_up(length, stride)
    step = round_up(tile, stride)
    count = max(1, -(-(padded - 2 * halo) // step))
    size = min(round_up(-(-(padded + 2 * halo * (count - 1)) // count), stride), padded)
    start = keep_start = 0
    while start + size < padded:
        yield Span(start, start + size, keep_start, start + size - halo)
        keep_start = start + size - halo
        start = min(keep_start - halo, padded - size)
    if length:
        yield Span(start, length, keep_start, length)


def _check_size(window: Image, row: Span, column: Span, scale: int) -> None:
    expected = ((row.stop - row.start) * scale, (column.stop - column.start) * scale)
    if window.shape[:2] != expected:
        raise ValueError(f"a tile came back as {window.shape[:2]}, expected {expected} (scale {scale})")
