"""Image files in and out, with what belongs to them: alpha, grey, bit depth, ICC profile, EXIF, frames."""

from __future__ import annotations

from pathlib import Path

from sharpkd.inference.atomic_file import atomic_file
from sharpkd.inference.image_reader import read_image
from sharpkd.inference.image_writer import encoded, kind_of, write_image
from sharpkd.inference.picture import (
    MAX_PIXELS,
    READ_SUFFIXES,
    Encoding,
    ImageFile,
    ImageFileError,
    Picture,
    Timing,
    UnwrittenError,
)

__all__ = [
    "MAX_PIXELS",
    "READ_SUFFIXES",
    "Encoding",
    "ImageFile",
    "ImageFileError",
    "Picture",
    "Timing",
    "UnwrittenError",
    "atomic_file",
    "encoded",
    "kind_of",
    "read_image",
    "read_picture",
    "write_image",
    "write_picture",
]


def read_picture(path: Path) -> Picture:
    """The picture of a file that holds one; see `read_image`.

    Raises:
        ImageFileError: it cannot be read, or holds several frames or pages.
    """
    file = read_image(path)
    if len(file.pictures) > 1:
        raise ImageFileError(path, f"has {len(file.pictures)} frames or pages, expected a single image")
    return file.pictures[0]


def write_picture(path: Path, picture: Picture) -> tuple[str, ...]:
    """Write one picture in the format of the path's suffix; see `write_image`."""
    return write_image(path, ImageFile((picture,), kind_of(path)))
