"""PNG: what Pillow leaves out. Colour and alpha of 16 bits in and out, chunks that say what colours mean."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from PIL.PngImagePlugin import PngImageFile

from sharpkd.functional.quiet import quiet

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_CHUNKS = (b"cHRM", b"cICP", b"gAMA", b"sRGB")
COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
BAND_BYTES = 1 << 22
LEVEL = 4
"""Of zlib: its own choice, 6, packs hardly tighter and takes much longer."""
# What Pillow unpacks from samples of two bytes: the first of them, and where the second is to be had. It has
# no mode for two channels, whose four bytes are therefore taken for four channels.
HIGH_AND_LOW = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
GREY_AND_ALPHA = "LA;16B"
LARGEST_GREY = {"L;2": 3, "L;4": 15, "L": 255}
"""Of grey samples of up to 8 bits, which Pillow brings to 0..255; what it does with one bit is right."""


def colour_chunks(stream: BinaryIO) -> dict[bytes, bytes]:
    """The chunks before the pixels that say what the numbers mean as colours (other than an ICC profile)."""
    stream.seek(len(SIGNATURE))
    found = {}
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in (b"IDAT", b"IEND"):
            break
        if name in COLOUR_CHUNKS and length <= 32:
            found[name] = stream.read(length)
            stream.seek(4, 1)
        else:
            stream.seek(length + 4, 1)
    return found


def scale_transparent(image: Image) -> None:
    """Bring the grey that an opened PNG does not show to 0..255, as Pillow brings the pixels.

    Pillow keeps it as the file has it: a sample, of which only the lowest bits count (PNG, 11.3.2.1).
    """
    hidden, tiles = image.info.get("transparency"), getattr(image, "tile", None)
    largest = LARGEST_GREY.get(str(tiles[0].args)) if tiles else None
    if largest is not None and isinstance(hidden, int):
        image.info["transparency"] = (hidden & largest) * (255 // largest)


def read_wide(stream: BinaryIO) -> NDArray[np.uint16] | None:
    """``(H, W, C)`` uint16 of a PNG with 16-bit colour or alpha; None for any other.

    Pillow keeps the upper eight bits of such samples. It is asked twice, the second time for the lower ones.
    """
    layout = _layout(stream)
    if layout == GREY_AND_ALPHA:
        four = _unpacked(stream, "RGBA").astype(np.uint16)
        return np.bitwise_or(four[..., ::2] << 8, four[..., 1::2], dtype=np.uint16)
    if layout not in HIGH_AND_LOW:
        return None
    found = _unpacked(stream, layout).astype(np.uint16)
    found <<= 8
    found |= _unpacked(stream, HIGH_AND_LOW[layout])
    return found


def _opened(stream: BinaryIO) -> PngImageFile:
    stream.seek(0)
    with quiet():
        return PngImageFile(stream)


def _layout(stream: BinaryIO) -> str:
    with _opened(stream) as image:
        return str(image.tile[0].args)


def _unpacked(stream: BinaryIO, layout: str) -> NDArray[np.uint8]:
    with _opened(stream) as image:
        image.tile = [tile._replace(args=layout) for tile in image.tile]
        return np.array(image)


def with_wide_pixels(small: bytes, pixels: NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits per sample.

    Args:
        small: any PNG; its chunks, other than its pixels, become those of the result.
        pixels: ``(H, W, C)`` with C of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).
    """
    height, width, channels = pixels.shape
    parts = [SIGNATURE]
    at = len(SIGNATURE)
    while at < len(small):
        length, name = struct.unpack_from(">I4s", small, at)
        if name == b"IHDR":
            parts.append(
                _chunk(name, struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPE[channels], 0, 0, 0))
            )
        elif name == b"IDAT":
            parts.append(_chunk(name, _deflated(pixels)))
        else:
            parts.append(small[at : at + 12 + length])
        at += 12 + length
    return b"".join(parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(data)), name, data, struct.pack(">I", zlib.crc32(name + data))))


def _deflated(pixels: NDArray[np.uint16]) -> bytes:
    """Rows, each by the filter whose bytes are the smallest in sum (the PNG specification's heuristic)."""
    packer = zlib.compressobj(LEVEL)
    rows = max(1, BAND_BYTES // pixels[0].nbytes)
    step = 2 * pixels.shape[2]
    before = np.zeros((1, pixels[0].nbytes), np.uint8)
    parts = []
    for start in range(0, len(pixels), rows):
        band = (
            np.ascontiguousarray(pixels[start : start + rows], ">u2").view(np.uint8).reshape(-1, before.size)
        )
        above = np.concatenate((before, band[:-1]))
        left = np.zeros_like(band)
        left[:, step:] = band[:, :-step]
        mean = ((left.astype(np.uint16) + above) >> 1).astype(np.uint8)
        filtered = np.stack((band, band - left, band - above, band - mean))
        cost = np.abs(filtered.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
        best = cost.argmin(axis=0)
        chosen = np.take_along_axis(filtered, best[None, :, None], axis=0)[0]
        parts.append(
            packer.compress(np.concatenate((best[:, None].astype(np.uint8), chosen), axis=1).tobytes())
        )
        before = band[-1:]
    return b"".join((*parts, packer.flush()))
