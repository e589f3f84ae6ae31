"""A decoded file, sharpened: every frame or page, with its transparent parts, and its depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
from PIL import Image

from sharpkd.inference.picture import ImageFile, Picture
from sharpkd.inference.transparency import with_hidden_filled, with_hidden_of

OnTile = Callable[[int, int], None]


class SharpensPictures(Protocol):
    """What `sharpkd.inference.sharpener.Sharpener` offers."""

    def picture(self, picture: Picture, strength: float = 1.0, on_tile: OnTile | None = None) -> Picture:
        """A sharpened copy."""
        ...


def sharpened(
    file: ImageFile, sharpener: SharpensPictures, strength: float = 1.0, on_tile: OnTile | None = None
) -> ImageFile:
    """``file`` with all its pictures sharpened.

    Args:
        file: one picture, frames or pages.
        sharpener: does it.
        strength: see `sharpkd.inference.sharpener.Sharpener`.
        on_tile: called with (tiles done, tiles in all) while it works; both count all pictures.
    """
    several = len(file.pictures)
    results = []
    for index, picture in enumerate(file.pictures):

        def report(done: int, total: int, index: int = index) -> None:
            if on_tile is not None:
                on_tile(index * total + done, several * total)

        result = sharpener.picture(with_hidden_filled(picture), strength, report)
        results.append(with_hidden_of(result, picture))
        report(1, 1)
    return replace(file, pictures=tuple(results))


def side_by_side(before: ImageFile, after: ImageFile) -> ImageFile:
    """Pictures with ``before`` on the left (enlarged where ``after`` is larger), ``after`` on the right."""
    pairs = zip(before.pictures, after.pictures, strict=True)
    return replace(after, pictures=tuple(_pair(left, right) for left, right in pairs))


def _pair(left: Picture, right: Picture) -> Picture:
    height, width = right.pixels.shape[:2]
    pixels = _resized(left.pixels, width, height)
    alpha = right.alpha
    if alpha is not None and left.alpha is not None:
        alpha = np.concatenate((_resized(left.alpha, width, height), alpha), axis=1)
    return replace(right, pixels=np.concatenate((pixels, right.pixels), axis=1), alpha=alpha)


def _resized(array: np.ndarray, width: int, height: int) -> np.ndarray:
    """Channel by channel, for Pillow has no colour of 16 bits."""
    if array.shape[:2] == (height, width):
        return array
    channels = array[..., None] if array.ndim == 2 else array
    resized = [
        np.array(
            Image.fromarray(np.ascontiguousarray(channels[..., index])).resize(
                (width, height), Image.Resampling.BICUBIC
            )
        )
        for index in range(channels.shape[2])
    ]
    return np.stack(resized, axis=2) if array.ndim == 3 else resized[0]
