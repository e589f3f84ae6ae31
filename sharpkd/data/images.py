"""Image files to uint8 RGB arrays: every usual kind is read right, or refused with a reason.

What happens to unusual files: alpha and transparency are dropped (the colour beneath stays), grey is repeated
to three channels, palettes are looked up, 16-bit samples are scaled by ``round(v / 257)``, CMYK is converted
without a colour profile, EXIF orientation is applied, and of several frames the first is taken. ICC profiles
are ignored.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from sharpkd.functional.quiet import quiet

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
MAX_PIXELS = 178_956_970
"""Larger images are refused as decompression bombs (Pillow's own error limit, 512 MiB as RGB)."""

_ORIENTATION = 0x0112

Image.init()  # Image.open(formats=…) fails on formats whose plugin is not registered yet

# Decoders of broken data fail in all of these ways; each means the same to the reader of the message.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, struct.error, cv2.error)


class UnreadableImage(ValueError):  # noqa: N818  # it says itself what is wrong
    """A file that is there but is no usable image.

    Attributes:
        path: the file.
        reason: what is wrong with it, for people.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot read image {self.path}: {self.reason}"


def find_images(directory: str | Path) -> list[Path]:
    """All image files below a folder, by extension, sorted by path; hidden files are left out.

    Links to folders are followed, each folder once.

    Raises:
        FileNotFoundError: there is no such folder.
        NotADirectoryError: it is a file.
    """
    directory = Path(directory)
    if not directory.exists():
        raise FileNotFoundError(f"image folder {directory} does not exist")
    if not directory.is_dir():
        raise NotADirectoryError(f"image folder {directory} is a file, expected a folder")
    found, seen = [], set()
    for folder, subfolders, files in os.walk(directory, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [
            Path(folder, name)
            for name in files
            if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
        ]
    return sorted(found)


def find_all_images(directories: Sequence[Path]) -> list[Path]:
    """Those of :func:`find_images` below several folders, folder by folder, each file once."""
    return list(dict.fromkeys(path for directory in directories for path in find_images(directory)))


def check_folders(given: str | Sequence[str], setting: str) -> list[Path]:
    """The folder or folders that a setting names.

    Raises:
        ValueError: it names none.
        FileNotFoundError: one of them does not exist.
    """
    folders = [Path(folder).expanduser() for folder in ([given] if isinstance(given, str | Path) else given)]
    if not folders:
        raise ValueError(f"{setting} is empty: give a folder of images")
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{setting}: there is no folder {folder.absolute()}")
    return folders


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as uint8 ``(H, W, 3)``, RGB, upright.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImage: the file is empty, truncated, corrupt, too large, or not a supported image.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"image {path} does not exist") from None
    except OSError as error:
        raise UnreadableImage(path, error.strerror or str(error)) from error
    if not data:
        raise UnreadableImage(path, "the file is empty (0 bytes)")
    return decode_image(data, path)


def decode_image(data: bytes, path: Path) -> np.ndarray:
    """An image file's content, as :func:`read_image` reads it; ``path`` is only a name for messages.

    Raises:
        UnreadableImage: it is truncated, corrupt, too large, or not a supported image.
    """
    try:
        with quiet():
            return _decode(path, data)
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(path, "not a PNG, JPEG, WebP, TIFF or BMP image, or cut short") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(path, f"more than {MAX_PIXELS:,} pixels") from error
    except _DECODER_ERRORS as error:
        raise UnreadableImage(path, f"corrupt or truncated ({error})") from error


def _decode(path: Path, data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImage(path, f"{image.width}×{image.height}, more than {MAX_PIXELS:,} pixels")
        deep = image.mode.startswith("I;16") or _has_16_bit_colour(image)
        if deep:
            rgb = _decode_16_bit(path, image, data)
        elif image.mode in ("I", "F"):
            raise UnreadableImage(path, f"{image.mode} samples of 32 bits; convert it to 8 or 16 bits")
        else:
            # Palettes go through RGBA: their transparency cannot be expressed in RGB, and Pillow warns.
            through = image.convert("RGBA") if image.mode in ("P", "PA") else image
            rgb = np.asarray(through.convert("RGB"))
        return _upright(rgb, _orientation(image))


def _has_16_bit_colour(image: Image.Image) -> bool:
    """Whether the file holds 16-bit colour, which Pillow would cut to the high byte instead of rounding."""
    if image.mode not in ("RGB", "RGBA", "LA"):
        return False
    tiles = getattr(image, "tile", ())
    rawmode = tiles[0].args if tiles else ""
    return "16" in str(rawmode[0] if isinstance(rawmode, tuple) and rawmode else rawmode)


def _decode_16_bit(path: Path, image: Image.Image, data: bytes) -> np.ndarray:
    if image.mode.startswith("I;16"):
        samples: np.ndarray = np.asarray(image)[..., None]
    else:
        image.load()  # raises where the file is cut short; OpenCV may return what there is
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if decoded is None or decoded.dtype != np.uint16:
            raise UnreadableImage(path, "corrupt or truncated (16-bit colour)")
        samples = decoded[..., None] if decoded.ndim == 2 else decoded[..., :3][..., ::-1]
    scaled = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.broadcast_to(scaled, (*scaled.shape[:2], 3))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DECODER_ERRORS:
        return 1  # broken metadata say nothing about the pixels, which are fine


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Undo EXIF orientation 1…8 (EXIF 2.3, tag 0x0112); other values count as 1."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
