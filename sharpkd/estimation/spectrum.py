"""How an image's power falls with the frequency, and whether its pixels were interpolated.

A Gaussian blur multiplies the power at f cycles per pixel by exp(-4 π² σ² f²), down to what rounding and
noise leave; enlarging from fewer pixels leaves it flat up to half the old sampling rate and takes all beyond.
Bands of a few frequencies tell the two apart, where octaves cannot.

What was interpolated repeats how it was made with the period of the factor (Gallagher, Detection of linear
and cubic interpolation in JPEG compressed images, Canadian Conference on Computer and Robot Vision 2005):
here the products of neighbouring second differences, which show a factor of 2 too, where the variance of the
second differences themselves is the same in both phases.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WINDOW = 64
"""Pixels of a line whose spectrum is taken at once, in half-overlapping Hann windows."""
BANDS = WINDOW // 4
"""Two frequencies each, from the lowest up to half a cycle per pixel."""
POWER_FLOOR = 0.005
"""Squared grey levels: rounding alone leaves 0.03 in luma."""
PERIODS = 128
"""Columns whose period is looked for at once."""
LOWEST = PERIODS // 8
"""Below an eighth of a cycle per pixel is the picture itself."""
GRID = PERIODS // 8
"""Multiples of this are what JPEG's blocks repeat with."""
PEAKS = (32, 43, 64)
"""Where factors of 4, 3 and 2 show; factors between, wherever the largest peak off JPEG's grid is."""
LARGEST_PRODUCT = 64.0
"""Squared grey levels. Larger products are edges of the scene, and count as this much."""
PEAK_FLOOR = 1e-3
LEAST_WINDOW = 1e-6
SPECTRUM_FEATURES = BANDS + len(PEAKS) + 1
"""How many numbers :func:`spectrum_features` gives."""


def spectrum_features(tiles: Tensor) -> Tensor:
    """Logarithms of power by frequency, then of the peaks of interpolation.

    Args:
        tiles: ``(N, K, h, w)`` luma in grey levels.

    Returns:
        ``(N, SPECTRUM_FEATURES)``.
    """
    turned = tiles.transpose(-1, -2)
    power = (_power(tiles) + _power(turned)) / 2
    peaks = (_peaks(tiles) + _peaks(turned)) / 2
    return torch.cat([torch.log(power + POWER_FLOOR), peaks], dim=1)


def _power(tiles: Tensor) -> Tensor:
    """``(N, BANDS)``: mean power of the lines, along x, in squared grey levels for each pixel."""
    size = min(WINDOW, tiles.shape[-1])
    pieces = tiles.unfold(-1, size, max(1, size // 2))
    window = hann(size).to(tiles)
    pieces = (pieces - pieces.mean(-1, keepdim=True)) * window
    power = torch.fft.rfft(pieces, n=WINDOW).abs().square().mean((1, 2, 3))
    # a window of one pixel is 0
    power = power / window.square().sum().clamp(min=LEAST_WINDOW)
    return power[:, 1:].unflatten(1, (BANDS, 2)).mean(2)


def _peaks(tiles: Tensor) -> Tensor:
    """``(N, len(PEAKS) + 1)``: logarithms of peaks over the median of the spectrum."""
    width = tiles.shape[-1] - 3
    if width < PERIODS // 4:
        return tiles.new_zeros(len(tiles), len(PEAKS) + 1)
    second = tiles[..., 2:] - 2 * tiles[..., 1:-1] + tiles[..., :-2]
    by_column = (second[..., 1:] * second[..., :-1]).clamp(-LARGEST_PRODUCT, LARGEST_PRODUCT).mean(2)
    size = min(PERIODS, width)
    pieces = by_column.unfold(-1, size, max(1, size // 2))
    pieces = (pieces - pieces.mean(-1, keepdim=True)) * hann(size).to(tiles)
    strength = torch.fft.rfft(pieces, n=PERIODS).abs().mean((1, 2))
    middle = strength[:, LOWEST:].median(1, keepdim=True).values
    off_grid = torch.ones(PERIODS // 2 + 1, dtype=torch.bool)
    off_grid[:LOWEST] = False
    for multiple in range(0, PERIODS // 2 + 1, GRID):
        off_grid[max(0, multiple - 1) : multiple + 2] = False
    largest = strength[:, off_grid.to(tiles.device)].amax(1, keepdim=True)
    found = torch.cat([strength[:, list(PEAKS)], largest], dim=1)
    return torch.log((found + PEAK_FLOOR) / (middle + PEAK_FLOOR))


def hann(size: int) -> Tensor:
    """The periodic Hann window."""
    return 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(size) / size)
