"""What a sharpener does to an edge: overshoot (the halo beside it) and acutance gain (how much narrower)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sharpkd.data.degradation_maths import to_uint8
from sharpkd.evaluation.protocols import Image
from sharpkd.functional.slanted_edge import edge_profile, edge_width, overshoot, render_edge

ANGLES = (6.0, 20.0, 84.0)
"""Degrees from the vertical."""
LEVELS = ((96.0, 160.0), (64.0, 192.0))
"""Dark and bright side: a weak edge and a strong one, both with room for halos before they clip."""
SIZE, MARGIN, REACH = 128, 24, 24.0


@dataclass(frozen=True)
class EdgeScore:
    """Means over three directions and two contrasts (64 and 128 grey levels) of a blurred edge.

    Attributes:
        sigma: of the Gaussian blur of the edge, pixels.
        overshoot_before: grey levels, in the input.
        overshoot: grey levels beyond the plateaus, in the output; the larger of both sides' halos.
        width_before: 10-90 % width in the input, pixels.
        width_after: the same in the output.
        acutance_gain: ``width_before / width_after``; above 1 where the edge became sharper.
    """

    sigma: float
    overshoot_before: float
    overshoot: float
    width_before: float
    width_after: float
    acutance_gain: float


def measure_edges(restore: Callable[[Image], Image], sigmas: Sequence[float]) -> list[EdgeScore]:
    """Restore grey slanted edges of several blurs, and measure them before and after.

    Args:
        restore: ``(128, 128, 3)`` uint8 RGB to the same; its green channel is measured.
        sigmas: of the blurs, pixels; up to 4, or the edge does not fit.

    Raises:
        ValueError: ``restore`` changes the shape, or leaves no edge.
    """
    return [_measure(restore, sigma) for sigma in sigmas]


def _measure(restore: Callable[[Image], Image], sigma: float) -> EdgeScore:
    rows = []
    for angle, (dark, bright) in itertools.product(ANGLES, LEVELS):
        grey = to_uint8(render_edge(SIZE, angle, sigma, dark, bright))
        edge = np.repeat(grey[..., None], 3, axis=2)
        restored = restore(edge.copy())
        if restored.shape != edge.shape:
            raise ValueError(f"an edge of shape {edge.shape} was restored to shape {restored.shape}")
        profiles = [edge_profile(image[..., 1], angle, REACH, MARGIN) for image in (edge, restored)]
        rows.append([measure(profile) for measure in (overshoot, edge_width) for profile in profiles])
    overshoot_before, after, width_before, width_after = np.mean(rows, axis=0).tolist()
    return EdgeScore(
        sigma, overshoot_before, after, width_before, width_after, acutance_gain=width_before / width_after
    )
