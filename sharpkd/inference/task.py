"""What a net is to be for one picture, and nets on floats as functions of integer pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.cells import Run
from sharpkd.inference.student import PixelFormat


@dataclass(frozen=True)
class Task:
    """What one net is to be for one picture.

    Attributes:
        pixels: what the picture's numbers mean.
        condition: what was done to it, sigma first; blind nets do not look at it.
        strength: 0 keeps the picture, 1 is the net's output, above exaggerates.
        pixels_once: how many pixels will be sharpened in all; 0 where it may be very many, as of a scene. An
            engine that takes long to begin is not worth it for a few.
    """

    pixels: PixelFormat
    condition: tuple[float, ...] = ()
    strength: float = 1.0
    pixels_once: int = 0


def on_floats(run: Callable[[NDArray[np.float32]], NDArray[np.float32]], task: Task) -> Run:
    """A net on ``(1, 3, H, W)`` floats in [0, 1] as a function on integer pixels."""
    pixels, strength = task.pixels, task.strength

    def on_pixels(window: NDArray[Any]) -> NDArray[Any]:
        image = np.ascontiguousarray(window.transpose(2, 0, 1)[None], dtype=np.float32)
        image -= np.float32(pixels.black)
        image /= np.float32(pixels.white - pixels.black)
        output = run(np.repeat(image, 3, axis=1) if pixels.channels == 1 else image)[:, : pixels.channels]
        if strength != 1:
            output = image + np.float32(strength) * (output - image)
        levels = output[0] * np.float32(pixels.white - pixels.black) + np.float32(pixels.black)
        levels = np.rint(np.clip(levels, 0, pixels.top))
        return np.ascontiguousarray(levels.transpose(1, 2, 0).astype(window.dtype))

    return on_pixels
