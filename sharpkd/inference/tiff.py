"""TIFF: what Pillow leaves out. Colour and alpha of 16 bits in and out, tags, several pages."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from sharpkd.functional.quiet import quiet

MAX_PAGES = 10_000
STRIP_BYTES = 1 << 20
MOST_SAMPLES = 8
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, COUNTS = 273, 274, 277, 278, 279
X_RESOLUTION, Y_RESOLUTION, PLANAR, RESOLUTION_UNIT, PREDICTOR = 282, 283, 284, 296, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, EXTRA_SAMPLES, SAMPLE_FORMAT = (
    322,
    323,
    324,
    325,
    338,
    339,
)
XMP, EXIF_FOLDER, ICC_PROFILE, GPS_FOLDER = 700, 34665, 34675, 34853
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
ASSOCIATED, UNASSOCIATED = 1, 2
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Samples that are colours, by the photometric interpretation; further ones are alpha and extra ones."""
DEFLATE, DIFFERENCES = 8, 2
PREDICTED_COMPRESSIONS = {5, DEFLATE, 32946, 34925, 50000}
SHORT, LONG, UNDEFINED, BYTE, ASCII = 3, 4, 7, 1, 2

# Tags of how the pixels are stored, which the writer decides anew, and those that are kept by other names.
STRUCTURE = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, 263, 264, 265, FILL_ORDER, OFFSETS, ORIENTATION, SAMPLES}
    | {ROWS_PER_STRIP, COUNTS, 280, 281, PLANAR, *range(288, 294), 301, PREDICTOR, 320, 321}
    | {*range(TILE_WIDTH, 331), *range(332, 348), *range(512, 522), *range(529, 533)}
    | {XMP, EXIF_FOLDER, ICC_PROFILE, GPS_FOLDER}
)
# Tags that an EXIF block holds too.
IN_EXIF = frozenset(
    {270, 271, 272, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, 305, 306, 315, 33432, *range(40091, 40096)}
)


@dataclass(frozen=True)
class Page:
    """One page to be written.

    Attributes:
        samples: ``(H, W, C)`` uint8 or uint16; C is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).
        tags: further tags, each a pair of the TIFF type and the value.
        exif: an EXIF block, or nothing.
    """

    samples: NDArray[Any]
    tags: Mapping[int, tuple[int, Any]]
    exif: bytes = b""


def is_tiff(start: bytes) -> bool:
    """Whether a file that begins with these four bytes is a TIFF, or a BigTIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def directories(stream: BinaryIO) -> list[ImageFileDirectory_v2]:
    """The directories of a TIFF's pages, or of an EXIF block without its prefix."""
    header = _header(stream)
    at = ImageFileDirectory_v2(header).next
    found: list[ImageFileDirectory_v2] = []
    seen: set[int] = set()
    while at and at not in seen and len(found) < MAX_PAGES:
        seen.add(at)
        directory = ImageFileDirectory_v2(header)
        stream.seek(at)
        directory.load(stream)
        found.append(directory)
        at = directory.next
    return found


def folder_in(stream: BinaryIO, directory: ImageFileDirectory_v2, tag: int) -> dict[int, Any]:
    """What the directory that ``tag`` (EXIF or GPS) points to holds; nothing where there is none."""
    at = directory.get(tag)
    if not isinstance(at, int):
        return {}
    folder = ImageFileDirectory_v2(_header(stream), group=tag)
    stream.seek(at)
    folder.load(stream)
    return {key: _bytes_of(value) for key, value in folder.items()}


def _header(stream: BinaryIO) -> bytes:
    stream.seek(0)
    header, size = stream.read(8), 8
    if header[:4] == b"MM\0+":
        raise ValueError("a big-endian BigTIFF, which is not read")
    if b"+" in header[2:4]:
        header, size = header + stream.read(8), 16
    if len(header) < size:
        raise ValueError("its header is cut short")
    return header


def _bytes_of(value: Any) -> Any:
    # Pillow reads text as Latin-1 and would write it as ASCII.
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value


def is_wide(directory: ImageFileDirectory_v2) -> bool:
    """Whether a page has samples of 16 bits, or of 32-bit float, that `read_wide` reads."""
    bits = set(several(directory, BITS, 1))
    formats = set(several(directory, SAMPLE_FORMAT, UNSIGNED))
    colours = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3}.get(directory.get(PHOTOMETRIC, -1))
    if colours is None or directory.get(COMPRESSION) in (6, 7):
        return False
    samples = directory.get(SAMPLES, 1)
    return samples >= colours and (bits, formats) in (({16}, {UNSIGNED}), ({32}, {FLOAT}))


def several(directory: ImageFileDirectory_v2, tag: int, otherwise: int) -> tuple[int, ...]:
    """The numbers of a tag, or the one that holds where it is not there."""
    value = directory.get(tag, otherwise)
    return tuple(value) if isinstance(value, tuple) else (value,)


def refuse_signed(directory: ImageFileDirectory_v2) -> None:
    """Raise a ValueError for signed samples, unless they are grey of 16 or 32 bits, which are read."""
    grey = directory.get(PHOTOMETRIC) == BLACK_IS_ZERO and directory.get(SAMPLES, 1) == 1
    bits = several(directory, BITS, 1)[0]
    if SIGNED in several(directory, SAMPLE_FORMAT, UNSIGNED) and not (grey and bits in (16, 32)):
        raise ValueError(f"signed samples of {bits} bits are not read")


def dropped(directory: ImageFileDirectory_v2, has_alpha: bool) -> tuple[str, ...]:
    """A note on samples that are neither colours nor the alpha that was kept, where there are such."""
    samples = several(directory, SAMPLES, 1)[0]
    count = samples - COLOURS.get(directory.get(PHOTOMETRIC, -1), samples) - has_alpha
    return (f"extra channels were dropped ({count})",) if count > 0 else ()


def read_wide(stream: BinaryIO, directory: ImageFileDirectory_v2) -> tuple[NDArray[Any], bool, bool]:
    """Samples of a page for which `is_wide` holds.

    Pillow (libtiff) unpacks them in any compression, because it is told that they are a grey image of 16 bits
    whose rows are as many times longer as there are samples; planes one by one.

    Returns:
        ``(H, W, C)`` uint16 or float32 with C of 1 to 4, whether the last of them is alpha, and whether it
        was multiplied into the others.

    Raises:
        ValueError: float samples stored as differences, more samples than colours, alpha and some extra ones,
            or damaged.
    """
    samples = int(directory.get(SAMPLES, 1))
    if samples > MOST_SAMPLES:
        raise ValueError(f"{samples} samples a pixel; at most {MOST_SAMPLES} are read")
    stream.seek(0)
    data = stream.read()
    colours = 3 if directory.get(PHOTOMETRIC) == RGB else 1
    predictor = directory.get(PREDICTOR, 1) if directory.get(COMPRESSION) in PREDICTED_COMPRESSIONS else 1
    if predictor not in (1, DIFFERENCES) or (predictor != 1 and several(directory, BITS, 1)[0] != 16):
        raise ValueError("float samples stored as differences are not read")
    if directory.get(PLANAR, 1) == 1 or samples == 1:
        planes = [_unpacked(data, directory, samples, 0, predictor)]
    else:
        planes = [_unpacked(data, directory, 1, plane, predictor) for plane in range(samples)]
    found = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    if directory.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        white = 1 if found.dtype.kind == "f" else np.iinfo(np.uint16).max
        found[..., 0] = white - found[..., 0]
    extra = several(directory, EXTRA_SAMPLES, 0)[0] if samples > colours else 0
    # Four samples that nothing is said about are RGB and alpha to most programs.
    alpha = samples > colours and (extra in (ASSOCIATED, UNASSOCIATED) or EXTRA_SAMPLES not in directory)
    return found[..., : colours + alpha], alpha, extra == ASSOCIATED


def _unpacked(
    data: bytes, directory: ImageFileDirectory_v2, samples: int, plane: int, predictor: int
) -> NDArray[Any]:
    """``(H, W, samples)``."""
    width, height = int(directory[WIDTH]), int(directory[HEIGHT])
    tiled = TILE_WIDTH in directory
    offsets = several(directory, TILE_OFFSETS if tiled else OFFSETS, 0)
    counts = several(directory, TILE_COUNTS if tiled else COUNTS, len(data))
    if directory.get(PLANAR, 1) == 2:
        each = len(offsets) // int(directory[SAMPLES])
        offsets, counts = (values[plane * each : (plane + 1) * each] for values in (offsets, counts))
    entries: dict[int, tuple[int, Sequence[int]]] = {
        WIDTH: (LONG, [width * samples]),
        HEIGHT: (LONG, [height]),
        BITS: (SHORT, [several(directory, BITS, 16)[0]]),
        COMPRESSION: (SHORT, [directory.get(COMPRESSION, 1)]),
        PHOTOMETRIC: (SHORT, [BLACK_IS_ZERO]),
        FILL_ORDER: (SHORT, [directory.get(FILL_ORDER, 1)]),
        SAMPLES: (SHORT, [1]),
        SAMPLE_FORMAT: (SHORT, [several(directory, SAMPLE_FORMAT, UNSIGNED)[0]]),
    }
    if tiled:
        entries[TILE_WIDTH] = (LONG, [int(directory[TILE_WIDTH]) * samples])
        entries[TILE_HEIGHT] = (LONG, [int(directory[TILE_HEIGHT])])
        entries |= {TILE_OFFSETS: (LONG, offsets), TILE_COUNTS: (LONG, counts)}
    else:
        entries[ROWS_PER_STRIP] = (LONG, [min(directory.get(ROWS_PER_STRIP, height), height)])
        entries |= {OFFSETS: (LONG, offsets), COUNTS: (LONG, counts)}
    with TiffImageFile(io.BytesIO(_with_directory(data, entries))) as image:
        if image.mode == "F" and image.tile[0].codec_name == "libtiff":
            # libtiff has brought them into the machine's order; Pillow would turn them once more.
            image.tile = [tile._replace(args=("F;32NF", *tuple(tile.args or ())[1:])) for tile in image.tile]
        flat = np.array(image)
    # Pillow's arrays are of the file's byte order.
    flat = flat.astype(flat.dtype.newbyteorder("="), copy=False)
    found = flat.reshape(height, width, samples)
    if predictor == DIFFERENCES:
        step = int(directory[TILE_WIDTH]) if tiled else width
        for start in range(0, width, step):
            part = found[:, start : start + step]
            np.cumsum(part, axis=1, dtype=part.dtype, out=part)
    return found


def _with_directory(data: bytes, entries: Mapping[int, tuple[int, Sequence[int]]]) -> bytes:
    """The file with this directory, of SHORT and LONG numbers, as its first."""
    endian = "<" if data[:2] == b"II" else ">"
    padding = b"\0" * (len(data) % 2)
    at = len(data) + len(padding)
    if at + 100 * len(entries) >= 1 << 32:
        raise ValueError("TIFF files of more than 4 GB are not read")
    body, further = struct.pack(endian + "H", len(entries)), b""
    beyond = at + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"{endian}{len(values)}{'H' if kind == SHORT else 'I'}", *values)
        body += struct.pack(endian + "HHI", tag, kind, len(values))
        if len(packed) <= 4:
            body += packed.ljust(4, b"\0")
        else:
            body += struct.pack(endian + "I", beyond + len(further))
            further += packed
    head = data[:2] + struct.pack(endian + "HI", 42, at)
    return b"".join((head, memoryview(data)[8:], padding, body, b"\0" * 4, further))


def write_tiff(stream: BinaryIO, pages: Iterable[Page]) -> tuple[str, ...]:
    """Write pages, deflated losslessly, from the stream's start.

    Returns:
        What could not be kept, one sentence each.
    """
    notes: list[str] = []
    stream.write(b"II*\0\x08\0\0\0")
    link = 4
    for page in pages:
        at = stream.seek(0, io.SEEK_END)
        at += stream.write(b"\0" * (at % 2))
        with quiet():
            directory = _new_directory(page, notes)
        strips = _strips(page.samples, directory)
        packed = directory.tobytes(at)
        if at + len(packed) + sum(map(len, strips)) >= 1 << 32:
            raise ValueError("more than 4 GB do not fit into a TIFF")
        stream.write(packed)
        for strip in strips:
            stream.write(strip)
        stream.seek(link)
        stream.write(struct.pack("<I", at))
        link = at + 2 + 12 * struct.unpack("<H", packed[:2])[0]
    return tuple(dict.fromkeys(notes))


def _new_directory(page: Page, notes: list[str]) -> ImageFileDirectory_v2:
    height, width, samples = page.samples.shape
    directory = ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
    if page.exif:
        block = io.BytesIO(page.exif.removeprefix(b"Exif\0\0"))
        for first in directories(block)[:1]:
            for tag in first:
                if tag not in STRUCTURE:
                    _put(directory, tag, first.tagtype[tag], _bytes_of(first[tag]), notes)
            for tag in (EXIF_FOLDER, GPS_FOLDER):
                found = folder_in(block, first, tag)
                folder = {key: value for key, value in found.items() if key not in STRUCTURE}
                if folder:
                    _put(directory, tag, LONG, folder, notes)
    for tag, (kind, value) in page.tags.items():
        _put(directory, tag, kind, value, notes)
    directory[WIDTH], directory[HEIGHT] = width, height
    directory[BITS] = (page.samples.dtype.itemsize * 8,) * samples
    directory[COMPRESSION], directory[PREDICTOR], directory[PLANAR] = DEFLATE, DIFFERENCES, 1
    directory[PHOTOMETRIC] = RGB if samples > 2 else BLACK_IS_ZERO
    directory[SAMPLES] = samples
    if samples in (2, 4):
        directory[EXTRA_SAMPLES] = (UNASSOCIATED,)
    return directory


def _put(directory: ImageFileDirectory_v2, tag: int, kind: int, value: Any, notes: list[str]) -> None:
    trial = ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
    for target in (trial, directory):
        try:
            target.tagtype[tag] = kind
            target[tag] = value
            trial.tobytes()
        except (struct.error, TypeError, ValueError, KeyError, AttributeError, OverflowError):
            notes.append(f"TIFF tag {tag} could not be kept")
            return


def _strips(samples: NDArray[Any], directory: ImageFileDirectory_v2) -> list[bytes]:
    height = samples.shape[0]
    rows = max(1, min(height, STRIP_BYTES // max(1, samples[0].nbytes)))
    strips = []
    for start in range(0, height, rows):
        block = samples[start : start + rows]
        differences = block.astype(block.dtype.newbyteorder("<"))
        differences[:, 1:] -= block[:, :-1]
        strips.append(zlib.compress(differences.tobytes(), 6))
    sizes = [len(strip) for strip in strips]
    starts = [0, *np.cumsum(sizes[:-1], dtype=np.int64).tolist()]
    for tag, values in ((OFFSETS, starts), (COUNTS, sizes)):
        directory.tagtype[tag] = LONG
        directory[tag] = tuple(values)
    directory[ROWS_PER_STRIP] = rows
    return strips
