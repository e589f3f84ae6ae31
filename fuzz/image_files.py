"""Files that want to crash the reader: image files and their metadata, mutated with coverage as the guide.

``python fuzz/image_files.py --seconds 3600`` (``make fuzz``) runs `Atheris
<https://github.com/google/atheris>`_, libFuzzer for Python, on what `sharpkd.inference` reads and writes. It
begins with small files of every format, goes on after each crash, and keeps one input of each kind of crash.
``python fuzz/image_files.py FILE ...`` tells what single files do.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

PIXELS = 1 << 18
"""Larger pictures are refused, so that a second is enough for hundreds of files."""
LONGEST = 8192
"""Bytes of one input."""
SLOW = 20
"""Seconds after which an input counts as a hang."""
MEMORY = 2048
"""MiB after which it counts as a bomb."""
PNG = b"\x89PNG\r\n\x1a\n"
EXIF = b"Exif\0\0"
LOSSLESS = ("PNG", "TIFF")
CHILD = "SHARPKD_FUZZ_CHILD"


def check(data: bytes) -> None:
    """Hold the promises of the reader and the writer on one file; whatever else is raised is a crash.

    An EXIF block by itself (it begins with its six bytes) is turned upright; all else is read as an image,
    written in every format, and read back: losslessly where the format is.

    Raises:
        AssertionError: a picture of another kind than promised, or one that changed on its way.
    """
    from sharpkd.inference.exif import upright_exif
    from sharpkd.inference.image_io import ImageFileError, encoded, read_image

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if data.startswith(EXIF):
            try:
                assert len(upright_exif(data, 3, 2)) == len(data)
            except ValueError:
                return
            return
        try:
            file = read_image(Path("a.png"), io.BytesIO(data))
        except ImageFileError as error:
            _hold_to_one_line(error)
            return
        for picture in file.pictures:
            height, width = picture.pixels.shape[:2]
            assert picture.pixels.shape == (height, width, 3), picture.pixels.shape
            assert min(height, width) >= 1, picture.pixels.shape
            assert picture.pixels.dtype in ("uint8", "uint16"), picture.pixels.dtype
            assert picture.alpha is None or picture.alpha.shape == (height, width)
            assert picture.alpha is None or picture.alpha.dtype == picture.pixels.dtype
        for kind in ("PNG", "TIFF", "JPEG", "WEBP", "GIF", "BMP"):
            try:
                written, _ = encoded(Path("b"), file, kind)
            except ImageFileError as error:
                _hold_to_one_line(error)
                continue
            again = read_image(Path("b"), io.BytesIO(written))
            assert len(again.pictures) >= 1
            if kind in LOSSLESS and len(file.pictures) == len(again.pictures) == 1:
                assert (again.pictures[0].pixels == file.pictures[0].pixels).all(), f"{kind} is not lossless"


def _hold_to_one_line(error: Exception) -> None:
    assert "\n" not in str(error), str(error)


def with_right_checksums(data: bytes) -> bytes:
    """A PNG whose chunks are believed: their lengths fit the file and their CRC-32 is right."""
    if not data.startswith(PNG):
        return data
    parts, at = [PNG], len(PNG)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + min(length, len(data))]
        parts.append(struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(name + body)))
        at += 12 + len(body)
    return b"".join(parts)


def seeds() -> dict[str, bytes]:
    """A small file of each format, depth and kind of metadata that is read, by its name."""
    import numpy as np
    from PIL import Image, ImageCms
    from PIL.PngImagePlugin import PngInfo

    from sharpkd.inference.image_io import ImageFile, Picture, encoded

    generator = np.random.default_rng(0)
    small = generator.integers(0, 4, (5, 7, 3), np.uint8) * 80
    grey, alpha = small[..., 0].copy(), small[..., 1].copy()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    exif.get_ifd(0x8769)[0xA002] = 7
    exif.get_ifd(0x8825)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    texts = PngInfo()
    texts.add_text("Title", "a" * 20)
    texts.add_itxt("Author", "é", "en", "who", zip=True)
    texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
    texts.add(b"gAMA", struct.pack(">I", 45455))
    rgb, palette = Image.fromarray(small), Image.fromarray(small).quantize(8)
    rgba = Image.fromarray(np.dstack([small, alpha]))
    frames = {"save_all": True, "append_images": [palette.rotate(180)], "duration": 40, "loop": 0}
    with_exif: dict[str, object] = {"exif": exif.tobytes()}
    images: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "rgb.png": (rgb, "PNG", {"pnginfo": texts, "dpi": (72, 72), **with_exif}),
        "profile.png": (rgb, "PNG", {"icc_profile": profile}),
        "palette.png": (palette, "PNG", {"transparency": 3}),
        "moving.png": (rgba, "PNG", {**frames, "append_images": [rgba.rotate(180)]}),
        "rgb.jpg": (rgb, "JPEG", {"comment": b"hello", "dpi": (72, 72), **with_exif}),
        "cmyk.jpg": (rgb.convert("CMYK"), "JPEG", {"progressive": True}),
        "xmp.jpg": (rgb, "JPEG", {"xmp": xmp}),
        "several.jpg": (rgb, "MPO", {"save_all": True, "append_images": [rgb]}),
        "rgb.webp": (rgb, "WEBP", {"xmp": xmp, **with_exif}),
        "lossless.webp": (rgba, "WEBP", {"lossless": True}),
        "moving.webp": (rgb, "WEBP", {"save_all": True, "append_images": [rgb.rotate(180)]}),
        "moving.gif": (palette, "GIF", {**frames, "comment": b"hello", "transparency": 2}),
        "rgb.bmp": (rgb, "BMP", {}),
        "palette.bmp": (palette, "BMP", {}),
        "rgb.tif": (rgb, "TIFF", with_exif),
        "packed.tif": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "pages.tif": (rgb, "TIFF", {"save_all": True, "append_images": [rgb.convert("L")]}),
        "cmyk.tif": (rgb.convert("CMYK"), "TIFF", {"icc_profile": profile}),
        "lab.tif": (rgb.convert("RGB").convert("YCbCr"), "TIFF", {}),
        "float.tif": (Image.fromarray(grey.astype(np.float32) / 255), "TIFF", {}),
        "bits.tif": (Image.fromarray(grey).convert("1"), "TIFF", {"compression": "group4"}),
        "rgb.avif": (rgb, "AVIF", with_exif),
    }
    found = {}
    for name, (image, kind, options) in images.items():
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        found[name] = stream.getvalue()
    wide = np.multiply(small, 257, dtype=np.uint16)
    for kind in LOSSLESS:
        for name, picture in {
            "wide": Picture(wide),
            "wide_alpha": Picture(wide, wide[..., 0].copy()),
            "wide_grey": Picture(np.repeat(wide[..., :1], 3, 2), wide[..., 1].copy(), grey=True),
        }.items():
            found[f"{name}.{kind.lower()}"] = bytes(encoded(Path(name), ImageFile((picture,), kind), kind)[0])
    found["block.exif"] = exif.tobytes()
    found["block_big_endian.exif"] = EXIF + b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return found


def kind_of_crash(error: BaseException) -> str:
    """A name that crashes of one cause share: the exception, and the innermost lines of this project."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "sharpkd" in Path(frame.filename).parts] or frames
    place = f"{Path(own[-1].filename).stem}-{own[-1].name}-{frames[-1].name}"
    return re.sub(r"[^\w-]", "", f"{type(error).__name__}-{place}")


def _child(folder: Path, options: Sequence[str]) -> None:
    """Libfuzzer's own process; it does not return."""
    import atheris

    with atheris.instrument_imports(include=["sharpkd.inference", "PIL"]):
        import PIL.ExifTags
        import PIL.Image
        import PIL.PngImagePlugin
        import PIL.TiffImagePlugin

        import sharpkd.inference.image_io  # noqa: F401  # imported here to be instrumented
        from sharpkd.inference import picture
    PIL.Image.init()
    picture.MAX_PIXELS = PIXELS

    def one_input(data: bytes) -> None:
        try:
            check(data)
        except Exception as error:
            name = kind_of_crash(error)
            if not (folder / f"{name}.input").exists():
                (folder / f"{name}.input").write_bytes(data)
                (folder / f"{name}.txt").write_text("".join(traceback.format_exception(error)))

    def mutated(data: bytes, longest: int, seed: int) -> bytes:
        changed = atheris.Mutate(data, longest)
        return with_right_checksums(changed)[:longest] if seed % 4 else changed

    atheris.Setup([sys.argv[0], *options], one_input, custom_mutator=mutated)
    atheris.Fuzz()


def fuzz(seconds: int, folder: Path, say: Callable[[str], None] = print) -> list[Path]:
    """Run for so many seconds; the inputs that crashed, which lie in ``folder`` with their tracebacks.

    Raises:
        ImportError: Atheris is not installed.
    """
    import atheris  # noqa: F401  # the child needs it: say so here

    folder.mkdir(parents=True, exist_ok=True)
    end, round_number = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory() as corpus:
        for name, data in seeds().items():
            (Path(corpus) / name).write_bytes(data)
        # a hang, a bomb or a crash in C ends libFuzzer's process: the next one goes on with what it has found
        while (left := round(end - time.monotonic())) > 0:
            round_number += 1
            options = [
                *(f"-max_total_time={left}", f"-max_len={LONGEST}", f"-timeout={SLOW}"),
                *(f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={folder}/", "-print_final_stats=1"),
                *(f"-seed={round_number}", corpus),
            ]
            done = subprocess.run(
                [sys.executable, __file__, "--folder", str(folder), *options],
                env=os.environ | {CHILD: "1"},
                capture_output=True,
                text=True,
                errors="replace",
            )
            lines = done.stderr.splitlines()
            say("\n".join(line for line in lines if line.startswith("stat::number")))
            if done.returncode:
                say("\n".join(lines[-15:]))
                if not any(folder.iterdir()):
                    raise RuntimeError("libFuzzer ended without an input that made it; see above")
    return sorted(path for path in folder.iterdir() if path.suffix != ".txt")


def main() -> int:
    """The command; 1 where anything crashed."""
    if CHILD in os.environ:
        _child(Path(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="tell what these do, and stop")
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--folder", type=Path, default=Path("outputs/fuzz"), help="for inputs that crash")
    given = parser.parse_args()
    for file in given.files:
        data = file.read_bytes()
        print(f"{file} ({hashlib.sha256(data).hexdigest()[:12]})")
        check(data)
    if given.files:
        return 0
    try:
        crashed = fuzz(given.seconds, given.folder)
    except ImportError:
        print("Atheris is not installed here: pip install 'sharpkd[fuzz]' (Linux, x86_64)", file=sys.stderr)
        return 2
    print(f"{len(crashed)} kinds of crash in {given.seconds} s", *crashed, sep="\n")
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
