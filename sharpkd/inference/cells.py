"""What every engine of students does around its graph: cells of pixels, padding, more than 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.student import PixelFormat

Pixels = NDArray[Any]
Run = Callable[[Pixels], Pixels]
"""``(H, W, C)`` -> sharpened, of the same shape and dtype."""


def on_cells(
    graph: Callable[..., Pixels],
    unshuffle: int,
    pixels: PixelFormat,
    details: Callable[[Pixels], Pixels] | None = None,
    reach: int = 0,
) -> Run:
    """A graph on cells as a function on pictures of any size.

    Sizes are padded to a multiple of ``unshuffle`` by repeating the last row and column, as the nets do it
    (`sharpkd.nets.base.pad_to_multiple`), and cropped again.

    Args:
        graph: ``(1, h, r, w, r·C)`` cells -> the same shape. Of 8 bits uint8 sharpened; of more bits it is
            given float32 and returns what is to be added: bf16 and the rounding of a graph do not touch the
            picture itself. With ``details`` it is given their result too.
        unshuffle: r.
        pixels: what the numbers mean.
        details: takes ``(1, H, W, C)`` with ``reach`` pixels more on each side, mirrored: uint8, or
            float32 of more bits.
        reach: see there.
    """

    def run(window: Pixels) -> Pixels:
        height, width = window.shape[:2]
        padded = pad_to_multiple(window, unshuffle)
        result = graph(*given_on_cells(padded, unshuffle, pixels, details, reach))
        result = result.reshape(padded.shape)[:height, :width]
        if pixels.bits == 8:
            return result
        return np.clip(np.rint(window + result), 0, pixels.top).astype(window.dtype)

    return run


def given_on_cells(
    padded: Pixels,
    unshuffle: int,
    pixels: PixelFormat,
    details: Callable[[Pixels], Pixels] | None = None,
    reach: int = 0,
) -> list[Pixels]:
    """What a graph is given for ``(H, W, C)`` pixels, H and W multiples of ``unshuffle``; see `on_cells`."""
    shape = padded.shape
    cells = padded.reshape(1, shape[0] // unshuffle, unshuffle, shape[1] // unshuffle, -1)
    if pixels.bits != 8:
        cells = cells.astype(np.float32)
    if details is None:
        return [cells]
    wide = np.pad(cells.reshape(shape), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return [cells, details(wide[None])]


def pad_to_multiple(window: Pixels, multiple: int) -> Pixels:
    """Repeat the last row and column of ``(H, W, C)``; contiguous."""
    rows, columns = -window.shape[0] % multiple, -window.shape[1] % multiple
    if not rows and not columns:
        return np.ascontiguousarray(window)
    return np.pad(window, ((0, rows), (0, columns), (0, 0)), mode="edge")
