"""Frames of a video, one after the other: measured once a scene, so that sharpness does not flicker."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.blur import Estimate

Frame = NDArray[Any]

BLOCKS = 16
"""Along each axis: frames are compared by the means of so many blocks."""
SAMPLES = 4
"""Rows and columns of a block that are looked at."""
CUT = 0.1
"""Of black to white. Where the blocks' means change by so much on average, another scene begins."""


class Measures(Protocol):
    """What `sharpkd.inference.sharpener.Sharpener` offers."""

    @property
    def is_aware(self) -> bool:
        """Whether the net is told what was done."""
        ...

    def measure(self, image: Any) -> Estimate:
        """What was done."""
        ...

    def __call__(self, image: Any, strength: float = ..., sigma: Any = ..., estimate: Any = ...) -> Any:
        """The sharpened image."""
        ...


class Scenes:
    """Sharpens frames in their order, all of a scene by what was measured in its first one.

    Measured in every frame, sigma would differ a little from frame to frame, and so would the sharpness. A
    scene begins at a cut, and where nothing could be measured before, as in black frames.

    Args:
        sharpener: does it.
        strength: as of calling it.

    Attributes:
        measured: how many frames were.
    """

    def __init__(self, sharpener: Measures, strength: float = 1.0) -> None:
        self.sharpener, self.strength, self.measured = sharpener, strength, 0
        self._estimate: Estimate | None = None
        self._before: NDArray[np.float32] | None = None

    def __call__(self, frame: Frame) -> Frame:
        """The sharpened frame; as of calling the sharpener. For one thread."""
        if self.sharpener.is_aware:
            self._look_at(frame)
        return self.sharpener(frame, self.strength, estimate=self._estimate)

    def _look_at(self, frame: Frame) -> None:
        means = block_means(frame)
        found = self._estimate
        if found is None or not found.values.any() or _cut(self._before, means):
            self._estimate = self.sharpener.measure(frame)
            self.measured += 1
        self._before = means


def block_means(frame: Frame) -> NDArray[np.float32]:
    """``(H, W)`` or ``(H, W, 3)`` integers -> ``(BLOCKS, BLOCKS)`` means from 0 to 1, of some of the pixels.

    Of colours green is looked at. Frames of fewer pixels than are looked at along an axis repeat some.
    """
    plane = frame if frame.ndim == 2 else frame[..., frame.shape[2] // 2]
    rows, columns = (np.linspace(0, side - 1, BLOCKS * SAMPLES).round().astype(int) for side in plane.shape)
    seen = plane[rows[:, None], columns].astype(np.float32) / np.iinfo(frame.dtype).max
    return seen.reshape(BLOCKS, SAMPLES, BLOCKS, SAMPLES).mean((1, 3))


def _cut(before: NDArray[np.float32] | None, now: NDArray[np.float32]) -> bool:
    if before is None or before.shape != now.shape:
        return True
    return float(np.abs(now - before).mean()) > CUT
