"""An identity model through the whole path returns identical pixels, for every lossless format and depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
from numpy.typing import NDArray
from PIL import Image

from sharpkd.inference.files import sharpened
from sharpkd.inference.image_io import read_image, read_picture, write_image
from sharpkd.inference.sharpener import Sharpener

SIZE = (9, 14)


def _random(channels: int = 0, dtype: Any = np.uint8) -> NDArray[Any]:
    shape = (*SIZE, channels) if channels else SIZE
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    if channels in (2, 4):
        values[:3, :5, -1] = 0  # colours under them are random too, and stay
    return values


def _pillow(path: Path, image: Image.Image, **options: Any) -> NDArray[Any]:
    image.save(path, **options)
    return np.asarray(image.convert({"P": "RGB", "1": "L"}.get(image.mode, image.mode)))


def _cv2(path: Path, pixels: NDArray[Any]) -> NDArray[Any]:
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}
    cv2.imwrite(str(path), pixels[..., order[pixels.shape[2]]] if pixels.ndim == 3 else pixels)
    return pixels


def _tifffile(path: Path, pixels: NDArray[Any], **options: Any) -> NDArray[Any]:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    options.setdefault("photometric", "rgb" if channels > 2 else "minisblack")
    options.setdefault("extrasamples", ["unassalpha"] if channels in (2, 4) else None)
    stored = pixels.transpose(2, 0, 1) if options.get("planarconfig") == "separate" else pixels
    tifffile.imwrite(path, np.ascontiguousarray(stored), **options)
    return pixels


def _lzw_of_pillow(path: Path) -> NDArray[Any]:
    pixels = _random(0, np.uint16)
    Image.fromarray(pixels).save(path, compression="tiff_lzw")
    return pixels


CORPUS: dict[str, Callable[[Path], NDArray[Any]]] = {
    "rgb.png": lambda path: _pillow(path, Image.fromarray(_random(3))),
    "rgba.png": lambda path: _pillow(path, Image.fromarray(_random(4))),
    "grey.png": lambda path: _pillow(path, Image.fromarray(_random())),
    "grey_alpha.png": lambda path: _pillow(path, Image.fromarray(_random(2), "LA")),
    "palette.png": lambda path: _pillow(path, Image.fromarray(_random(3)).quantize(32)),
    "bits.png": lambda path: _pillow(path, Image.fromarray(_random()).convert("1")),
    "grey16.png": lambda path: _cv2(path, _random(0, np.uint16)),
    "rgb16.png": lambda path: _cv2(path, _random(3, np.uint16)),
    "rgba16.png": lambda path: _cv2(path, _random(4, np.uint16)),
    "rgb.bmp": lambda path: _pillow(path, Image.fromarray(_random(3))),
    "grey.bmp": lambda path: _pillow(path, Image.fromarray(_random())),
    "rgb.webp": lambda path: _pillow(path, Image.fromarray(_random(3)), lossless=True),
    "rgba.webp": lambda path: _pillow(path, Image.fromarray(_random(4)), lossless=True, exact=True),
    "palette.gif": lambda path: _pillow(path, Image.fromarray(_random(3)).quantize(200)),
    "rgb.tif": lambda path: _tifffile(path, _random(3)),
    "rgba.tif": lambda path: _tifffile(path, _random(4)),
    "grey.tif": lambda path: _tifffile(path, _random()),
    "grey_alpha.tif": lambda path: _tifffile(path, _random(2)),
    "grey16.tif": lambda path: _tifffile(path, _random(0, np.uint16)),
    "grey16_lzw.tif": _lzw_of_pillow,
    "grey_alpha16.tif": lambda path: _tifffile(path, _random(2, np.uint16)),
    "rgb16.tif": lambda path: _tifffile(path, _random(3, np.uint16)),
    "rgba16.tif": lambda path: _tifffile(path, _random(4, np.uint16)),
    "rgba16_be.tif": lambda path: _tifffile(path, _random(4, np.uint16), byteorder=">"),
    "rgb16_zip.tif": lambda path: _tifffile(
        path, _random(3, np.uint16), compression="zlib", predictor=True, byteorder=">"
    ),
    "rgb16_lzw.tif": lambda path: _cv2(path, _random(3, np.uint16)),
    "rgb16_planes.tif": lambda path: _tifffile(path, _random(3, np.uint16), planarconfig="separate"),
    "rgb16_big.tif": lambda path: _tifffile(path, _random(3, np.uint16), bigtiff=True, rowsperstrip=2),
    "rgba16_tiles.tif": lambda path: _tifffile(
        path, _random(4, np.uint16), tile=(16, 16), compression="zlib", predictor=True
    ),
}


def _read(path: Path) -> NDArray[Any]:
    """By another reader than the one under test, where Pillow does not keep the depth."""
    if path.suffix == ".tif":
        return tifffile.imread(path)
    if "16" in path.name:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        return pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB") if image.mode == "P" else image)


@pytest.mark.parametrize("name", CORPUS)
def test_identity_returns_identical_pixels(name: str, tmp_path: Path, identity_onnx: Path) -> None:
    wanted = CORPUS[name](tmp_path / name)
    file = read_image(tmp_path / name)
    assert file.notes == ()
    result = sharpened(file, Sharpener(identity_onnx, tile=8, threads=1))
    assert write_image(tmp_path / f"out_{name}", result) == ()
    found = _read(tmp_path / f"out_{name}")
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_16_bit_grey_with_alpha_in_png(tmp_path: Path) -> None:
    """Neither cv2 nor Pillow writes or reads it: its own TIFF, read by tifffile, is the witness."""
    pixels = _tifffile(tmp_path / "a.tif", _random(2, np.uint16))
    write_image(tmp_path / "b.png", read_image(tmp_path / "a.tif"))
    assert (tmp_path / "b.png").read_bytes()[24:26] == b"\x10\x04"
    write_image(tmp_path / "c.tif", read_image(tmp_path / "b.png"))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "c.tif"), pixels)


def test_interlaced_16_bit_png(tmp_path: Path) -> None:
    """Adam7: each pass of the PNG specification's (8.2) is a small image; written here by hand."""
    import struct
    import zlib

    pixels = _random(3, np.uint16)
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes()
        for top, left, down, across in passes
        for row in pixels[top::down, left::across]
        if row.size
    )
    header = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 16, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    data = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").pixels, pixels)


def test_pages_stay_pages(tmp_path: Path, identity_onnx: Path) -> None:
    pages = [_random(), _random(3, np.uint16), _random(4), _random(2, np.uint16)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            colour = page.ndim == 3 and page.shape[2] > 2
            extra = ["unassalpha"] if page.ndim == 3 and page.shape[2] in (2, 4) else None
            writer.write(
                page,
                photometric="rgb" if colour else "minisblack",
                extrasamples=extra,
                description=f"page {page.shape}",
                metadata=None,
            )
    result = sharpened(read_image(tmp_path / "a.tif"), Sharpener(identity_onnx, threads=1))
    assert write_image(tmp_path / "b.tif", result) == ()
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert [page.description for page in file.pages] == [f"page {page.shape}" for page in pages]  # type: ignore[union-attr]  # pages, not frames
        for found, wanted in zip(file.pages, pages, strict=True):
            np.testing.assert_array_equal(found.asarray(), wanted)


def test_16_bit_transparent_colour(tmp_path: Path) -> None:
    """PNG's tRNS: one colour that is not shown, compared in all 16 bits."""
    import struct
    import zlib

    pixels = np.array([[[1000, 2000, 3000], [1000, 2000, 3001]]], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1])
    data = (tmp_path / "a.png").read_bytes()
    body = b"tRNS" + struct.pack(">HHH", 1000, 2000, 3000)
    at = data.index(b"IDAT") - 4
    chunk = struct.pack(">I", 6) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(data[:at] + chunk + data[at:])
    picture = read_picture(tmp_path / "a.png")
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, [[0, 65535]])
    np.testing.assert_array_equal(picture.pixels, pixels)


def test_white_is_zero_and_multiplied_alpha(tmp_path: Path) -> None:
    grey = _random(0, np.uint16)
    _tifffile(tmp_path / "a.tif", grey, photometric="miniswhite")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").pixels[..., 0], 65535 - grey)
    colours, alpha = _random(3, np.uint16).astype(np.float64), _random(0, np.uint16)
    stored = np.rint(colours * alpha[..., None] / 65535)
    both = np.concatenate((stored, alpha[..., None]), axis=2).astype(np.uint16)
    _tifffile(tmp_path / "b.tif", both, extrasamples=["assocalpha"])
    picture = read_picture(tmp_path / "b.tif")
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, alpha)
    seen = picture.pixels * (alpha[..., None] / 65535)
    assert np.abs(seen - stored).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_wide_results_are_packed(name: str, tmp_path: Path) -> None:
    """Smooth 16-bit pictures take clearly less than their plain size."""
    rows, columns = np.mgrid[:200, :300]
    pixels = np.stack((rows * 200, columns * 150, (rows + columns) * 90), axis=2).astype(np.uint16)
    _cv2(tmp_path / f"in_{name}", pixels)
    write_image(tmp_path / name, read_image(tmp_path / f"in_{name}"))
    assert (tmp_path / name).stat().st_size < pixels.nbytes / 20
    np.testing.assert_array_equal(read_picture(tmp_path / name).pixels, pixels)


def test_png_is_packed_as_tightly_as_pillow_packs_it(tmp_path: Path) -> None:
    photograph = skimage.data.astronaut()
    _pillow(tmp_path / "pillow.png", Image.fromarray(photograph))
    file = read_image(tmp_path / "pillow.png")
    write_image(tmp_path / "ours.png", file)
    sizes = [(tmp_path / name).stat().st_size for name in ("ours.png", "pillow.png")]
    assert sizes[0] <= 1.02 * sizes[1]
