"""What stands still in a video is sharpened alike from frame to frame, so that sharpening adds no flicker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

Frame = NDArray[Any]

BLOCK = 8
"""Side in pixels of what is looked at together."""
CALM = 2.0
"""Levels of 255, root mean square: blocks that differ by no more may show the same. Two frames of noise 1
differ by 1.4, and are held; more noise than that is taken for a change."""
SUDDEN = BLOCK * CALM
"""Levels of 255: one sample that jumps by so much moves its block by itself, as its square alone makes the
mean of the block's that of what is calm."""
PARTS = 3
"""A mean square is counted in such parts of what is calm, in 8 bits; rounding makes the bound 2.2 levels."""
SQUARES = [round(PARTS * (level / CALM) ** 2) if level < SUDDEN else 255 for level in range(256)]


class Steady:
    """Adds to a frame what sharpening added to the frames before it, wherever the picture has not changed.

    A sharpener amplifies whatever differs between two frames, a codec's errors and noise among it. So each
    block keeps the frame that it was last sharpened in, and what was added to it there. As long as its
    pixels, and those of the blocks around it, stay close to that frame, the same is added again: then the
    result changes by exactly what the video itself changes by. A block that differs is sharpened anew; slow
    changes add up until it does. Where no block differs, nothing is computed. For one thread, and frames of
    one shape and type.
    """

    def __init__(self) -> None:
        self._seen: Frame | None = None
        self._added: NDArray[Any] | None = None

    def __call__(self, frame: Frame, sharpen: Callable[[Frame], Frame]) -> Frame:
        """One frame more.

        Args:
            frame: ``(H, W)`` or ``(H, W, 3)``, uint8 or uint16.
            sharpen: gives the sharpened frame, of the same shape and type, and leaves its argument as it is;
                not called where nothing changed.

        Returns:
            Like ``frame``.
        """
        seen, added = self._seen, self._added
        if seen is None or added is None:
            return self._anew(frame, sharpen)
        changed = changed_blocks(frame, seen)
        if changed.all():
            return self._anew(frame, sharpen)
        if changed.any():
            here = _of_samples(changed, frame.shape)
            np.copyto(added, np.subtract(sharpen(frame), frame, dtype=added.dtype), where=here)
            np.copyto(seen, frame, where=here)
        result = np.add(frame, added, dtype=added.dtype)
        np.clip(result, 0, np.iinfo(frame.dtype).max, out=result)
        return result.astype(frame.dtype)

    def _anew(self, frame: Frame, sharpen: Callable[[Frame], Frame]) -> Frame:
        sharp = sharpen(frame)
        self._seen = frame.copy()
        self._added = np.subtract(sharp, frame, dtype=np.int16 if frame.dtype == np.uint8 else np.int32)
        return sharp


def changed_blocks(frame: Frame, seen: Frame) -> NDArray[np.bool_]:
    """Which blocks of ``frame`` differ from those of ``seen`` in any channel, or touch one that does.

    Args:
        frame: ``(H, W)`` or ``(H, W, 3)``, uint8 or uint16, of which the upper 8 bits are looked at.
        seen: of its shape and type.

    Returns:
        ``(⌈H / BLOCK⌉, ⌈W / BLOCK⌉)``.
    """
    difference = ImageChops.difference(_picture(frame), _picture(seen))
    means = difference.point(SQUARES * len(difference.getbands())).reduce(BLOCK)
    changed = np.asarray(means) > PARTS
    padded = np.pad(changed if frame.ndim == 2 else changed.any(2), 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def _picture(frame: Frame) -> Image.Image:
    return Image.fromarray(frame if frame.dtype == np.uint8 else (frame >> 8).astype(np.uint8))


def _of_samples(blocks: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """``shape``: true in the blocks that are."""
    channels = shape[2] if len(shape) == 3 else 1
    whole = blocks.repeat(BLOCK, axis=0).repeat(BLOCK * channels, axis=1)
    return whole[: shape[0], : shape[1] * channels].reshape(shape)
