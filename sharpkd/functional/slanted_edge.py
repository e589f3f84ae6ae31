"""Slanted edges: how wide a restored edge is, and how far it overshoots.

An edge that is slightly turned against the pixel grid passes through the pixels at every phase, so that its
profile can be read at a fraction of a pixel (ISO 12233, Photography: electronic still picture imaging,
resolution and spatial frequency responses). Levels are grey levels in 0…255, lengths are in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GAUSSIAN_WIDTH = 2.5631031310892007
"""10-90 % width of a step blurred by a Gaussian of σ = 1: twice the normal distribution's 90 % quantile."""
PLATEAU = 0.25
"""Share of each half of a profile, at its outer end, that is taken for the plateau."""
SMALLEST_CONTRAST = 1.0

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class EdgeProfile:
    """Mean level along the normal of an edge.

    Attributes:
        position: ``(K,)`` distance from the edge in pixels, ascending.
        level: ``(K,)`` grey levels.
    """

    position: Array
    level: Array

    @property
    def plateaus(self) -> tuple[float, float]:
        """Levels before and after the edge: means over the outermost quarter of each side."""
        count = max(1, round(PLATEAU * len(self.level) / 2))
        return float(self.level[:count].mean()), float(self.level[-count:].mean())


def render_edge(size: int, angle: float, sigma: float, dark: float, bright: float) -> Array:
    """An ideal step through the middle of a square image, blurred by a Gaussian, in closed form.

    ``dark + (bright - dark) · Φ(d / σ)`` at every pixel's centre, d being its distance from the edge.

    Args:
        size: side in pixels.
        angle: of the edge, degrees from the vertical. The bright side is on the right at 0, below at 90.
        sigma: of the blur, pixels; 0 for a step.
        dark: level on one side.
        bright: level on the other.

    Returns:
        ``(size, size)`` float64, not rounded.
    """
    distance = _distance((size, size), angle)
    step = np.heaviside(distance, 0.5) if sigma == 0 else 0.5 + 0.5 * _erf(distance / (sigma * math.sqrt(2)))
    return dark + (bright - dark) * step


def edge_profile(
    image: NDArray[np.generic], angle: float, reach: float, margin: int = 0, oversampling: int = 8
) -> EdgeProfile:
    """Project pixels onto the normal of an edge through the middle of the image, and average them in bins.

    Args:
        image: ``(H, W)``, one channel, in grey levels.
        angle: of the edge, as in :func:`render_edge`; not so near 0, 45 or 90 that pixels share few phases.
        reach: how far the profile goes on each side, pixels.
        margin: pixels left out along the image's border, where filters see what lies outside.
        oversampling: bins per pixel. With ISO 12233's 4, an edge of σ = 0.8 reads 1 % too wide.

    Raises:
        ValueError: the image has not two dimensions, or some bin has no pixel: the reach is too long for the
            image or the edge is not slanted.
    """
    if image.ndim != 2:
        raise ValueError(f"an edge profile needs an (H, W) image of one channel, got shape {image.shape}")
    inside = slice(margin, image.shape[0] - margin), slice(margin, image.shape[1] - margin)
    distance, level = _distance(image.shape, angle)[inside].ravel(), image[inside].astype(np.float64).ravel()
    half = round(reach * oversampling)
    index = np.rint(distance * oversampling).astype(int) + half
    used = (index >= 0) & (index <= 2 * half)
    counts = np.bincount(index[used], minlength=2 * half + 1)
    if not counts.all():
        where = (int(np.argmin(counts)) - half) / oversampling
        raise ValueError(
            f"no pixel lies {where:g} pixels from an edge at {angle:g} degrees in an image of shape "
            f"{image.shape} with a margin of {margin}; turn the edge (5 degrees are usual), or shorten the "
            f"reach of {reach:g} pixels"
        )
    # Where its pixels really lie, not the bin's centre: that would widen a narrow edge by some per cent.
    position, mean = (np.bincount(index[used], weights=values[used]) / counts for values in (distance, level))
    return EdgeProfile(position, mean)


def edge_width(profile: EdgeProfile, low: float = 0.1, high: float = 0.9) -> float:
    """Distance over which the profile rises from 10 % to 90 % of the way between its plateaus, pixels.

    From the middle of the edge outwards to the first crossing on each side, interpolated linearly: ripples
    beyond the edge do not count. A Gaussian blur of σ gives ``2.563 σ``.

    Raises:
        ValueError: the plateaus differ by less than one grey level, or the bright side is the darker one.
    """
    before, after = profile.plateaus
    if after - before < SMALLEST_CONTRAST:
        raise ValueError(
            f"there is no edge to measure: the profile goes from {before:.2f} to {after:.2f} grey levels, "
            f"expected a rise of at least {SMALLEST_CONTRAST:g}"
        )
    rise = (profile.level - before) / (after - before)
    ups = np.flatnonzero((rise[:-1] < 0.5) & (rise[1:] >= 0.5))
    middle = ups[np.argmin(np.abs(profile.position[ups]))]
    left = middle - int(np.argmax(rise[middle::-1] <= low))
    right = middle + 1 + int(np.argmax(rise[middle + 1 :] >= high))
    return _crossing(profile.position, rise, right - 1, high) - _crossing(profile.position, rise, left, low)


def overshoot(profile: EdgeProfile) -> float:
    """How far the profile leaves the range between its plateaus, grey levels; 0 for an edge without a halo.

    The larger of the two halos, the bright and the dark one, each at its strongest over half a pixel:
    single bins of an 8-bit image carry rounding, whose maximum would be counted as a halo.
    """
    spacing = (profile.position[-1] - profile.position[0]) / (len(profile.level) - 1)
    bins = max(1, round(0.5 / spacing))
    level = np.convolve(profile.level, np.full(bins, 1 / bins), mode="valid")
    ends = profile.plateaus
    return max(float(level.max()) - max(ends), min(ends) - float(level.min()), 0.0)


def _crossing(position: Array, rise: Array, index: int, value: float) -> float:
    """Where the straight line from one bin to the next has a value."""
    share = (value - rise[index]) / (rise[index + 1] - rise[index])
    return float(position[index] + share * (position[index + 1] - position[index]))


def _distance(shape: tuple[int, ...], angle: float) -> Array:
    y, x = (np.arange(side) - (side - 1) / 2 for side in shape)
    return x[None, :] * math.cos(math.radians(angle)) + y[:, None] * math.sin(math.radians(angle))
