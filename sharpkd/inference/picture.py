"""What an image file is once it is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

READ_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp"),
    *(".tif", ".tiff", ".bmp", ".gif", ".avif"),
)
MAX_PIXELS = 170_000_000

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


class ImageFileError(ValueError):
    """An image file cannot be read or written; the message is one line that names the file and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class UnwrittenError(ImageFileError):
    """The disk refuses a result; nothing is wrong with the input."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(path, f"cannot be written ({error.strerror or error})")


@dataclass(frozen=True)
class Encoding:
    """How a file had packed its pixels, as far as the result should not be packed worse.

    Attributes:
        jpeg_tables: quantisation tables of a JPEG, 64 numbers each in natural order; empty for other files.
        jpeg_subsampling: of its chroma, 0 (4:4:4), 1 (4:2:2), 2 (4:2:0), or -1 where another or none.
        progressive: a progressive JPEG.
        lossless: a lossless WebP.
    """

    jpeg_tables: tuple[tuple[int, ...], ...] = ()
    jpeg_subsampling: int = -1
    progressive: bool = False
    lossless: bool = False


@dataclass(frozen=True)
class Picture:
    """One decoded image: a file's only one, or one frame or page of it.

    Attributes:
        pixels: ``(H, W, 3)`` RGB, uint8 or uint16, upright. A grey image has three equal channels.
        alpha: ``(H, W)`` of the pixels' dtype, not multiplied into them, or None.
        grey: written back with one channel.
        metadata: what belongs to it, by the keys of `sharpkd.inference.metadata.NAMES`.
        encoding: how its file had packed it.
        notes: what could not be kept, one sentence each.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    grey: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    encoding: Encoding = Encoding()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    """When the frames of an animation are shown.

    Attributes:
        durations: milliseconds, one for each frame.
        loop: how often it runs, 0 for ever, None once.
    """

    durations: tuple[float, ...]
    loop: int | None = 0


@dataclass(frozen=True)
class ImageFile:
    """A decoded file.

    Attributes:
        pictures: one, or the frames of an animation (each complete, of one size), or the pages of a TIFF.
        kind: Pillow's name of the format, such as "JPEG".
        timing: of an animation; None for a single image and for pages.
    """

    pictures: tuple[Picture, ...]
    kind: str
    timing: Timing | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of all its pictures, each once."""
        return tuple(dict.fromkeys(note for picture in self.pictures for note in picture.notes))
