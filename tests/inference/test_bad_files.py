"""Files that cannot be read, or not in full: one line each, bounded memory, no traceback."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from sharpkd.inference import picture as limits
from sharpkd.inference.image_io import ImageFileError, Picture, read_image, read_picture, write_picture


def _random(shape: tuple[int, ...], dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def _png_header(width: int, height: int) -> bytes:
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4s", 99, b"IDAT")


def _bomb_tiff(folder: Path) -> Path:
    """A header that promises 60,000 x 60,000 samples of 16 bits, and nothing behind it."""
    tifffile.imwrite(folder / "bomb.tif", _random((4, 4, 3), np.uint16), photometric="rgb")
    data = bytearray((folder / "bomb.tif").read_bytes())
    at = struct.unpack_from("<I", data, 4)[0]
    for index in range(struct.unpack_from("<H", data, at)[0]):
        place = at + 2 + 12 * index
        if struct.unpack_from("<H", data, place)[0] in (256, 257):
            struct.pack_into("<HII", data, place + 2, 4, 1, 60000)
    (folder / "bomb.tif").write_bytes(data)
    return folder / "bomb.tif"


def _bad_files(folder: Path) -> dict[Path, str]:
    """Files that cannot be read, with the reason."""
    (folder / "folder.jpg").mkdir()
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("hello")
    short = {}
    for suffix in ("png", "jpg", "webp", "bmp", "gif", "avif", "tif"):
        buffer = io.BytesIO()
        Image.fromarray(_random((64, 64, 3))).save(buffer, Image.registered_extensions()[f".{suffix}"])
        short[folder / f"short.{suffix}"] = "cannot be decoded ("
        (folder / f"short.{suffix}").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    del short[folder / "short.avif"]
    tifffile.imwrite(folder / "short16.tif", _random((64, 64, 3), np.uint16), photometric="rgb")
    (folder / "short16.tif").write_bytes((folder / "short16.tif").read_bytes()[:5000])
    (folder / "header.tif").write_bytes(b"II*\0")
    (folder / "nowhere.tif").write_bytes(b"II*\0\xff\xff\xff\x7f")
    (folder / "bomb.png").write_bytes(_png_header(60000, 60000))
    (folder / "big.png").write_bytes(_png_header(13100, 13000))
    tifffile.imwrite(folder / "nan.tif", np.array([[0.5, np.nan]], np.float32))
    tifffile.imwrite(folder / "inf.tif", np.full((2, 2, 3), np.inf, np.float32), photometric="rgb")
    tifffile.imwrite(folder / "range.tif", np.array([[0.5, 7.0]], np.float32))
    many: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [0] * 8}
    tifffile.imwrite(folder / "many.tif", _random((4, 5, 9), np.uint16), **many)
    Image.fromarray(np.array([[-1, 5]], np.int32)).save(folder / "deep.tif")
    frames = [Image.fromarray(_random((16, 16, 3)) // (i + 1)) for i in range(3)]
    frames[0].save(folder / "moving.avif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "still.png", save_all=True, append_images=frames[1:], default_image=True)
    return {
        **short,
        folder / "none.png": "no such file",
        folder / "folder.jpg": "is a folder, not an image",
        folder / "empty.png": "is empty (0 bytes)",
        folder / "text.jpg": "is no PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF image",
        folder / "short16.tif": "cannot be decoded (",
        folder / "header.tif": "cannot be decoded (",
        folder / "nowhere.tif": "is a TIFF without ",
        folder / "bomb.png": "has 3600 megapixels; at most 170 are read",
        folder / "big.png": "has 170 megapixels; at most 170 are read",
        _bomb_tiff(folder): "has 3600 megapixels; at most 170 are read",
        folder / "nan.tif": "cannot be decoded (float image with NaN or infinite pixels)",
        folder / "inf.tif": "cannot be decoded (float image with NaN or infinite pixels)",
        folder / "range.tif": "cannot be decoded (float values in [0.5, 7]; expected [0, 1])",
        folder / "many.tif": "cannot be decoded (9 samples a pixel; at most 8 are read)",
        folder / "deep.tif": "cannot be decoded (32-bit image with values in [-1, 5]; expected 16 bits)",
        folder / "moving.avif": "has 3 frames; of AVIF files only single images are read",
        folder / "still.png": "has a still image beside its animation; that is not supported",
    }


def test_bad_files_are_named_with_their_reason(tmp_path: Path) -> None:
    for path, reason in _bad_files(tmp_path).items():
        with pytest.raises(ImageFileError, match=re.escape(f"{path}: {reason}")) as caught:
            read_image(path)
        assert "\n" not in str(caught.value), path


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "bmp", "tif"])
def test_damage_anywhere_is_one_line_or_nothing(suffix: str) -> None:
    """Warnings are errors here: none may escape either."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    exif.get_ifd(0x8769)[0x9003] = "2020:02:02 02:02:02"
    buffer = io.BytesIO()
    Image.fromarray(_random((24, 24, 3)) // 64 * 64).save(
        buffer, Image.registered_extensions()[f".{suffix}"], exif=exif.tobytes()
    )
    generator = np.random.default_rng(0)
    refused: list[str] = []
    for index in range(30):
        data = bytearray(buffer.getvalue())
        for _ in range(generator.integers(1, 8)):
            data[generator.integers(0, min(len(data), 400 if index % 2 else len(data)))] ^= 0xFF
        try:
            file = read_image(Path(f"a.{suffix}"), io.BytesIO(data[: len(data) - (index % 5) * 50]))
            assert file.pictures[0].pixels.size
        except ImageFileError as error:
            refused.append(str(error))
    assert len(refused) > 3
    assert [line for line in refused if "\n" in line or not line.startswith(f"a.{suffix}: ")] == []


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    """In a process that may have one gigabyte of addresses, of which 3,600 megapixels would take ten."""
    (tmp_path / "bomb.png").write_bytes(_png_header(60000, 60000))
    _bomb_tiff(tmp_path)
    code = (
        "import pathlib, resource, sys\n"
        "from sharpkd.inference.image_io import ImageFileError, read_image\n"
        "used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))\n"
        "for name in sys.argv[1:]:\n"
        "    try: read_image(pathlib.Path(name))\n"
        "    except ImageFileError as error: print(error)\n"
    )
    names = [str(tmp_path / name) for name in ("bomb.png", "bomb.tif")]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"{name}: has 3600 megapixels; at most 170 are read" for name in names
    ]
    assert done.stderr == ""


def test_frames_and_pages_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.fromarray(_random((10, 10, 3)) // (i + 1)) for i in range(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=50)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for _ in range(3):
            writer.write(_random((10, 10, 3)), photometric="rgb")
    for name in ("a.webp", "a.tif"):
        assert len(read_image(tmp_path / name).pictures) == 3
        with pytest.raises(ImageFileError, match="has 3 frames or pages, expected a single image"):
            read_picture(tmp_path / name)
    monkeypatch.setattr(limits, "MAX_PIXELS", 250)
    for name in ("a.webp", "a.tif"):
        with pytest.raises(ImageFileError, match="has 0 megapixels; at most 0 are read"):
            read_image(tmp_path / name)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(_random((4, 4))).save(path)
    path.chmod(0)
    if os.geteuid() == 0:  # whom nothing is denied

        def denied(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ImageFileError, match=re.escape(f"{path}: no permission to read it")):
        read_image(path)


def test_a_wrong_suffix_does_not_matter(tmp_path: Path) -> None:
    pixels = _random((6, 5, 3))
    Image.fromarray(pixels).save(tmp_path / "a.jpg", "png")
    file = read_image(tmp_path / "a.jpg")
    assert file.kind == "PNG"
    np.testing.assert_array_equal(file.pictures[0].pixels, pixels)


def test_unknown_suffix(tmp_path: Path) -> None:
    for name, found in (("a.xyz", ".xyz"), ("a", "a name without suffix"), ("a.pdf", ".pdf")):
        with pytest.raises(
            ImageFileError, match=re.escape(f"{tmp_path / name}: cannot write {found}; use .png, ")
        ):
            write_picture(tmp_path / name, Picture(_random((4, 4, 3))))
    assert list(tmp_path.iterdir()) == []
