"""Samples that Pillow passes on as they are: what they mean is held against the formats' own words."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from sharpkd.inference.image_io import ImageFileError, read_image, read_picture

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row and column, and steps down and across, of each pass (PNG, 8.2)."""


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _rows(levels: NDArray[np.uint8], bits: int) -> bytes:
    """Unfiltered rows of samples of 1, 2, 4 or 8 bits, the first of a byte in its highest ones."""
    single = np.unpackbits(levels[..., None], axis=2)[..., 8 - bits :]
    packed = np.packbits(single.reshape(len(levels), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def _grey_png(levels: NDArray[np.uint8], bits: int, hidden: int, interlaced: bool) -> bytes:
    """Levels of 0 to 2**bits - 1, of which one is not shown."""
    height, width = levels.shape
    parts = [levels]
    if interlaced:
        parts = [levels[top::down, left::across] for top, left, down, across in ADAM7]
    data = b"".join(_rows(part, bits) for part in parts if part.size)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, interlaced)),
            _chunk(b"tRNS", struct.pack(">H", hidden)),
            _chunk(b"IDAT", zlib.compress(data)),
            _chunk(b"IEND", b""),
        )
    )


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_grey_that_a_png_does_not_show(bits: int, interlaced: bool, tmp_path: Path) -> None:
    largest = 2**bits - 1
    levels = np.random.default_rng(0).integers(0, largest + 1, (21, 35), np.uint8)
    # of what says which grey it is, only the lowest bits count
    for hidden, said in ((0, 0), (1, 1), (largest, largest), (1, 1 + 3 * (largest + 1))):
        if bits == 1 and said > largest:
            continue
        (tmp_path / "a.png").write_bytes(_grey_png(levels, bits, said, interlaced))
        picture = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(picture.pixels[..., 0], levels * (255 // largest))
        assert picture.grey
        assert picture.alpha is not None
        np.testing.assert_array_equal(picture.alpha, np.where(levels == hidden, 0, 255))


def _samples(count: int, dtype: Any) -> NDArray[Any]:
    largest = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, largest, (9, 7, count), dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("kinds", "alpha", "notes"),
    [
        (["unassalpha"], True, ()),
        (["unspecified"], False, ("extra channels were dropped (1)",)),
        (["unspecified"] * 2, False, ("extra channels were dropped (2)",)),
        (["unassalpha", "unspecified"], True, ("extra channels were dropped (1)",)),
    ],
)
def test_extra_channels_of_a_tiff_are_dropped_with_a_note(
    kinds: list[str], alpha: bool, notes: tuple[str, ...], dtype: Any, tmp_path: Path
) -> None:
    samples = _samples(3 + len(kinds), dtype)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=kinds)
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels, samples[..., :3])
    assert (picture.alpha is not None) == alpha
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, samples[..., 3])
    assert picture.notes == notes


@pytest.mark.parametrize(
    ("dtype", "channels", "bits"), [(np.int8, 1, 8), (np.int8, 3, 8), (np.int16, 3, 16), (np.int16, 4, 16)]
)
def test_signed_samples_are_refused(dtype: Any, channels: int, bits: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    samples = np.squeeze(_samples(channels, dtype))
    tifffile.imwrite(path, samples, photometric="rgb" if channels > 1 else "minisblack")
    line = f"{path}: cannot be decoded (signed samples of {bits} bits are not read)"
    with pytest.raises(ImageFileError, match=f"^{re.escape(line)}$"):
        read_image(path)


def test_grey_of_signed_16_bits_is_read_where_nothing_is_below_zero(tmp_path: Path) -> None:
    samples = _samples(1, np.int16)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="minisblack")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").pixels[..., 0], samples)


def test_white_is_zero_in_float(tmp_path: Path) -> None:
    shown = np.random.default_rng(0).random((9, 7), np.float32)
    tifffile.imwrite(tmp_path / "a.tif", 1 - shown, photometric="miniswhite")
    picture = read_picture(tmp_path / "a.tif")
    assert picture.notes == ("float pixels were rounded to 16 bits",)
    assert np.abs(picture.pixels[..., 0] / 65535 - shown).max() <= 0.51 / 65535
