"""SharpBench: the fixed conditions under which every model is measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""``(H, W, 3)`` uint8 RGB."""


@dataclass(frozen=True)
class Pair:
    """One test: ``degraded`` goes in, the output is compared with ``sharp`` (``scale`` times larger)."""

    degraded: Image
    sharp: Image


@dataclass(frozen=True)
class Condition:
    """One way in which an input is made.

    Attributes:
        track: its group.
        name: such as ``gaussian/1.6``.
        scale: how many times smaller the input is; 1 but on ``sr``.
        sigma: of the Gaussian blur, pixels, where there is one: what a non-blind baseline is told.
        noise: standard deviation of the added noise, 8-bit levels.
    """

    track: str
    name: str
    scale: int = 1
    sigma: float | None = None
    noise: float = 0.0
