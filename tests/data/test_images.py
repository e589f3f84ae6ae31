"""Every kind of image file is read right, or refused with its reason."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from sharpkd.data import images
from sharpkd.data.images import UnreadableImage, find_images, read_image


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[40:81, 200:253])


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file written by hand (PNG specification 1.2), independent of any library."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.webp", "a.tif", "a.tiff", "a.bmp"])
def test_lossless_formats_come_back_bit_for_bit(name: str, photo: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / name
    Image.fromarray(photo).save(path, lossless=True)  # which only WebP looks at
    read = read_image(path)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, photo)


def test_jpeg_equals_opencvs_decoder_nearly(photo: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(photo).save(path, quality=95, subsampling="4:4:4")
    other = cv2.imread(str(path))
    assert other is not None
    assert np.abs(read_image(path).astype(int) - other[..., ::-1]).max() <= 2


@pytest.mark.parametrize(
    ("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["L", "RGB", "LA", "RGBA"]
)
def test_16_bit_png_is_rounded_not_cut(colour: int, channels: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 7, channels), dtype=np.uint16)
    values[0, :3] = [[0], [65535], [255]]
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "deep.png").write_bytes(png(7, 9, 16, colour, rows))
    shown = values[..., :3] if channels >= 3 else values[..., :1].repeat(3, axis=2)
    expected = np.floor(shown / 257 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_tiff(channels: int, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (9, 7, channels), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "deep.tiff"), values[..., ::-1])
    expected = np.floor(values / 257 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tiff"), np.broadcast_to(expected, (9, 7, 3)))


def test_big_endian_16_bit_grey_tiff(tmp_path: Path) -> None:
    values = np.array([[0, 257, 65535, 30000]], dtype=">u2")
    Image.frombytes("I;16B", (4, 1), values.tobytes()).save(tmp_path / "deep.tif")
    assert read_image(tmp_path / "deep.tif")[0, :, 1].tolist() == [0, 1, 255, 117]


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_is_repeated(mode: str, photo: np.ndarray, tmp_path: Path) -> None:
    grey = Image.fromarray(photo).convert(mode)
    grey.save(tmp_path / "grey.png")
    level = np.asarray(grey.convert("L"))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.dstack([level] * 3))


def test_alpha_is_dropped_and_the_colour_beneath_kept(photo: np.ndarray, tmp_path: Path) -> None:
    alpha = np.arange(photo.shape[0] * photo.shape[1], dtype=np.uint8).reshape(photo.shape[:2])
    Image.fromarray(np.dstack([photo, alpha])).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), photo)


@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128, 255])])
def test_palette(transparency: int | bytes | None, tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    image.putdata([0, 1, 2])
    if transparency is not None:
        image.info["transparency"] = transparency
    image.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").tolist() == [[[255, 0, 0], [0, 255, 0], [10, 20, 30]]]


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (1, 2, 3))])
def test_transparent_colour_key_is_ignored(mode: str, key: int | tuple[int, ...], tmp_path: Path) -> None:
    Image.new(mode, (2, 2), key).save(tmp_path / "key.png", transparency=key)
    expected = [7, 7, 7] if mode == "L" else [1, 2, 3]
    assert read_image(tmp_path / "key.png").tolist() == [[expected] * 2] * 2


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "ink.jpg", quality=100)
    red = read_image(tmp_path / "ink.jpg").astype(int)
    assert np.abs(red - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    # EXIF 2.3: where the stored image's first row and first column belong in the upright one.
    upright = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    store = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: lambda x: np.rot90(x, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(store(upright))).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), upright)


def test_broken_exif_does_not_spoil_the_picture(photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photo)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated(kind: str, share: float, photo: np.ndarray, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, kind)
    path = tmp_path / "cut"
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
    with pytest.raises(UnreadableImage, match=r"(corrupt or truncated|cut short)") as caught:
        read_image(path)
    assert caught.value.path == path


@pytest.mark.parametrize("share", [0.5, 0.97])
def test_truncated_16_bit_png(share: float, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (60, 60, 3), dtype=np.uint16)
    whole = cv2.imencode(".png", values)[1].tobytes()
    (tmp_path / "cut.png").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UnreadableImage, match="corrupt or truncated"):
        read_image(tmp_path / "cut.png")


def test_empty_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(
        UnreadableImage, match=r"cannot read image .*empty\.png: the file is empty \(0 bytes\)"
    ):
        read_image(tmp_path / "empty.png")
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(UnreadableImage, match="not a PNG, JPEG, WebP, TIFF or BMP image"):
        read_image(tmp_path / "text.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(UnreadableImage, match="directory"):
        read_image(tmp_path / "folder.jpg")
    with pytest.raises(FileNotFoundError, match=r"image .*none\.png does not exist"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_samples_are_refused(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "a.tiff")
    with pytest.raises(UnreadableImage, match="32 bits; convert it to 8 or 16 bits"):
        read_image(tmp_path / "a.tiff")


def test_decompression_bombs_are_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb.png").write_bytes(png(60000, 60000, 8, 2, b""))
    with pytest.raises(UnreadableImage, match="more than 178,956,970 pixels"):
        read_image(tmp_path / "bomb.png")
    Image.new("RGB", (10, 11)).save(tmp_path / "small.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    with pytest.raises(UnreadableImage, match="10×11, more than 100 pixels"):
        read_image(tmp_path / "small.png")


def test_the_error_survives_the_way_out_of_a_worker_process(tmp_path: Path) -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage(tmp_path / "a.png", "why")))
    assert (error.path, error.reason, str(error)) == (
        tmp_path / "a.png",
        "why",
        f"cannot read image {tmp_path / 'a.png'}: why",
    )


def test_find_images(tmp_path: Path) -> None:
    for name in ("b/x.PNG", "a/y.jpeg", "z.webp", "notes.txt", ".hidden.png", ".cache/c.png", "b/c/w.TIF"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(str(tmp_path))]
    assert found == ["a/y.jpeg", "b/c/w.TIF", "b/x.PNG", "z.webp"]
    with pytest.raises(FileNotFoundError, match=r"image folder .*none does not exist"):
        find_images(tmp_path / "none")
    with pytest.raises(NotADirectoryError, match=r"z\.webp is a file, expected a folder"):
        find_images(tmp_path / "z.webp")


def test_reading_in_threads_leaves_the_warning_filters_alone(tmp_path: Path) -> None:
    files = [tmp_path / f"{index}.png" for index in range(60)]
    for file in files:
        Image.new("RGB", (60, 40)).save(file)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            assert len(list(pool.map(read_image, files))) == len(files)
    assert list(warnings.filters) == before
