"""Pictures with transparent parts: their invisible colours must not leak into what is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.picture import Picture

BAND_ROWS = 512


def with_hidden_filled(picture: Picture) -> Picture:
    """A copy in which fully transparent pixels have the colours of the visible ones near them.

    A net looks at a pixel's neighbours. Invisible ones hold anything (black, white, rubbish), and an edge
    that nobody can see would be sharpened into a halo around what is visible.

    The colours are means over ever larger squares, weighted with alpha (pull-push, Gortler et al., The
    Lumigraph, 1996, 4.2).
    """
    alpha = picture.alpha
    if alpha is None or not (alpha == 0).any() or not alpha.any():
        return picture
    near = _filled(*_halved(picture.pixels, alpha))
    pixels = picture.pixels.copy()
    for start in range(0, len(alpha), BAND_ROWS):
        stop = min(start + BAND_ROWS, len(alpha))
        hidden = alpha[start:stop] == 0
        rows = np.arange(start, stop) // 2
        columns = np.arange(alpha.shape[1]) // 2
        colours = near[rows[:, None], columns[None]][hidden]
        pixels[start:stop][hidden] = np.rint(colours).astype(pixels.dtype)
    return replace(picture, pixels=pixels)


def with_hidden_of(result: Picture, before: Picture) -> Picture:
    """``result`` with ``before``'s colours where it is fully transparent; as it is where sizes differ."""
    alpha = before.alpha
    if alpha is None or not (alpha == 0).any() or result.pixels.shape != before.pixels.shape:
        return result
    return replace(result, pixels=np.where((alpha == 0)[..., None], before.pixels, result.pixels))


def _halved(
    values: NDArray[np.generic], weights: NDArray[np.generic]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weighted means of squares of 2 x 2, ``(h, w, 3)``, and their weights in sum, ``(h, w)``."""
    height, width = ((side + 1) // 2 for side in weights.shape)
    means = np.zeros((height, width, 3), np.float32)
    sums = np.zeros((height, width), np.float32)
    for start in range(0, height, BAND_ROWS):
        band = slice(start, min(start + BAND_ROWS, height))
        for row in (0, 1):
            for column in (0, 1):
                part = weights[2 * band.start + row : 2 * band.stop : 2, column::2].astype(np.float32)
                place = (slice(band.start, band.start + part.shape[0]), slice(0, part.shape[1]))
                sums[place] += part
                colours = values[2 * band.start + row : 2 * band.stop : 2, column::2]
                means[place] += colours.astype(np.float32) * part[..., None]
        means[band] /= np.maximum(sums[band], np.float32(1e-6))[..., None]
    return means, sums


def _filled(means: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """``means``, with those of weight 0 taken from larger squares."""
    empty = weights == 0
    if not empty.any():
        return means
    # Weights are bounded, so that many levels of sums do not drown what is near.
    coarse = _filled(*_halved(means, np.minimum(weights, weights.max() / 4)))
    rows, columns = (np.arange(side) // 2 for side in weights.shape)
    means[empty] = coarse[rows[:, None], columns[None]][empty]
    return means
