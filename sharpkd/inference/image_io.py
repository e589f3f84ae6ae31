"""Image files in and out, with what belongs to them: alpha, grey, bit depth, ICC profile, EXIF, DPI."""

from __future__ import annotations

import io
import os
import struct
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

READ_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif")
MAX_PIXELS = 170_000_000
JPEG_QUALITY = 95
# Sum of the luminance quantisation table that libjpeg uses at quality 95; a finer input is written at 100.
JPEG_95_TABLE_SUM = 369

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


class ImageFileError(ValueError):
    """An image file cannot be read or written; the message is one line that names the file and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Picture:
    """A decoded image file.

    Attributes:
        pixels: ``(H, W, 3)`` RGB, uint8 or uint16, upright. A grey image has three equal channels.
        alpha: ``(H, W)`` uint8, or None.
        grey: written back with one channel.
        metadata: keyword arguments for Pillow's ``save`` (icc_profile, exif, dpi, xmp), where present.
        fine_jpeg: the file is a JPEG of a quality above `JPEG_QUALITY`.
        notes: what could not be kept, one sentence each.
    """

    pixels: Pixels
    alpha: NDArray[np.uint8] | None = None
    grey: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    fine_jpeg: bool = False
    notes: tuple[str, ...] = ()


def read_picture(path: Path) -> Picture:
    """Read one image file.

    CMYK becomes RGB (by its ICC profile where it has one), palettes are resolved, EXIF orientation applied.
    16-bit grey stays 16-bit; 16-bit colour is reduced to 8 bits by the decoder, which `Picture.notes` says.

    Raises:
        ImageFileError: missing, a folder, empty, no image, truncated, animated, or larger than `MAX_PIXELS`.
    """
    if path.is_dir():
        raise ImageFileError(path, "is a folder, not an image")
    try:
        with _own_size_limit(), Image.open(path) as image:
            _refuse_unsupported(path, image)
            wide = _is_16_bit_colour(image)
            image.load()
            return _decode(image, wide)
    except FileNotFoundError:
        raise ImageFileError(path, "no such file") from None
    except PermissionError:
        raise ImageFileError(path, "no permission to read it") from None
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        raise ImageFileError(
            path, "is empty (0 bytes)" if empty else "is not an image that Pillow reads"
        ) from None
    except ImageFileError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, MemoryError) as error:
        raise ImageFileError(path, f"cannot be decoded ({_one_line(error)})") from error


@contextmanager
def _own_size_limit() -> Iterator[None]:
    # Pillow warns from 89 megapixels on; `MAX_PIXELS` decides here, before anything is decoded.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            yield
        except Image.DecompressionBombError as error:
            raise ValueError(str(error)) from error


def _refuse_unsupported(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageFileError(
            path, f"has {width}x{height} pixels; at most {MAX_PIXELS // 10**6} megapixels are read"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ImageFileError(path, f"has {frames} frames or pages; only single images are sharpened")


def _is_16_bit_colour(image: Image.Image) -> bool:
    # Pillow has no such mode; only the decoder's arguments, gone after load(), tell.
    return image.mode in ("RGB", "RGBA") and ";16" in str(getattr(image, "tile", ""))


def _decode(image: Image.Image, wide: bool) -> Picture:
    notes = []
    if wide:
        notes.append("16 bits per channel were reduced to 8")
    if image.format == "MPO":
        notes.append("only the first picture of the multi-picture JPEG was kept")
    fine = _is_finer_than_95(image)
    upright = ImageOps.exif_transpose(image)
    metadata = _metadata_of(image, upright)
    grey = upright.mode in ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I", "F")
    alpha = None
    if upright.has_transparency_data or upright.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        upright = upright.convert("LA" if grey else "RGBA")
        alpha = np.array(upright.getchannel("A"))
        upright = upright.convert("L" if grey else "RGB")
    pixels: NDArray[Any]
    if upright.mode.startswith("I;16"):
        pixels = np.array(upright).astype(np.uint16)
    elif upright.mode in ("I", "F"):
        pixels, note = _wide_grey(np.array(upright))
        notes += [note] if note else []
    elif grey:
        pixels = np.array(upright.convert("L"))
    else:
        colour, converted = _to_rgb(upright, metadata.get("icc_profile"))
        if converted:
            metadata.pop("icc_profile", None)
            notes.append(f"{upright.mode} was converted to RGB")
        pixels = np.array(colour)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return Picture(pixels, alpha, grey, metadata, fine, tuple(notes))


def _wide_grey(values: NDArray[Any]) -> tuple[NDArray[np.uint16], str]:
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ValueError("float image with NaN or infinite pixels")
        if values.min() < 0 or values.max() > 1:
            raise ValueError(f"float values in [{values.min():g}, {values.max():g}]; expected [0, 1]")
        return np.rint(values * 65535).astype(np.uint16), "float pixels were rounded to 16 bits"
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"32-bit image with values in [{values.min()}, {values.max()}]; expected 16 bits")
    return values.astype(np.uint16), ""


def _to_rgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """The image as RGB, and whether its colour space (and so its ICC profile) changed."""
    if image.mode in ("RGB", "P"):
        return image.convert("RGB"), False
    if image.mode in ("CMYK", "LAB") and profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            return image.convert("RGB"), True
        if converted is not None:
            return converted, True
    return image.convert("RGB"), True


def _metadata_of(image: Image.Image, upright: Image.Image) -> dict[str, Any]:
    kept = {key: image.info[key] for key in ("icc_profile", "dpi", "xmp") if image.info.get(key)}
    exif = upright.getexif()
    if image.format != "TIFF" and len(exif):
        kept["exif"] = exif.tobytes()
    return kept


def _is_finer_than_95(image: Image.Image) -> bool:
    tables = getattr(image, "quantization", None) or {}
    return 0 in tables and sum(tables[0]) < JPEG_95_TABLE_SUM


def write_picture(path: Path, picture: Picture) -> tuple[str, ...]:
    """Write ``picture`` in the format of the path's suffix; the file is complete or untouched at any moment.

    Returns:
        What the format could not keep, one sentence each.

    Raises:
        ImageFileError: an unknown suffix, a format that cannot hold the image, or a disk that refuses.
    """
    suffix = path.suffix.lower()
    image_format = Image.registered_extensions().get(suffix) if suffix in READ_SUFFIXES else None
    if image_format is None:
        raise ImageFileError(
            path, f"cannot write {suffix or 'a name without suffix'}; use {', '.join(READ_SUFFIXES)}"
        )
    image, notes = _encode(picture, image_format)
    options = dict(picture.metadata)
    if image_format == "BMP":
        lost = [name for name in ("icc_profile", "exif", "xmp") if name in options]
        notes += [f"BMP cannot hold {', '.join(lost)}"] if lost else []
    if image_format == "JPEG":
        options |= {"quality": 100 if picture.fine_jpeg else JPEG_QUALITY, "subsampling": 0}
    elif image_format in ("WEBP", "AVIF"):
        options |= {"quality": JPEG_QUALITY}
    elif image_format == "TIFF":
        options |= {"compression": "tiff_deflate"}
    buffer = io.BytesIO()
    try:
        image.save(buffer, format=image_format, **options)
    except (OSError, ValueError) as error:
        raise ImageFileError(path, f"cannot be encoded as {image_format} ({_one_line(error)})") from error
    try:
        with atomic_file(path) as file:
            file.write(buffer.getbuffer())
    except OSError as error:
        raise ImageFileError(path, f"cannot be written ({error.strerror or error})") from error
    return tuple(notes)


def _encode(picture: Picture, image_format: str) -> tuple[Image.Image, list[str]]:
    pixels, alpha, notes = picture.pixels, picture.alpha, []
    if pixels.dtype == np.uint16 and (
        image_format not in ("PNG", "TIFF") or not picture.grey or alpha is not None
    ):
        pixels = np.rint(pixels / 257).astype(np.uint8)
        notes.append(f"16 bits per channel were reduced to 8 ({image_format})")
    image = Image.fromarray(pixels[..., 0] if picture.grey else pixels)
    if alpha is not None and image_format in ("JPEG", "BMP"):
        notes.append(f"{image_format} cannot hold transparency: alpha was dropped")
    elif alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    return image, notes


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Appears under ``path`` only when the block ends well: written beside it, synced, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _one_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
