"""Image files in: what is decoded, what is refused, and why."""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

# Pillow knows a format once its plugin is imported; all of them would take longer.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sharpkd.functional.quiet import quiet
from sharpkd.inference import picture as limits
from sharpkd.inference import png, tiff
from sharpkd.inference.errors import first_line
from sharpkd.inference.metadata import metadata_of, metadata_of_tiff, orientation_of
from sharpkd.inference.picture import Encoding, ImageFile, ImageFileError, Picture, Timing

PLUGINS = (
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    AvifImagePlugin.AvifImageFile,
)
FORMATS = tuple(plugin.format for plugin in PLUGINS)
"""What Pillow may open beside TIFF. It knows forty more, and starts Ghostscript for one of them."""
ANIMATED = ("GIF", "PNG", "WEBP")
NO_IMAGE = "is no PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF image"
BAND_PIXELS = 1 << 22
GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I", "F")
DECODING_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    MemoryError,
    IndexError,
    # what Pillow's AVIF decoder raises
    RuntimeError,
    # what Pillow says to headers without sizes, to tags of another type than theirs, and to unknown values
    TypeError,
    KeyError,
    AttributeError,
    # places in a BigTIFF that no file reaches
    OverflowError,
)


def read_image(path: Path, stream: BinaryIO | None = None) -> ImageFile:
    """Read one image file, of any number of frames or pages.

    Bit depth, grey and alpha stay. CMYK becomes RGB (by its ICC profile where it has one), palettes are
    resolved, EXIF orientation is applied, frames are shown in full.

    Args:
        path: the file; only a name for messages where ``stream`` is given.
        stream: read instead, from its start; it can seek.

    Raises:
        ImageFileError: missing, a folder, empty, no image, truncated, more than `MAX_PIXELS` in all, float
            samples that are not in [0, 1], or frames in a format of which only single images are read.
    """
    if stream is None and path.is_dir():
        raise ImageFileError(path, "is a folder, not an image")
    try:
        if stream is not None:
            return _read(path, stream)
        with path.open("rb") as file:
            return _read(path, file)
    except FileNotFoundError:
        raise ImageFileError(path, "no such file") from None
    except PermissionError:
        raise ImageFileError(path, "no permission to read it") from None
    except ImageFileError:
        raise
    except UnidentifiedImageError:
        raise ImageFileError(path, NO_IMAGE) from None
    except Image.DecompressionBombError as error:
        size = re.search(r"\((\d+) pixels\)", str(error))
        raise ImageFileError(path, _too_large(f"{int(size[1]) / 1e6:.0f}" if size else "too many")) from None
    except DECODING_FAULTS as error:
        raise ImageFileError(path, f"cannot be decoded ({first_line(error)})") from error


def _too_large(megapixels: str) -> str:
    return f"has {megapixels} megapixels; at most {limits.MAX_PIXELS // 10**6} are read"


def _read(path: Path, stream: BinaryIO) -> ImageFile:
    start = stream.read(4)
    if not start:
        raise ImageFileError(path, "is empty (0 bytes)")
    if tiff.is_tiff(start):
        with quiet():  # Pillow reads tags, and warns of them, whenever they are asked for
            return _read_tiff(path, stream)
    stream.seek(0)
    with quiet():
        image = Image.open(stream, formats=FORMATS)
    with image:
        png.scale_transparent(image)
        width, height = image.size
        with quiet():
            frames = getattr(image, "n_frames", 1)
        _check_size(path, width * height * (frames if image.format in ANIMATED else 1))
        kind = str(image.format)
        if frames > 1 and kind in ANIMATED:
            return _animation(path, image, frames, stream)
        if frames > 1 and kind != "MPO":
            raise ImageFileError(path, f"has {frames} frames; of {kind} files only single images are read")
        return ImageFile((_still(image, stream),), "JPEG" if kind == "MPO" else kind)


def _check_size(path: Path, pixels: int) -> None:
    if pixels > limits.MAX_PIXELS:
        raise ImageFileError(path, _too_large(f"{pixels / 1e6:.0f}"))


def _still(image: Image.Image, stream: BinaryIO) -> Picture:
    notes = []
    if image.format == "MPO":
        notes.append("only the first picture of the multi-picture JPEG was kept")
    wide = None
    if image.format == "PNG":
        wide = png.read_wide(stream)
    if wide is None:
        image.load()
        picture = _decode(image)
    else:
        picture = _of_samples(wide, wide.shape[2] in (2, 4), False, image.info.get("transparency"))
    if _deep_avif(image, stream):
        notes.append("more than 8 bits per channel were reduced to 8")
    with quiet():
        picture = _upright(picture, orientation_of(image))
        metadata, faults = metadata_of(image, stream, picture.pixels.shape[1::-1])
    return replace(
        picture,
        metadata=_without_foreign_profile(picture, metadata),
        encoding=_encoding_of(image, stream),
        notes=(*notes, *picture.notes, *faults),
    )


def _without_foreign_profile(picture: Picture, metadata: dict[str, Any]) -> dict[str, Any]:
    converted = any(note.endswith("was converted to RGB") for note in picture.notes)
    return {key: value for key, value in metadata.items() if not (converted and key == "icc_profile")}


def _upright(picture: Picture, orientation: int) -> Picture:
    if orientation == 1:
        return picture
    alpha = None if picture.alpha is None else _turned(picture.alpha, orientation)
    return replace(picture, pixels=_turned(picture.pixels, orientation), alpha=alpha)


def _turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """``(H, W, ...)`` by EXIF's orientation (EXIF 2.32, 4.6.4 A): where its row 0 and column 0 are shown."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    across = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(array[::down, ::across])


def _of_samples(
    samples: NDArray[Any], has_alpha: bool, multiplied: bool, transparent: object = None
) -> Picture:
    """A picture of ``(H, W, C)`` uint16 samples, or of float ones in [0, 1], which become uint16.

    Args:
        samples: grey or RGB, and alpha.
        has_alpha: the last channel is alpha.
        multiplied: alpha was multiplied into the others.
        transparent: the one colour (a number, or three) that is not shown, where there is one.
    """
    notes = []
    if samples.dtype.kind == "f":
        samples = _rounded(samples)
        notes.append("float pixels were rounded to 16 bits")
    alpha = np.ascontiguousarray(samples[..., -1]) if has_alpha else None
    colours = samples[..., : samples.shape[2] - has_alpha]
    if multiplied and alpha is not None:
        shown = np.maximum(alpha, 1)[..., None]
        whole = (colours.astype(np.uint32) * 65535 + shown // 2) // shown
        colours = np.minimum(whole, 65535).astype(np.uint16)
    if alpha is None and isinstance(transparent, (int, tuple)):
        hidden = (colours == np.array(transparent)).all(axis=2)
        alpha = np.where(hidden, 0, 65535).astype(np.uint16)
    grey = colours.shape[2] == 1
    pixels = np.repeat(colours, 3, axis=2) if grey else np.ascontiguousarray(colours)
    return Picture(pixels, alpha, grey, notes=tuple(notes))


def _rounded(values: NDArray[Any]) -> NDArray[np.uint16]:
    if not np.isfinite(values).all():
        raise ValueError("float image with NaN or infinite pixels")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"float values in [{values.min():g}, {values.max():g}]; expected [0, 1]")
    return np.rint(values * 65535).astype(np.uint16)


def _decode(image: Image.Image) -> Picture:
    """A loaded image of 8 bits, or of grey samples that are wider."""
    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        samples = np.array(image).astype(np.uint16)[..., None]
        return _of_samples(samples, False, False, transparent)
    if image.mode in ("I", "F"):
        values = np.array(image)[..., None]
        if image.mode == "I":
            if values.min() < 0 or values.max() > 65535:
                span = f"[{values.min()}, {values.max()}]"
                raise ValueError(f"32-bit image with values in {span}; expected 16 bits")
            values = values.astype(np.uint16)
        return _of_samples(values, False, False)
    grey = image.mode in GREY_MODES
    alpha, notes = None, []
    if image.mode == "P" and image.palette is None:
        raise ValueError("its colours are numbers of a palette that it does not have")
    if image.has_transparency_data or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("LA" if grey else "RGBA")
        alpha = _array(image.getchannel("A"))
        image = image.convert("L" if grey else "RGB")
    if grey:
        return Picture(np.repeat(_array(image.convert("L"))[..., None], 3, axis=2), alpha, True)
    colour, converted = _to_rgb(image, image.info.get("icc_profile"))
    if converted:
        notes.append(f"{image.mode} was converted to RGB")
    return Picture(_array(colour), alpha, notes=tuple(notes))


def _to_rgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """The image as RGB, and whether its colour space (and so its ICC profile) changed."""
    if image.mode == "RGB":
        return image, False
    if image.mode == "P":
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


def _array(image: Image.Image) -> NDArray[Any]:
    """``np.array(image)``, which would take five times the memory, in bands."""
    width, height = image.size
    first = np.array(image.crop((0, 0, width, 1)))
    found = np.empty((height, *first.shape[1:]), first.dtype)
    rows = max(1, BAND_PIXELS // width)
    for start in range(0, height, rows):
        found[start : start + rows] = image.crop((0, start, width, min(start + rows, height)))
    return found


def _encoding_of(image: Image.Image, stream: BinaryIO) -> Encoding:
    tables = getattr(image, "quantization", None) or {}
    if tables:
        return Encoding(
            jpeg_tables=tuple(tuple(tables[key]) for key in sorted(tables)),
            jpeg_subsampling=JpegImagePlugin.get_sampling(image),
            progressive=bool(image.info.get("progressive")),
        )
    return Encoding(lossless=image.format == "WEBP" and _is_lossless_webp(stream))


def _is_lossless_webp(stream: BinaryIO) -> bool:
    """Whether the (first) image of a WebP file is lossless: which comes first among the chunks."""
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        if name in (b"VP8L", b"VP8 "):
            return bool(name == b"VP8L")
        # A frame's chunks follow its header of 16 bytes.
        stream.seek(16 if name == b"ANMF" else length + length % 2, 1)
    return False


def _deep_avif(image: Image.Image, stream: BinaryIO) -> bool:
    """Whether an AVIF file has 10 or 12 bits per channel (its av1C box says so), of which Pillow leaves 8."""
    if image.format != "AVIF":
        return False
    stream.seek(0)
    start = stream.read(1 << 16)
    at = start.find(b"av1C")
    return 0 <= at < len(start) - 6 and bool(start[at + 6] & 0x40)


def _animation(path: Path, image: Image.Image, frames: int, stream: BinaryIO) -> ImageFile:
    if image.info.get("default_image"):
        raise ImageFileError(path, "has a still image beside its animation; that is not supported")
    kind = str(image.format)
    shown, durations = [], []
    size = image.size
    for frame in range(frames):
        with quiet():
            image.seek(frame)
        # of a GIF whose frame leads out of it, Pillow enlarges the whole picture
        if image.size != size:
            raise ImageFileError(path, f"has a frame that is larger than its {size[0]} x {size[1]} pixels")
        deep = any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
        with quiet():
            image.load()
        durations.append(float(image.info.get("duration", 0)))
        shown.append(np.array(image.convert("RGBA")))
    image.seek(0)
    notes = ["16 bits per channel were reduced to 8"] if deep else []
    with quiet():
        metadata, faults = metadata_of(image, stream, image.size)
    encoding = _encoding_of(image, stream)
    if kind == "GIF":
        metadata = {key: value for key, value in metadata.items() if key == "comment"}
    opaque = all((frame[..., 3] == 255).all() for frame in shown)
    grey = kind != "GIF" and all((frame[..., :1] == frame[..., 1:3]).all() for frame in shown)
    pictures = []
    while shown:  # one by one, so that the frames are not in memory twice
        four = shown.pop(0)
        colours, alpha = np.ascontiguousarray(four[..., :3]), np.ascontiguousarray(four[..., 3])
        pictures.append(
            Picture(colours, None if opaque else alpha, grey, metadata, encoding, (*notes, *faults))
        )
    loop = image.info.get("loop")
    return ImageFile(tuple(pictures), kind, Timing(tuple(durations), None if loop is None else int(loop)))


def _read_tiff(path: Path, stream: BinaryIO) -> ImageFile:
    pages = tiff.directories(stream)
    if not pages:
        raise ImageFileError(path, "is a TIFF without pages")
    sides = [page.get(tag) for page in pages for tag in (tiff.WIDTH, tiff.HEIGHT)]
    sizes = [side for side in sides if isinstance(side, int) and side > 0]
    if len(sizes) < len(sides):
        raise ImageFileError(path, "is a TIFF without sizes")
    _check_size(path, sum(width * height for width, height in zip(sizes[::2], sizes[1::2], strict=True)))
    return ImageFile(tuple(_tiff_page(stream, page, index) for index, page in enumerate(pages)), "TIFF")


def _tiff_page(stream: BinaryIO, page: ImageFileDirectory_v2, index: int) -> Picture:
    orientation = page.get(tiff.ORIENTATION, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    tiff.refuse_signed(page)
    if tiff.is_wide(page):
        picture = _upright(_of_samples(*tiff.read_wide(stream, page)), orientation)
    else:
        stream.seek(0)
        image = TiffImagePlugin.TiffImageFile(stream)
        image.seek(index)
        image.load()  # applies the orientation
        picture = _decode(image)
        if max(tiff.several(page, tiff.BITS, 1)) > 8 and picture.pixels.dtype == np.uint8:
            picture = replace(picture, notes=(*picture.notes, "16 bits per channel were reduced to 8"))
    size = picture.pixels.shape[1::-1]
    metadata, faults = metadata_of_tiff(stream, page, size, orientation >= 5)
    notes = (*picture.notes, *tiff.dropped(page, picture.alpha is not None), *faults)
    return replace(picture, metadata=_without_foreign_profile(picture, metadata), notes=notes)
