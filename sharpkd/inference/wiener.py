"""Wiener filters without torch: their design, and their form as convolutions from pixels to cells.

`sharpkd.nets.wiener_student.WienerStudent` says what is computed; tests hold this equal to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

DETAIL_GAIN = 4.0
GRID = 64
SPECTRUM = 200.0
CALM = 0.25
DOUBLING = (0.3, 0.07, 0.1)


@dataclass(frozen=True)
class Details:
    """What linear filters would add to a picture, as convolutions of stride r that see one plane.

    An output pixel in place (i, j) of its cell is the filter's kernel, moved by (i, j), over the picture with
    ``reach`` pixels of its mirror image. So r·r outputs are the cell, whatever side the kernel has. Graphs
    give ``(1, n, h, w)``: those of the colours, colour first, then those of luma.

    Attributes:
        colours: ``(k·r·r, 1, taps + r - 1, taps + r - 1)`` for each colour's plane, or None.
        luma: the same for luma, which a picture of three colours is first made to, or None.
        added: channels of ``n`` that are added to a cell's numbers as they lie in memory, times ``strength``.
        strength: see `sharpkd.inference.student.Layers.for_pixels`.
        reach: pixels of mirror image on each side.
    """

    colours: Floats | None
    luma: Floats | None
    added: NDArray[np.int64]
    strength: float
    reach: int

    @property
    def channels(self) -> int:
        """n."""
        colours = 0 if self.colours is None else 3 * len(self.colours)
        return colours + (0 if self.luma is None else len(self.luma))

    @property
    def size(self) -> int:
        """Multiply-accumulates for each cell."""
        colours = 0 if self.colours is None else 3 * self.colours.size
        return colours + (0 if self.luma is None else self.luma.size)

    @property
    def adds_all(self) -> bool:
        """Whether every channel is added in its place, so that none has to be picked out."""
        return np.array_equal(self.added, np.arange(self.channels))


def kernels_of(sigma: float, beside: Sequence[float], log_ratios: NDArray[Any], taps: int) -> Floats:
    """The filters for one blur, each of sum 1; see `WienerStudent.kernels`.

    Args:
        sigma: of the Gaussian blur, pixels.
        beside: what the net is told behind sigma: noise in 8-bit levels, compression, reduction.
        log_ratios: ``(K,)``: the natural logarithm of each filter's ratio of noise to signal.
        taps: side of the kernels in pixels, odd, less than 64.

    Returns:
        ``(K, taps, taps)``.
    """
    ratio = np.exp(log_ratios.astype(np.float64)) * sigma**2 / (sigma**2 + CALM)
    ratio *= 1 + sum((value / double) ** 2 for value, double in zip(beside, DOUBLING, strict=False))
    kernels, responses, shares, f_squared = _basis(taps)
    blur = np.exp(-2 * np.pi**2 * sigma**2 * f_squared)
    signal = 1 / (1 + SPECTRUM * f_squared)
    middle = np.zeros((taps, taps))
    middle[taps // 2, taps // 2] = 1
    found = []
    for noise in ratio:
        squares = (responses.T * (shares * (signal * blur**2 + noise))) @ responses
        amounts = np.linalg.solve(squares, responses.T @ (shares * (signal * blur * (1 - blur) - noise)))
        found.append(np.tensordot(amounts, kernels, 1) + middle)
    return np.array(found, np.float32)


@cache
def _basis(taps: int) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """``(U, taps, taps)``, ``(F, U)``, ``(F,)``, ``(F,)``: see `sharpkd.nets.wiener_filter.Basis`."""
    reach, half = taps // 2, GRID // 2
    frequency = np.arange(half + 1) / GRID
    waves = np.cos(2 * np.pi * np.outer(frequency, np.arange(reach + 1)))
    twice = np.full(half + 1, 2.0)
    twice[[0, -1]] = 1
    down, across = np.tril_indices(half + 1)
    shares = twice[down] * twice[across] * np.where(down == across, 1, 2)
    kernels, responses = [], []
    for a in range(1, reach + 1):
        for b in range(a + 1):
            kernel = np.zeros((taps, taps))
            for i, j in ((a, b), (b, a)):
                kernel[np.ix_([reach - i, reach + i], [reach - j, reach + j])] = 1
            places = kernel.sum()
            kernel[reach, reach] = -places
            kernels.append(kernel)
            both = waves[down, a] * waves[across, b] + waves[down, b] * waves[across, a]
            responses.append(places * (both / 2 - 1))
    f_squared = frequency[down] ** 2 + frequency[across] ** 2
    return np.array(kernels), np.stack(responses, axis=1), shares, f_squared


def to_cells(kernels: Floats, unshuffle: int) -> Floats:
    """``(K, t, t)`` filters -> ``(K·r·r, 1, t + r - 1, t + r - 1)``: filtered less unfiltered, as cells."""
    count, taps = kernels.shape[:2]
    less = kernels.copy()
    less[:, taps // 2, taps // 2] -= 1
    side = taps + unshuffle - 1
    moved = np.zeros((count, unshuffle, unshuffle, side, side), np.float32)
    for i in range(unshuffle):
        for j in range(unshuffle):
            moved[:, i, j, i : i + taps, j : j + taps] = less
    return moved.reshape(-1, 1, side, side)


def between_cells(kernels: Floats, unshuffle: int) -> Floats:
    """Filters as convolutions from cells to cells.

    Args:
        kernels: ``(K, t, t)``, correlated with a picture.
        unshuffle: r, side of a cell; channels of a cell are down, then across.

    Returns:
        ``(K·r·r, r·r, s, s)`` with s the odd number of cells that holds every kernel, wherever in the middle
        cell it begins.
    """
    r, (count, taps) = unshuffle, kernels.shape[:2]
    reach = taps // 2
    margin = -(-reach // r)
    side = 2 * margin + 1
    moved = np.zeros((count, r, r, side * r, side * r), np.float32)
    for i in range(r):
        for j in range(r):
            down, across = margin * r + i - reach, margin * r + j - reach
            moved[:, i, j, down : down + taps, across : across + taps] = kernels
    cells = moved.reshape(count * r * r, side, r, side, r)
    return np.ascontiguousarray(cells.transpose(0, 2, 4, 1, 3)).reshape(count * r * r, r * r, side, side)


def of_sum_zero(kernels: Floats, precision: Literal["bf16"] | None) -> Floats:
    """What filters of sum 1 add to a picture, ``(K, t, t)``; rounded to a precision, of sum 0 all the same.

    What is lost by rounding a number is added to the next smaller one before that is rounded.
    """
    less = kernels.copy()
    middle = kernels.shape[-1] // 2
    less[:, middle, middle] -= 1
    if precision is None:
        return less
    flat = less.reshape(len(less), -1)
    for numbers in flat:
        over = 0.0
        for place in np.argsort(-np.abs(numbers)):
            wanted = float(numbers[place]) + over
            numbers[place] = to_bfloat16(np.array(wanted, np.float32))
            over = wanted - float(numbers[place])
    return less


def to_bfloat16(values: Floats) -> Floats:
    """The nearest numbers of 8 significant bits, as float32; half-way to the even one. Finite values only."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def details_of(
    kernels: Floats, unshuffle: int, channels: int, luma_only: bool, filter_chroma: bool, strength: float
) -> Details:
    """The convolutions for pictures of 1 or 3 channels; arguments as of `WienerStudent`."""
    cells, places = to_cells(kernels, unshuffle), unshuffle**2
    place = np.arange(places)
    colours: Floats | None
    luma: Floats | None
    by_colour = not luma_only or (filter_chroma and channels == 3)
    if not by_colour:
        colours, luma = None, cells
        added = np.repeat(place, channels)
    elif luma_only:
        colours, luma = cells[:places], cells[places:] if len(kernels) > 1 else None
        added = (np.arange(3) * places + place[:, None]).ravel()
    else:
        colours, luma = cells, None
        added = (np.arange(3) * len(cells) + place[:, None]).ravel()
    return Details(colours, luma, added.astype(np.int64), strength, kernels.shape[-1] // 2)


def weights_of_details(weight: Floats, details: Details, luma_only: bool, unshuffle: int) -> Floats:
    """The first convolution's weights of the details, in the order in which the graphs give them.

    Args:
        weight: ``(out, K·C·r·r, 3, 3)`` as the net has them: filter, colour, place in the cell; C is 1 with
            ``luma_only``.
        details: of these filters.
        luma_only, unshuffle: of the net.

    Returns:
        ``(out, n, 3, 3)``.
    """
    places, gained = unshuffle**2, np.float32(DETAIL_GAIN) * weight
    if details.colours is None:
        return gained
    if not luma_only:
        by_filter = gained.reshape(len(gained), -1, 3, places, 3, 3)
        return by_filter.transpose(0, 2, 1, 3, 4, 5).reshape(gained.shape)
    shares = np.array((0.299, 0.587, 0.114), np.float32)[None, :, None, None, None]
    colours = (gained[:, None, :places] * shares).reshape(len(gained), -1, 3, 3)
    return np.concatenate([colours, gained[:, places:]], axis=1)
