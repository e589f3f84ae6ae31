from __future__ import annotations

import io
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from sharpkd.inference import image_io
from sharpkd.inference.image_io import ImageFileError, Picture, atomic_file, read_picture, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORIENTATION, MAKER = 0x0112, 0x010F


def _random(shape: tuple[int, ...], dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def _lossless() -> dict[str, Image.Image]:
    colour, grey = Image.fromarray(_random((9, 14, 3))), Image.fromarray(_random((9, 14)))
    return {
        "rgb.png": colour,
        "rgba.png": Image.fromarray(_random((9, 14, 4))),
        "grey.png": grey,
        "grey_alpha.png": Image.merge("LA", (grey, Image.fromarray(_random((9, 14))))),
        "wide.png": Image.fromarray(_random((9, 14), np.uint16)),
        "palette.png": colour.quantize(32),
        "bits.png": grey.convert("1"),
        "rgb.tif": colour,
        "grey.tif": grey,
        "wide.tif": Image.fromarray(_random((9, 14), np.uint16)),
        "rgb.bmp": colour,
        "grey.bmp": grey,
    }


@pytest.mark.parametrize("name", _lossless())
def test_lossless_formats_return_identical_pixels(name: str, tmp_path: Path) -> None:
    image = _lossless()[name]
    image.save(tmp_path / name)
    picture = read_picture(tmp_path / name)
    assert write_picture(tmp_path / f"out_{name}", picture) == ()
    with Image.open(tmp_path / name) as before, Image.open(tmp_path / f"out_{name}") as after:
        wanted = {"palette.png": "RGB", "bits.png": "L"}.get(name, before.mode)
        assert after.mode == wanted
        assert after.format == before.format
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before.convert(wanted)))


def test_transparent_palette_keeps_its_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(_random((9, 14, 3))).quantize(8)
    image.save(tmp_path / "a.png", transparency=3)
    picture = read_picture(tmp_path / "a.png")
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha == 0, np.asarray(image) == 3)
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_profile_exif_and_orientation(suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.linspace(0, 255, 20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKER] = 6, "camera"
    image.save(tmp_path / f"a{suffix}", icc_profile=SRGB, exif=exif, quality=100)
    picture = read_picture(tmp_path / f"a{suffix}")
    assert write_picture(tmp_path / f"b{suffix}", picture) == ()
    with Image.open(tmp_path / f"a{suffix}") as before, Image.open(tmp_path / f"b{suffix}") as after:
        upright = np.asarray(ImageOps.exif_transpose(before).convert("RGB"), np.int64)
        assert after.size == (20, 30)
        assert after.info["icc_profile"] == SRGB
        assert after.getexif()[MAKER] == "camera"
        assert ORIENTATION not in after.getexif()
        np.testing.assert_array_equal(picture.pixels, upright)
        assert np.abs(np.asarray(after, np.int64) - upright).max() <= (0 if suffix == ".png" else 12)


def test_resolution_is_kept(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".tif"):
        Image.fromarray(_random((4, 4, 3))).save(tmp_path / f"a{suffix}", dpi=(300, 300))
        write_picture(tmp_path / f"b{suffix}", read_picture(tmp_path / f"a{suffix}"))
        with Image.open(tmp_path / f"b{suffix}") as after:
            assert round(float(after.info["dpi"][0])) == 300


def test_cmyk_becomes_rgb_without_its_profile(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(
        tmp_path / "a.jpg", icc_profile=b"no profile", quality=100
    )
    picture = read_picture(tmp_path / "a.jpg")
    assert np.abs(picture.pixels.astype(int) - [255, 0, 0]).max() <= 2
    assert picture.notes == ("CMYK was converted to RGB",)
    assert "icc_profile" not in picture.metadata


def test_jpeg_is_not_written_coarser_than_it_was(tmp_path: Path) -> None:
    image = Image.fromarray(_random((16, 16, 3)))
    for quality, expected in ((60, 95), (95, 95), (96, 100), (100, 100)):
        image.save(tmp_path / "in.jpg", quality=quality)
        write_picture(tmp_path / "out.jpg", read_picture(tmp_path / "in.jpg"))
        image.save(tmp_path / "reference.jpg", quality=expected)
        with Image.open(tmp_path / "out.jpg") as out, Image.open(tmp_path / "reference.jpg") as reference:
            assert out.quantization == reference.quantization  # type: ignore[attr-defined]  # only JPEG images have it


def test_notes_say_what_is_lost(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "wide.png"), _random((5, 6, 3), np.uint16))
    assert read_picture(tmp_path / "wide.png").notes == ("16 bits per channel were reduced to 8",)
    wide = Picture(
        np.repeat(_random((5, 6, 1), np.uint16), 3, axis=2), grey=True, metadata={"icc_profile": SRGB}
    )
    assert write_picture(tmp_path / "a.jpg", wide) == ("16 bits per channel were reduced to 8 (JPEG)",)
    clear = Picture(_random((5, 6, 3)), alpha=_random((5, 6)), metadata={"icc_profile": SRGB})
    assert write_picture(tmp_path / "b.bmp", clear) == (
        "BMP cannot hold transparency: alpha was dropped",
        "BMP cannot hold icc_profile",
    )


def _bad_files(folder: Path) -> dict[Path, str]:
    """Files that cannot be read, with the reason."""
    (folder / "folder.jpg").mkdir()
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("hello")
    buffer = io.BytesIO()
    Image.fromarray(_random((64, 64, 3))).save(buffer, "png")
    (folder / "short.png").write_bytes(buffer.getvalue()[:2000])
    frames = [Image.fromarray(_random((4, 4, 3)) // (i + 1)) for i in range(3)]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    Image.fromarray(np.array([[0.5, np.nan]], np.float32)).save(folder / "nan.tif")
    Image.fromarray(np.array([[0.5, 7.0]], np.float32)).save(folder / "range.tif")
    return {
        folder / "none.png": "no such file",
        folder / "folder.jpg": "is a folder, not an image",
        folder / "empty.png": "is empty (0 bytes)",
        folder / "text.jpg": "is not an image that Pillow reads",
        folder / "short.png": "cannot be decoded (",
        folder / "moving.webp": "has 3 frames or pages; only single images are sharpened",
        folder / "nan.tif": "cannot be decoded (float image with NaN or infinite pixels)",
        folder / "range.tif": "cannot be decoded (float values in [0.5, 7]; expected [0, 1])",
    }


def test_bad_files_are_named_with_their_reason(tmp_path: Path) -> None:
    for path, reason in _bad_files(tmp_path).items():
        with pytest.raises(ImageFileError, match=re.escape(f"{path}: {reason}")) as caught:
            read_picture(path)
        assert "\n" not in str(caught.value)


def test_cmyk_with_a_profile_of_another_space(tmp_path: Path) -> None:
    # An sRGB profile does not fit CMYK pixels: conversion falls back to Pillow's own.
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.tif", icc_profile=SRGB)
    assert (read_picture(tmp_path / "a.tif").pixels == [0, 255, 255]).all()


def test_bombs_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.pack(">4sIIBBBBB", b"IHDR", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4s", 99, b"IDAT"))
    with pytest.raises(ImageFileError, match="exceeds limit"):
        read_picture(tmp_path / "bomb.png")
    Image.new("L", (40, 30)).save(tmp_path / "large.png")
    monkeypatch.setattr(image_io, "MAX_PIXELS", 1000)
    with pytest.raises(ImageFileError, match="has 40x30 pixels; at most 0 megapixels are read"):
        read_picture(tmp_path / "large.png")


def test_float_pixels_become_16_bit(tmp_path: Path) -> None:
    values = np.array([[0, 0.25, 1]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels[..., 1], [[0, 16384, 65535]])
    assert picture.notes == ("float pixels were rounded to 16 bits",)


def test_unknown_suffix(tmp_path: Path) -> None:
    for name, found in (("a.xyz", ".xyz"), ("a", "a name without suffix"), ("a.pdf", ".pdf")):
        with pytest.raises(
            ImageFileError, match=re.escape(f"{tmp_path / name}: cannot write {found}; use .png, ")
        ):
            write_picture(tmp_path / name, Picture(_random((4, 4, 3))))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")

    def write_half() -> None:
        with atomic_file(target) as file:
            file.write(b"half of the new")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        write_half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_kill_in_mid_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    code = (
        "import os, signal, sys, pathlib\n"
        "from sharpkd.inference.image_io import atomic_file\n"
        "with atomic_file(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)])
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_picture(tmp_path / "a.png", Picture(_random((4, 4, 3))))
    assert os.stat(tmp_path / "a.png").st_mode == os.stat(tmp_path / "plain").st_mode
