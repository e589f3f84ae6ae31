"""How much a scene flickers that should stand still."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def flicker(frames: Iterable[NDArray[Any]]) -> float:
    """Mean absolute difference between consecutive frames, of a static scene.

    Args:
        frames: at least two arrays of one shape; any numbers.

    Returns:
        In the numbers' own unit: 0 where nothing changes.

    Raises:
        ValueError: fewer than two frames, or frames of different shapes.
    """
    before: NDArray[Any] | None = None
    differences = []
    for frame in frames:
        if before is not None:
            if frame.shape != before.shape:
                raise ValueError(f"frames must have one shape, got {before.shape} and {frame.shape}")
            change = np.subtract(frame, before, dtype=np.float32)
            differences.append(float(np.abs(change).mean(dtype=np.float64)))
        before = frame
    if not differences:
        raise ValueError("flicker needs at least two frames")
    return sum(differences) / len(differences)


def flicker_of(video: Path) -> float:
    """`flicker` of the luma planes of a video file, in its own levels.

    Raises:
        VideoError: it cannot be read.
        ValueError: fewer than two frames.
    """
    from av.video.frame import VideoFrame

    from sharpkd.inference.video.pixels import plane_array
    from sharpkd.inference.video.source import Cut, VideoSource

    source = VideoSource(video, Cut())
    try:
        dtype = np.dtype(np.uint8 if source.facts.bits <= 8 else np.uint16)
        frames = (frame for frame in source.read(set()) if isinstance(frame, VideoFrame))
        return flicker(plane_array(frame.planes[0], dtype).copy() for frame in frames)
    finally:
        source.close()
