"""Pictures to see how large a net's numbers become, made instead of carried along."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SIDE = 256
SMALLEST, LARGEST = 1.5, 60.0
"""Radii in pixels."""
LEAVES = 3000
COLOUR = 40.0
"""How far red, green and blue are apart, in standard deviations of 8-bit levels."""


@cache
def dead_leaves() -> NDArray[np.float64]:
    """Discs that hide one another, their radii r as frequent as r⁻³, striped: ``(256, 256, 3)`` in [0, 255].

    Edges, contrasts and scales are distributed as in photographs (Lee, Mumford & Huang, Occlusion models for
    natural images, IJCV 2001). Always the same picture; not to be changed.
    """
    random = np.random.default_rng(0)
    picture = np.full((SIDE, SIDE, 3), 127.5)
    radii = 1 / np.sqrt(random.uniform(LARGEST**-2, SMALLEST**-2, LEAVES))
    for radius in np.sort(radii)[::-1]:
        middle = random.uniform(-10, SIDE + 10, 2)
        low = np.clip(np.floor(middle - radius), 0, SIDE).astype(int)
        high = np.clip(np.ceil(middle + radius) + 1, 0, SIDE).astype(int)
        y, x = np.ogrid[low[0] : high[0], low[1] : high[1]]
        angle, frequency, contrast = random.uniform(0, np.pi), random.uniform(0.1, 2), random.uniform(0, 60)
        colour = random.uniform(0, 255) + random.normal(0, COLOUR, 3)
        stripes = contrast * np.sin(frequency * (y * np.sin(angle) + x * np.cos(angle)))
        inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius**2
        part = picture[low[0] : high[0], low[1] : high[1]]
        part[inside] = (stripes[..., None] + colour)[inside]
    return picture.clip(0, 255)


def degraded_leaves(sigma: float, noise: float) -> NDArray[np.float64]:
    """`dead_leaves` behind a Gaussian blur of ``sigma`` pixels, edges joined, and noise of 8-bit levels."""
    frequency = np.fft.fftfreq(SIDE)
    falls = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    spectrum = np.fft.fft2(dead_leaves(), axes=(0, 1)) * (falls[:, None] * falls)[..., None]
    blurred = np.fft.ifft2(spectrum, axes=(0, 1)).real
    return (blurred + noise * np.random.default_rng(1).standard_normal(blurred.shape)).clip(0, 255)
