"""Files that want to crash the reader: those that once did, and a few seconds of new ones."""

from __future__ import annotations

import importlib.util
import io
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sharpkd.inference.exif import upright_exif
from sharpkd.inference.image_io import ImageFile, ImageFileError, Picture, encoded, read_image
from sharpkd.inference.metadata import metadata_of

CRASHES = sorted((Path(__file__).parent / "crashes").iterdir())
SECONDS = 5


@pytest.fixture(scope="module")
def fuzzer() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "fuzz" / "image_files.py"
    spec = importlib.util.spec_from_file_location("fuzz_image_files", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", CRASHES, ids=lambda path: path.name)
def test_what_once_crashed(path: Path, fuzzer: ModuleType) -> None:
    fuzzer.check(path.read_bytes())


def test_every_kind_of_file_survives_whole_cut_and_with_a_changed_byte(fuzzer: ModuleType) -> None:
    generator = np.random.default_rng(0)
    refused = 0
    for name, data in fuzzer.seeds().items():
        fuzzer.check(data)
        changed = bytearray(data)
        changed[generator.integers(8, len(data))] ^= 1 << generator.integers(8)
        for bad in (data[: len(data) // 2], bytes(changed), fuzzer.with_right_checksums(bytes(changed))):
            fuzzer.check(bad)
        if not name.endswith(".exif"):
            try:
                read_image(Path(name), io.BytesIO(data[:30]))
            except ImageFileError:
                refused += 1
    assert refused > 15


def test_right_checksums(fuzzer: ModuleType) -> None:
    data = fuzzer.seeds()["rgb.png"]
    assert fuzzer.with_right_checksums(data) == data
    wrong = bytearray(data)
    wrong[29] ^= 255
    assert fuzzer.with_right_checksums(bytes(wrong)) == data
    assert fuzzer.with_right_checksums(b"GIF89a") == b"GIF89a"


def test_the_check_sees_what_is_wrong(fuzzer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fuzzer that finds nothing is only worth something if it would have found something."""
    data = fuzzer.seeds()["rgb.png"]

    def broken(*_: object) -> bytes:
        raise LookupError("broken")

    with monkeypatch.context() as patch:
        patch.setattr("sharpkd.inference.metadata.upright_xmp", broken)
        with pytest.raises(LookupError) as caught:
            fuzzer.check(data)
        assert fuzzer.kind_of_crash(caught.value) == "LookupError-metadata-metadata_of-broken"
    monkeypatch.setattr("sharpkd.inference.png._deflated", lambda pixels: zlib.compress(bytes(5 * 43)))
    with pytest.raises(AssertionError, match="PNG is not lossless"):
        fuzzer.check(fuzzer.seeds()["wide.tiff"])


def test_new_files_for_a_few_seconds(fuzzer: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="Atheris has wheels for Linux on x86_64 alone")
    said: list[str] = []
    assert fuzzer.fuzz(SECONDS, tmp_path / "crashes", said.append) == []
    executed = re.search(r"stat::number_of_executed_units: (\d+)", "\n".join(said))
    assert executed is not None
    assert int(executed[1]) > len(fuzzer.seeds())


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    channels=st.sampled_from([1, 2, 3, 4]),
    wide=st.booleans(),
    kind=st.sampled_from(["PNG", "TIFF"]),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=60, deadline=None)
def test_every_size_depth_and_channel_comes_back(
    height: int, width: int, channels: int, wide: bool, kind: str, seed: int
) -> None:
    dtype: Any = np.uint16 if wide else np.uint8
    shape = (height, width, channels)
    samples = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    grey = channels < 3
    colours = np.repeat(samples[..., :1], 3, axis=2) if grey else np.ascontiguousarray(samples[..., :3])
    alpha = np.ascontiguousarray(samples[..., -1]) if channels in (2, 4) else None
    data, notes = encoded(Path("a"), ImageFile((Picture(colours, alpha, grey),), kind), kind)
    assert notes == ()
    (found,) = read_image(Path("a"), io.BytesIO(data)).pictures
    assert found.pixels.dtype == dtype
    assert found.grey == grey
    np.testing.assert_array_equal(found.pixels, colours)
    assert (found.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(found.alpha, alpha)


@given(block=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_exif_is_followed_or_refused(block: bytes) -> None:
    for data in (block, b"Exif\0\0II*\0\x08\0\0\0" + block, b"Exif\0\0MM\0*\0\0\0\x08" + block):
        try:
            upright = upright_exif(data, 3, 2)
        except ValueError as error:
            said = str(error)
        else:
            said = "EXIF cannot be followed ("
            assert len(upright) == len(data) + 6 * (not data.startswith(b"Exif\0\0"))
        assert said.startswith("EXIF cannot be followed (")


def test_postscript_is_not_handed_to_an_interpreter(tmp_path: Path) -> None:
    """Pillow starts Ghostscript for it, whatever the file's suffix."""
    path = tmp_path / "photo.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    with Image.open(path) as image:
        assert image.format == "EPS"
    with pytest.raises(ImageFileError, match="is no PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF image"):
        read_image(path)


def test_a_frame_that_leads_out_of_its_picture() -> None:
    frames = [Image.new("P", (6, 4), index) for index in range(2)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=[Image.linear_gradient("L").resize((6, 4))])
    data = bytearray(stream.getvalue())
    second = data.index(b"\x2c", data.index(b"\x2c") + 10)
    struct.pack_into("<HHHH", data, second + 1, 9000, 9000, 6, 4)
    with pytest.raises(ImageFileError, match="has a frame that is larger than its 6 x 4 pixels"):
        read_image(Path("a.gif"), io.BytesIO(data))


def test_an_offset_that_no_file_reaches() -> None:
    data = b"II+\0\x08\0\0\0" + struct.pack("<Q", 1 << 63)
    with pytest.raises(ImageFileError, match=r"a\.tif: cannot be decoded \("):
        read_image(Path("a.tif"), io.BytesIO(data))


@pytest.mark.parametrize("written", ['tiff:Orientation="6E', "<tiff:Orientation>6", 'tiff:Orientation="6"'])
def test_xmp_turns_no_result_for_a_second_time(written: str) -> None:
    """Pillow takes an orientation out of XMP that is not well formed, too."""
    picture = Picture(np.zeros((3, 5, 3), np.uint8), metadata={"xmp": written.encode()})
    with Image.open(io.BytesIO(_webp(picture))) as image:
        image.load()
        kept, _ = metadata_of(image, io.BytesIO(), image.size)
    turned = read_image(Path("a"), io.BytesIO(_webp(picture))).pictures[0]
    assert turned.pixels.shape == (5, 3, 3)
    assert kept["xmp"] == written.replace("6", "1").encode()
    again, _ = encoded(Path("b"), ImageFile((turned,), "TIFF"), "TIFF")
    assert read_image(Path("b"), io.BytesIO(again)).pictures[0].pixels.shape == (5, 3, 3)


def _webp(picture: Picture) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture.pixels).save(stream, "WEBP", xmp=picture.metadata["xmp"])
    return stream.getvalue()


def test_an_animation_of_no_frames_is_a_picture(fuzzer: ModuleType) -> None:
    data = fuzzer.seeds()["wide.png"]
    body = b"acTL" + struct.pack(">II", 0, 0)
    chunk = struct.pack(">I", 8) + body + struct.pack(">I", zlib.crc32(body))
    (picture,) = read_image(Path("a.png"), io.BytesIO(data[:33] + chunk + data[33:])).pictures
    assert picture.pixels.dtype == np.uint16


def test_the_command_tells_of_single_files(tmp_path: Path, fuzzer: ModuleType) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(fuzzer.seeds()["rgb.png"])
    script = str(Path(fuzzer.__file__ or ""))
    done = subprocess.run([sys.executable, script, str(path)], capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"{re.escape(str(path))} \([0-9a-f]{{12}}\)\n", done.stdout)
