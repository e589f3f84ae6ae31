from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from sharpkd.inference.exif import upright_exif
from sharpkd.inference.image_io import Picture, read_image, read_picture, write_image, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORIENTATION, MAKER, EXIF, GPS, THUMBNAIL = 0x0112, 0x010F, 0x8769, 0x8825, 0x0201
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="%d" dc:title="a"/></x:xmpmeta>'


def _random(shape: tuple[int, ...], dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def _smooth() -> NDArray[np.uint8]:
    """``(20, 30, 3)``: no two corners alike."""
    rows, columns = np.mgrid[:20, :30]
    return np.stack((rows * 12, columns * 8, rows * 4 + columns * 4), axis=2).astype(np.uint8)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKER] = orientation, "camera"
    exif.get_ifd(EXIF).update({0x9003: "2020:02:02 02:02:02", 0x927C: b"maker's own", 0xA002: 30, 0xA003: 20})
    exif.get_ifd(GPS).update({1: "N", 2: (48.0, 51.0, 30.0)})
    return exif


def _copied(path: Path) -> tuple[Picture, tuple[str, ...]]:
    """The picture, and the notes of writing it to ``out`` with the same suffix."""
    file = read_image(path)
    return file.pictures[0], write_image(path.with_name(f"out{path.suffix}"), file)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_orientation_is_applied_once_and_exif_stays(suffix: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(_smooth()).save(
        path, icc_profile=SRGB, exif=_exif(orientation).tobytes(), quality=100, xmp=XMP % orientation
    )
    picture, notes = _copied(path)
    assert (picture.notes, notes) == ((), ())
    with Image.open(path) as before, Image.open(tmp_path / f"out{suffix}") as after:
        upright = np.asarray(ImageOps.exif_transpose(before).convert("RGB"), np.int64)
        np.testing.assert_array_equal(picture.pixels, upright)
        exact = suffix in (".png", ".tif")
        assert np.abs(np.asarray(after, np.int64) - upright).max() <= (0 if exact else 12)
        assert after.info["icc_profile"] == SRGB
        exif = after.getexif()
        assert exif[MAKER] == "camera"
        assert exif.get(ORIENTATION, 1) == 1
        inner = exif.get_ifd(EXIF)
        assert (inner[0x9003], inner[0x927C]) == ("2020:02:02 02:02:02", b"maker's own")
        assert (inner[0xA002], inner[0xA003]) == after.size
        assert exif.get_ifd(GPS)[2] == (48.0, 51.0, 30.0)
        if suffix in (".jpg", ".webp"):  # the formats into which Pillow's save puts the test's XMP
            assert after.info["xmp"].rstrip(b"\0") == XMP % 1


def test_the_thumbnail_goes_and_every_other_byte_of_exif_stays() -> None:
    for endian, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        directory = struct.pack(endian + "H", 2)
        directory += struct.pack(endian + "HHIHH", ORIENTATION, 3, 1, 6, 0)
        directory += struct.pack(endian + "HHII", EXIF, 4, 1, 64)
        thumbnail = struct.pack(endian + "HHHII", 1, THUMBNAIL, 4, 1, 90)
        inner = struct.pack(endian + "H", 1) + struct.pack(endian + "HHIHH", 0xA002, 3, 1, 30, 0) + bytes(4)
        start = mark + struct.pack(endian + "I", 8) + directory
        block = (start + struct.pack(endian + "I", 44) + thumbnail).ljust(64, b"?") + inner + b"thumbnail"
        found = upright_exif(b"Exif\0\0" + block, 20, 30)
        assert len(found) == len(block) + 6
        changed = {
            index for index, pair in enumerate(zip(found[6:], block, strict=True)) if pair[0] != pair[1]
        }
        value = 18 if endian == "<" else 19
        pointer = 34 if endian == "<" else 37
        width = 74 if endian == "<" else 75
        assert changed == {value, pointer, width}
        exif = Image.Exif()
        exif.load(found)
        assert exif[ORIENTATION] == 1
        assert exif.get_ifd(EXIF)[0xA002] == 20
        assert exif.get_ifd(0x1) == {}


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"XX*\0\x08\0\0\0", b"II*\0\xff\xff\0\0", b"II*\0\x08\0\0\0\x05\0"]
)
def test_broken_exif_is_named(block: bytes) -> None:
    with pytest.raises(ValueError, match=r"^EXIF cannot be followed \("):
        upright_exif(block, 1, 1)


def test_damaged_exif_is_a_note(tmp_path: Path) -> None:
    Image.fromarray(_smooth()).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0rubbish")
    picture, notes = _copied(tmp_path / "a.jpg")
    assert (picture.notes, notes) == (("EXIF is damaged and was dropped",), ())


def test_imagemagicks_exif_in_a_png_text(tmp_path: Path) -> None:
    block = _exif(6).tobytes()
    texts = PngInfo()
    texts.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n")
    Image.fromarray(_smooth()).save(tmp_path / "a.png", pnginfo=texts)
    _copied(tmp_path / "a.png")
    with Image.open(tmp_path / "out.png") as after:
        assert after.size == (20, 30)
        assert after.getexif()[MAKER] == "camera"
        assert after.getexif().get(ORIENTATION, 1) == 1
        assert "Raw profile type exif" not in after.info


@pytest.mark.parametrize("wide", [False, True])
def test_png_texts_and_colour_chunks(wide: bool, tmp_path: Path) -> None:
    import cv2

    pixels = _random((5, 6, 3), np.uint16 if wide else np.uint8)
    cv2.imwrite(str(tmp_path / "plain.png"), pixels)
    info = PngInfo()
    info.add_text("Title", "a title")
    info.add_text("Long", "x" * 3000, zip=True)
    info.add_itxt("Author", "Zoë", "de", "Autor")
    info.add_itxt("XML:com.adobe.xmp", (XMP % 1).decode())
    info.add(b"gAMA", struct.pack(">I", 100000))
    info.add(b"cHRM", struct.pack(">8I", *range(8)))
    small = io.BytesIO()
    Image.new("RGB", (1, 1)).save(small, "png", pnginfo=info, dpi=(300, 150))
    from sharpkd.inference import png

    if wide:
        (tmp_path / "a.png").write_bytes(png.with_wide_pixels(small.getvalue(), pixels[..., ::-1]))
    else:
        Image.fromarray(pixels[..., ::-1]).save(tmp_path / "a.png", pnginfo=info, dpi=(300, 150))
    picture, notes = _copied(tmp_path / "a.png")
    assert (picture.notes, notes) == ((), ())
    with Image.open(tmp_path / "out.png") as after:
        after.load()
        texts = after.text  # type: ignore[attr-defined]  # only PNG images have it
        assert (texts["Title"], texts["Long"]) == ("a title", "x" * 3000)
        author = texts["Author"]
        assert (author, author.lang, author.tkey) == ("Zoë", "de", "Autor")
        assert after.info["xmp"] == XMP % 1
        assert after.info["gamma"] == 1.0
        assert tuple(round(side) for side in after.info["dpi"]) == (300, 150)
    with (tmp_path / "out.png").open("rb") as file:
        assert png.colour_chunks(file)[b"cHRM"] == struct.pack(">8I", *range(8))
    assert write_image(tmp_path / "b.jpg", read_image(tmp_path / "a.png"))[-1:] == (
        "JPEG cannot hold PNG texts, the PNG's gamma or primaries",
    )


def test_resolution_is_kept_and_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for suffix in (".jpg", ".png", ".tif", ".bmp"):
        options: dict[str, Any] = {} if suffix == ".bmp" else {"exif": exif}
        Image.fromarray(_smooth()).save(tmp_path / f"a{suffix}", dpi=(300, 200), **options)
        _copied(tmp_path / f"a{suffix}")
        with Image.open(tmp_path / f"out{suffix}") as after:
            wanted = (300, 200) if suffix == ".bmp" else (200, 300)
            assert tuple(round(float(side)) for side in after.info["dpi"]) == wanted, suffix


def test_tags_of_a_tiff_stay(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        _random((5, 6, 3), np.uint16),
        photometric="rgb",
        description="höhe".encode(),
        software="a scanner",
        resolution=(118.11, 118.11),
        resolutionunit=3,
        metadata=None,
        extratags=[
            (33550, 12, 3, (0.5, 0.5, 0.0), True),  # a GeoTIFF's pixel scale
            (33723, 7, 6, b"\x1c\x02\x05\x00\x01x", True),  # IPTC
            (34675, 7, len(SRGB), SRGB, True),
            (700, 1, len(XMP % 1), XMP % 1, True),
            (65000, 2, 4, b"own\0", True),
        ],
    )
    picture, notes = _copied(tmp_path / "a.tif")
    assert (picture.notes, notes) == ((), ())
    assert picture.metadata["dpi"] == pytest.approx((300, 300), abs=0.01)
    with tifffile.TiffFile(tmp_path / "a.tif") as before, tifffile.TiffFile(tmp_path / "out.tif") as after:
        tags = [{tag.code: tag.value for tag in file.pages[0].tags.values()} for file in (before, after)]  # type: ignore[union-attr]  # a page, not a frame
    for code in (270, 305, 282, 283, 296, 33550, 33723, 34675, 700, 65000):
        assert tags[1][code] == tags[0][code], code


def test_what_goes_from_jpeg_to_tiff_and_back(tmp_path: Path) -> None:
    Image.fromarray(_smooth()).save(
        tmp_path / "a.jpg", exif=_exif(6), icc_profile=SRGB, xmp=XMP % 6, comment=b"hello", dpi=(240, 240)
    )
    notes = write_image(tmp_path / "b.tif", read_image(tmp_path / "a.jpg"))
    assert notes == ("TIFF cannot hold the comment",)
    assert write_image(tmp_path / "c.jpg", read_image(tmp_path / "b.tif")) == ()
    for name in ("b.tif", "c.jpg"):
        with Image.open(tmp_path / name) as after:
            assert after.getexif()[MAKER] == "camera"
            assert after.getexif().get_ifd(EXIF)[0x9003] == "2020:02:02 02:02:02"
            assert after.getexif().get_ifd(GPS)[1] == "N"
            assert after.info["icc_profile"] == SRGB
            assert after.info["xmp"] == XMP % 1
            assert round(float(after.info["dpi"][0])) == 240


def test_comment_and_iptc_of_a_jpeg(tmp_path: Path) -> None:
    application_13 = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x06\x1c\x02\x05\x00\x01x"
    extra = b"\xff\xed" + struct.pack(">H", len(application_13) + 2) + application_13
    Image.fromarray(_smooth()).save(tmp_path / "a.jpg", comment=b"hello", extra=extra)
    assert _copied(tmp_path / "a.jpg")[1] == ()
    with Image.open(tmp_path / "out.jpg") as after:
        assert after.info["comment"] == b"hello"
        assert dict(after.applist)["APP13"] == application_13  # type: ignore[attr-defined]  # only JPEG images have it


def test_metadata_that_does_not_fit_is_a_note(tmp_path: Path) -> None:
    picture = Picture(_random((5, 6, 3)), metadata={"xmp": b"x" * 70000, "exif": b"Exif\0\0" + bytes(70000)})
    assert write_picture(tmp_path / "a.jpg", picture) == (
        "XMP could not be kept (JPEG)",
        "EXIF could not be kept (JPEG)",
    )
    assert read_picture(tmp_path / "a.jpg").metadata.keys() <= {"dpi"}
    assert write_picture(tmp_path / "a.tif", picture) == ("EXIF is damaged and was dropped",)


def test_notes_say_what_a_format_cannot_hold(tmp_path: Path) -> None:
    grey = np.repeat(_random((5, 6, 1), np.uint16), 3, axis=2)
    wide = Picture(grey, grey=True, metadata={"icc_profile": SRGB})
    assert write_picture(tmp_path / "a.jpg", wide) == ("16 bits per channel were reduced to 8 (JPEG)",)
    with Image.open(tmp_path / "a.jpg") as image:
        assert (image.mode, image.info["icc_profile"]) == ("L", SRGB)
    clear = Picture(
        _random((5, 6, 3)), alpha=_random((5, 6)), metadata={"icc_profile": SRGB, "dpi": (72, 72)}
    )
    assert write_picture(tmp_path / "b.bmp", clear) == (
        "BMP cannot hold transparency: alpha was dropped",
        "BMP cannot hold the colour profile",
    )
    assert write_picture(tmp_path / "b.webp", clear) == ("WEBP cannot hold the resolution",)


def test_cmyk_becomes_rgb_without_its_profile(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(
        tmp_path / "a.jpg", icc_profile=b"no profile", quality=100
    )
    picture = read_picture(tmp_path / "a.jpg")
    assert np.abs(picture.pixels.astype(int) - [255, 0, 0]).max() <= 2
    assert picture.notes == ("CMYK was converted to RGB",)
    assert "icc_profile" not in picture.metadata
    # An sRGB profile does not fit CMYK pixels: conversion falls back to Pillow's own.
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.tif", icc_profile=SRGB)
    assert (read_picture(tmp_path / "a.tif").pixels == [0, 255, 255]).all()


def test_float_pixels_become_16_bit(tmp_path: Path) -> None:
    values = np.array([[0, 0.25, 1]], np.float32)
    for compression in (None, "zlib"):
        tifffile.imwrite(tmp_path / "a.tif", values, compression=compression, byteorder=">")
        picture = read_picture(tmp_path / "a.tif")
        np.testing.assert_array_equal(picture.pixels[..., 1], [[0, 16384, 65535]])
        assert picture.notes == ("float pixels were rounded to 16 bits",)
    tifffile.imwrite(
        tmp_path / "b.tif", np.stack((values, values / 2, values / 4), axis=2), photometric="rgb"
    )
    np.testing.assert_array_equal(read_picture(tmp_path / "b.tif").pixels[0, 2], [65535, 32768, 16384])


def test_transparent_palette_keeps_its_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(_random((9, 14, 3))).quantize(8)
    image.save(tmp_path / "a.png", transparency=3)
    picture = read_picture(tmp_path / "a.png")
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha == 0, np.asarray(image) == 3)
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))


def _tables(path: Path) -> dict[int, list[int]]:
    with Image.open(path) as image:
        tables: dict[int, list[int]] = image.quantization  # type: ignore[attr-defined]  # only JPEG images have it
        return tables


def test_jpeg_is_packed_no_coarser_than_it_was_nor_than_quality_95(tmp_path: Path) -> None:
    image = Image.fromarray(_random((16, 16, 3)))
    image.save(tmp_path / "95.jpg", quality=95)
    usual = _tables(tmp_path / "95.jpg")
    for quality in (60, 95, 96, 100):
        image.save(tmp_path / "a.jpg", quality=quality, subsampling=2, progressive=quality > 95)
        _copied(tmp_path / "a.jpg")
        before, after = _tables(tmp_path / "a.jpg"), _tables(tmp_path / "out.jpg")
        for key in (0, 1):
            assert after[key] == [min(pair) for pair in zip(before[key], usual[key], strict=True)]
        with Image.open(tmp_path / "out.jpg") as written:
            assert bool(written.info.get("progressive")) == (quality > 95)
            assert [component[1:3] for component in written.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]  # only JPEG images have it
    assert after == before


def test_a_quality_that_is_asked_for(tmp_path: Path) -> None:
    image = Image.fromarray(_random((16, 16, 3)))
    image.save(tmp_path / "a.jpg", quality=100, subsampling=1)
    write_image(tmp_path / "b.jpg", read_image(tmp_path / "a.jpg"), quality=70)
    image.save(tmp_path / "70.jpg", quality=70)
    assert _tables(tmp_path / "b.jpg") == _tables(tmp_path / "70.jpg")
    with Image.open(tmp_path / "b.jpg") as written:
        assert written.layer[0][1:3] == (2, 1)  # type: ignore[attr-defined]  # only JPEG images have it
    sizes = []
    for quality in (20, 90):
        write_image(tmp_path / "c.webp", read_image(tmp_path / "a.jpg"), quality=quality)
        sizes.append((tmp_path / "c.webp").stat().st_size)
    assert sizes[0] < sizes[1]


def test_grey_jpeg_stays_grey(tmp_path: Path) -> None:
    Image.fromarray(_random((16, 16))).save(tmp_path / "a.jpg", quality=97)
    assert _copied(tmp_path / "a.jpg")[1] == ()
    with Image.open(tmp_path / "out.jpg") as written:
        assert written.mode == "L"
    assert list(_tables(tmp_path / "out.jpg")) == [0]


def test_avif_keeps_its_chroma(tmp_path: Path) -> None:
    """The av1C box tells of subsampling: bits 3 and 2 of its third byte (AV1-ISOBMFF 2.3.3)."""
    Image.fromarray(_smooth()).save(tmp_path / "a.avif", subsampling="4:4:4")
    _copied(tmp_path / "a.avif")
    write_image(tmp_path / "b.avif", read_image(tmp_path / "a.avif"), quality=60)
    for name, subsampled in (("out.avif", 0), ("b.avif", 0x0C)):
        data = (tmp_path / name).read_bytes()
        assert data[data.index(b"av1C") + 6] & 0x0C == subsampled


@pytest.mark.parametrize(
    ("bits", "notes"), [(8, ()), (10, ("more than 8 bits per channel were reduced to 8",))]
)
def test_deep_avif_is_a_note(bits: int, notes: tuple[str, ...], tmp_path: Path) -> None:
    # Pillow writes 8 bits alone: the flag of the av1C box is what says so (AV1-ISOBMFF 2.3.3).
    Image.fromarray(_smooth()).save(tmp_path / "a.avif")
    data = bytearray((tmp_path / "a.avif").read_bytes())
    at = data.index(b"av1C") + 6
    assert not data[at] & 0x40
    data[at] |= 0x40 if bits > 8 else 0
    from sharpkd.inference.image_reader import _deep_avif

    class Named:
        format = "AVIF"

    assert _deep_avif(Named(), io.BytesIO(data)) == bool(notes)  # type: ignore[arg-type]  # only its format is asked for
