"""How power falls with the frequency, and interpolation: `sharpkd.estimation.spectrum` without torch.

What the numbers mean and where they come from stands there; tests hold the two equal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

WINDOW = 64
BANDS = WINDOW // 4
POWER_FLOOR = 0.005
PERIODS = 128
LOWEST = PERIODS // 8
GRID = PERIODS // 8
PEAKS = (32, 43, 64)
PEAK_FLOOR = 1e-3
LARGEST_PRODUCT = 64.0
LEAST_WINDOW = 1e-6


def spectrum_features(tiles: Floats) -> Floats:
    """``(K, h, w)`` luma in grey levels -> logarithms of power by frequency, then of peaks."""
    turned = tiles.transpose(0, 2, 1)
    power = (_power(tiles) + _power(turned)) / 2
    peaks = (_peaks(tiles) + _peaks(turned)) / 2
    return np.concatenate([np.log(power + POWER_FLOOR), peaks]).astype(np.float32)


def _power(tiles: Floats) -> NDArray[np.float64]:
    size = min(WINDOW, tiles.shape[2])
    window = _hann(size)
    pieces = _pieces(tiles, size)
    pieces = (pieces - pieces.mean(-1, keepdims=True)) * window
    spectrum = np.fft.rfft(pieces, n=WINDOW)
    power = (np.square(spectrum.real) + np.square(spectrum.imag)).mean((0, 1, 2), dtype=np.float64)
    energy = max(float(np.square(window).sum(dtype=np.float64)), LEAST_WINDOW)
    return power[1:].reshape(BANDS, 2).mean(1) / energy


def _peaks(tiles: Floats) -> NDArray[np.float64]:
    width = tiles.shape[2] - 3
    if width < PERIODS // 4:
        return np.zeros(len(PEAKS) + 1)
    second = tiles[:, :, 2:] - 2 * tiles[:, :, 1:-1] + tiles[:, :, :-2]
    product = second[:, :, 1:] * second[:, :, :-1]
    np.clip(product, -LARGEST_PRODUCT, LARGEST_PRODUCT, out=product)
    by_column = product.mean(1, dtype=np.float64)
    size = min(PERIODS, width)
    pieces = _pieces(by_column, size)
    pieces = (pieces - pieces.mean(-1, keepdims=True)) * _hann(size)
    strength = np.abs(np.fft.rfft(pieces, n=PERIODS)).mean((0, 1))
    # torch's median of an even count would be the lower of the middle two; this count is odd
    middle = np.median(strength[LOWEST:])
    place = np.arange(PERIODS // 2 + 1)
    off_grid = (place >= LOWEST) & (np.abs((place + GRID // 2) % GRID - GRID // 2) > 1)
    found = np.append(strength[list(PEAKS)], strength[off_grid].max())
    return np.log((found + PEAK_FLOOR) / (middle + PEAK_FLOOR))


def _pieces(lines: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    """``(..., w)`` -> ``(..., pieces, size)``, half overlapping."""
    return np.lib.stride_tricks.sliding_window_view(lines, size, axis=-1)[..., :: max(1, size // 2), :]


def _hann(size: int) -> Floats:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
