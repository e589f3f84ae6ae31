"""Image files out: what each format holds, packed no worse than the input was."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sharpkd.functional.quiet import quiet
from sharpkd.inference import png
from sharpkd.inference.atomic_file import atomic_file
from sharpkd.inference.errors import first_line
from sharpkd.inference.metadata import HOLDS, NAMES, lost_in, options_for, tags_for_tiff
from sharpkd.inference.picture import (
    READ_SUFFIXES,
    Encoding,
    ImageFile,
    ImageFileError,
    Picture,
    Timing,
    UnwrittenError,
)
from sharpkd.inference.tiff import Page, write_tiff

KINDS = {
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".jpg", ".jpeg", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **{".webp": "WEBP", ".avif": "AVIF", ".bmp": "BMP", ".gif": "GIF"},
}
ANIMATED = ("GIF", "PNG", "WEBP")
DEFAULT_QUALITY = 95
WITH_QUALITY = ("JPEG", "WEBP", "AVIF")
GIF_COLOURS = 256


def kind_of(path: Path) -> str:
    """Pillow's name of the format that ``path``'s suffix stands for.

    Raises:
        ImageFileError: a suffix that cannot be written.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise ImageFileError(
            path, f"cannot write {path.suffix or 'a name without suffix'}; use {', '.join(READ_SUFFIXES)}"
        )
    return kind


def write_image(path: Path, file: ImageFile, quality: int | None = None) -> tuple[str, ...]:
    """Write ``file`` in the format of the path's suffix; the file is complete or untouched at any moment.

    Args:
        path: where to.
        file: what to write.
        quality: of JPEG, WebP and AVIF, 1 to 100. None packs no coarser than the input was, and at least as
            well as quality 95; a lossless WebP stays lossless.

    Returns:
        What the format could not keep, one sentence each.

    Raises:
        ImageFileError: an unknown suffix, or a format that cannot hold the image.
        UnwrittenError: the disk refuses.
    """
    kind = kind_of(path)
    data, notes = encoded(path, file, kind, quality)
    try:
        with atomic_file(path) as stream:
            stream.write(data)
    except OSError as error:
        raise UnwrittenError(path, error) from error
    return notes


def encoded(
    path: Path, file: ImageFile, kind: str, quality: int | None = None
) -> tuple[memoryview, tuple[str, ...]]:
    """The bytes that `write_image` writes, in the format ``kind``; ``path`` is only a name for messages."""
    several = len(file.pictures)
    if several > 1 and (kind not in ANIMATED if file.timing else kind != "TIFF"):
        what = f"an animation of {several} frames" if file.timing else f"{several} pages"
        use = "gif, png or webp" if file.timing else "tif"
        raise ImageFileError(path, f"{kind} cannot hold {what}; use {use}")
    notes: list[str] = []
    pictures = [_narrowed(picture, kind, notes) for picture in file.pictures]
    stream = io.BytesIO()
    try:
        if kind == "TIFF":
            notes += write_tiff(stream, [_page(picture, notes) for picture in pictures])
        elif several > 1 and file.timing:
            _save(stream, kind, pictures, _animated(kind, pictures, file.timing), quality, notes)
        elif kind == "PNG" and pictures[0].pixels.dtype == np.uint16:
            small = io.BytesIO()
            tiny = replace(pictures[0], pixels=np.zeros((1, 1, 3), np.uint8), alpha=None)
            _save(small, kind, [tiny], {}, quality, notes)
            stream.write(png.with_wide_pixels(small.getvalue(), _samples(pictures[0])))
        else:
            _save(stream, kind, pictures, {}, quality, notes)
    except (OSError, ValueError, RuntimeError, OverflowError) as error:
        reason = first_line(error)
        raise ImageFileError(path, f"cannot be encoded as {kind} ({reason})") from error
    return stream.getbuffer(), tuple(dict.fromkeys(notes))


def _narrowed(picture: Picture, kind: str, notes: list[str]) -> Picture:
    """The picture with the bit depth and channels that a format has."""
    pixels, alpha = picture.pixels, picture.alpha
    if pixels.dtype == np.uint16 and kind not in ("PNG", "TIFF"):
        pixels = _to_8_bits(pixels)
        alpha = None if alpha is None else _to_8_bits(alpha)
        notes.append(f"16 bits per channel were reduced to 8 ({kind})")
    if alpha is not None and kind in ("JPEG", "BMP"):
        alpha = None
        notes.append(f"{kind} cannot hold transparency: alpha was dropped")
    notes += lost_in(kind, picture.metadata)
    return replace(picture, pixels=pixels, alpha=alpha)


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.rint(values / np.float32(257)).astype(np.uint8)


def _samples(picture: Picture) -> NDArray[Any]:
    """``(H, W, C)``: grey or RGB, and alpha."""
    colours = picture.pixels[..., :1] if picture.grey else picture.pixels
    return colours if picture.alpha is None else np.concatenate((colours, picture.alpha[..., None]), axis=2)


def _page(picture: Picture, notes: list[str]) -> Page:
    try:
        with quiet():
            tags = tags_for_tiff(picture.metadata)
    except (IndexError, KeyError, ValueError, SyntaxError):
        notes.append("EXIF is damaged and was dropped")
        return Page(_samples(picture), tags_for_tiff({**picture.metadata, "exif": b""}))
    return Page(_samples(picture), tags, picture.metadata.get("exif", b""))


def _image(picture: Picture) -> Image.Image:
    samples = _samples(picture)
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _save(
    stream: io.BytesIO,
    kind: str,
    pictures: Sequence[Picture],
    animation: dict[str, Any],
    quality: int | None,
    notes: list[str],
) -> None:
    """Pillow's ``save``, with as much of the metadata as it takes."""
    first = pictures[0]
    image = animation.pop("first", None) or (_gif_frame(first, notes) if kind == "GIF" else _image(first))
    packing = {**_packing(kind, first.encoding, quality, image.mode), **animation}
    metadata = {key: value for key, value in first.metadata.items() if key in HOLDS[kind]}
    for key in [key for key in metadata if not _is_taken(kind, key, metadata[key])]:
        del metadata[key]
        notes.append(f"{NAMES[key]} could not be kept ({kind})")
    image.save(stream, format=kind, **packing, **options_for(kind, metadata))


def _is_taken(kind: str, key: str, value: Any) -> bool:
    """Whether one item of metadata can be written: too long, or damaged, it must not cost the picture."""
    try:
        Image.new("RGB" if kind != "GIF" else "P", (1, 1)).save(
            io.BytesIO(), format=kind, **options_for(kind, {key: value})
        )
    except Exception:  # whatever an encoder says to damaged metadata
        return False
    return True


def _packing(kind: str, encoding: Encoding, quality: int | None, mode: str) -> dict[str, Any]:
    if kind == "JPEG" and quality is None:
        tables = _finer_tables(encoding.jpeg_tables)[: 1 if mode == "L" else 2]
        return {
            "qtables": [list(table) for table in tables],
            "subsampling": 0,
            "progressive": encoding.progressive,
        }
    if kind == "JPEG":
        return {
            "quality": quality,
            "subsampling": encoding.jpeg_subsampling,
            "progressive": encoding.progressive,
        }
    if kind == "WEBP" and quality is None and encoding.lossless:
        return {"lossless": True, "exact": True, "quality": 75}
    if kind == "AVIF" and quality is None:
        return {"quality": DEFAULT_QUALITY, "subsampling": "4:4:4"}
    if kind == "PNG":
        return {"compress_level": png.LEVEL}
    if kind in WITH_QUALITY:
        return {"quality": DEFAULT_QUALITY if quality is None else quality}
    return {}


def _finer_tables(tables: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Luma and chroma tables, no number of which is coarser than the input's or than quality 95's."""
    usual = _usual_tables()
    if not tables:
        return list(usual)
    of_input = [tables[0], tables[min(1, len(tables) - 1)]]
    return [
        tuple(min(pair) for pair in zip(*both, strict=True)) for both in zip(usual, of_input, strict=True)
    ]


@cache
def _usual_tables() -> tuple[tuple[int, ...], ...]:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, format="JPEG", quality=DEFAULT_QUALITY)
    with Image.open(stream) as image:
        tables: dict[int, list[int]] = image.quantization  # type: ignore[attr-defined]  # only JPEG images have it
        return tuple(tuple(tables[key]) for key in (0, 1))


def _animated(kind: str, pictures: Sequence[Picture], timing: Timing) -> dict[str, Any]:
    """Arguments of Pillow's ``save`` for an animation of complete frames; "first" is the first of them."""
    loop = timing.loop
    options: dict[str, Any] = {"save_all": True, "duration": list(timing.durations)}
    if kind == "GIF":
        frames = [_gif_frame(picture, []) for picture in pictures]
        # Each frame replaces the one before it, so that transparent parts show nothing of it.
        options |= {"disposal": 2, "optimize": False} | ({} if loop is None else {"loop": loop})
    else:
        frames = [_image(picture) for picture in pictures]
        options["loop"] = 1 if loop is None else loop
    return options | {"first": frames[0], "append_images": frames[1:]}


def _gif_frame(picture: Picture, notes: list[str]) -> Image.Image:
    """A palette image: exact where the picture has few enough colours, else the nearest ones, dithered."""
    pixels = picture.pixels
    shown = np.ones(pixels.shape[:2], bool) if picture.alpha is None else picture.alpha >= 128
    several = GIF_COLOURS - (not shown.all())
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, places = np.unique(packed[shown], return_inverse=True)
    indices = np.zeros(shown.shape, np.uint8)
    if len(found) <= several:
        palette = (found[:, None] >> np.array([16, 8, 0], np.uint32)).astype(np.uint8).reshape(-1)
        indices[shown] = places.reshape(-1)
    else:
        few = Image.fromarray(pixels).quantize(several, method=Image.Quantize.MEDIANCUT)
        palette = np.array(few.getpalette(), np.uint8)[: 3 * several]
        nearest = Image.fromarray(pixels).quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG)
        indices = np.array(nearest)
        notes.append("GIF has 256 colours: others became the nearest ones")
    hidden = math.ceil(len(palette) / 3)
    indices[~shown] = hidden if not shown.all() else 0
    image = Image.frombytes("P", shown.shape[::-1], indices.tobytes())
    image.putpalette(palette.tobytes() + bytes(3 * (not shown.all())))
    if not shown.all():
        image.info["transparency"] = hidden
    return image
