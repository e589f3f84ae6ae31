"""What belongs to a picture beside its pixels: read by one format's rules, written by another's."""

from __future__ import annotations

import io
import re
import struct
from typing import Any, BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sharpkd.inference import png, tiff
from sharpkd.inference.exif import PREFIX, upright_exif

NAMES = {
    "icc_profile": "the colour profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "dpi": "the resolution",
    "text": "PNG texts",
    "png_chunks": "the PNG's gamma or primaries",
    "comment": "the comment",
    "iptc": "IPTC",
    "tiff_tags": "TIFF tags",
}
HOLDS = {
    "PNG": {"icc_profile", "exif", "xmp", "dpi", "text", "png_chunks"},
    "JPEG": {"icc_profile", "exif", "xmp", "dpi", "comment", "iptc"},
    "TIFF": {"icc_profile", "exif", "xmp", "dpi", "tiff_tags"},
    "WEBP": {"icc_profile", "exif", "xmp"},
    "AVIF": {"icc_profile", "exif", "xmp"},
    "GIF": {"comment"},
    "BMP": {"dpi"},
}
XMP_TEXT = "XML:com.adobe.xmp"
# ImageMagick's way to put EXIF into PNG; it is written as the chunk that PNG has for it.
EXIF_TEXTS = ("Raw profile type exif", "Raw profile type APP1")
# What Pillow takes for an orientation, an attribute or an element, closed or not.
XMP_ORIENTATION = rb'(tiff:Orientation(?:="|>))[0-9]'
# A gamma of 1 / 2.2, which every program assumes anyway.
USUAL_GAMMA = struct.pack(">I", 45455)


def metadata_of(
    image: Image.Image, stream: BinaryIO, size: tuple[int, int]
) -> tuple[dict[str, Any], list[str]]:
    """What a loaded image, of any format but TIFF, carries; ``size`` is the upright one.

    Returns:
        Values by the keys of `NAMES`, and what cannot be kept, one sentence each.
    """
    notes: list[str] = []
    info = image.info
    found: dict[str, Any] = {key: info[key] for key in ("icc_profile", "xmp", "comment") if info.get(key)}
    dpi = info.get("dpi")
    if dpi and all(0 < float(side) < 1e6 for side in dpi):
        turned = orientation_of(image) >= 5
        found["dpi"] = tuple(float(side) for side in (reversed(dpi) if turned else dpi))
    try:
        exif = _exif_of(image, size)
    except (ValueError, KeyError, TypeError, SyntaxError, OSError, struct.error):
        exif, notes = b"", ["EXIF is damaged and was dropped"]
    if exif:
        found["exif"] = exif
    if "xmp" in found:
        found["xmp"] = upright_xmp(found["xmp"])
    if image.format == "PNG":
        texts = _texts_of(image)
        chunks = png.colour_chunks(stream)
        found |= {key: value for key, value in (("text", texts), ("png_chunks", chunks)) if value}
    application_13 = [data for name, data in getattr(image, "applist", ()) if name == "APP13"]
    if application_13:
        found["iptc"] = application_13
    return found, notes


def orientation_of(image: Image.Image) -> int:
    """1 to 8; 1 where nothing sensible stands."""
    try:
        value = image.getexif().get(0x0112, 1)
    except (ValueError, KeyError, TypeError, SyntaxError, OSError, struct.error):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright_xmp(xmp: bytes | str) -> bytes:
    """XMP whose orientation, where it has one, is 1."""
    packet = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    return re.sub(XMP_ORIENTATION, rb"\g<1>1", packet)


def _exif_of(image: Image.Image, size: tuple[int, int]) -> bytes:
    raw = image.info.get("exif")
    if not raw:
        parsed = image.getexif()  # of a PNG text
        raw = parsed.tobytes() if len(parsed) else b""
    return upright_exif(raw, *size) if raw else b""


def _texts_of(image: Image.Image) -> list[tuple[str, str]]:
    texts = getattr(image, "text", {})
    return [(key, text) for key, text in texts.items() if key != XMP_TEXT and key not in EXIF_TEXTS]


def metadata_of_tiff(
    stream: BinaryIO, page: ImageFileDirectory_v2, size: tuple[int, int], turned: bool
) -> tuple[dict[str, Any], list[str]]:
    """The same of one page of a TIFF; ``turned``: its axes were exchanged to make it upright."""
    found: dict[str, Any] = {}
    notes: list[str] = []
    block = ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
    tags: dict[int, tuple[int, Any]] = {}
    for tag in page:
        try:
            value = page[tag]
        except (struct.error, ValueError, TypeError, KeyError):
            notes.append(f"TIFF tag {tag} is damaged and was dropped")
            continue
        if tag in tiff.STRUCTURE:
            continue
        if isinstance(value, str):
            value = value.encode("latin-1")
        if turned and tag in (tiff.X_RESOLUTION, tiff.Y_RESOLUTION):
            tag = tiff.X_RESOLUTION + tiff.Y_RESOLUTION - tag
        if tag in tiff.IN_EXIF:
            block.tagtype[tag] = page.tagtype.get(tag, tiff.UNDEFINED)
            block[tag] = value
        else:
            tags[tag] = (page.tagtype[tag], value)
    for tag in (tiff.EXIF_FOLDER, tiff.GPS_FOLDER):
        folder = tiff.folder_in(stream, page, tag)
        if folder:
            block[tag] = folder
    try:
        if len(block):
            found["exif"] = upright_exif(PREFIX + b"II*\0\x08\0\0\0" + block.tobytes(8), *size)
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        notes.append("EXIF is damaged and was dropped")
    if tags:
        found["tiff_tags"] = tags
    for name, tag in (("icc_profile", tiff.ICC_PROFILE), ("xmp", tiff.XMP)):
        if tag in page:
            value = page[tag]
            found[name] = value if isinstance(value, bytes) else bytes(value)
    if "xmp" in found:
        found["xmp"] = upright_xmp(found["xmp"])
    sides = [float(block[tag]) for tag in (tiff.X_RESOLUTION, tiff.Y_RESOLUTION) if tag in block]
    unit = {2: 1.0, 3: 2.54}.get(page.get(tiff.RESOLUTION_UNIT, 2))
    if len(sides) == 2 and unit and all(0 < side < 1e6 for side in sides):
        found["dpi"] = tuple(side * unit for side in sides)
    return found, notes


def tags_for_tiff(metadata: dict[str, Any]) -> dict[int, tuple[int, Any]]:
    """Tags of a TIFF for what is not in its EXIF block."""
    tags: dict[int, tuple[int, Any]] = {}
    exif = metadata.get("exif", b"")
    known = set(tiff.directories(io.BytesIO(exif.removeprefix(PREFIX)))[0]) if exif else set()
    if "dpi" in metadata and not {tiff.X_RESOLUTION, tiff.Y_RESOLUTION} <= known:
        across, down = metadata["dpi"]
        tags |= {
            tiff.X_RESOLUTION: (5, across),
            tiff.Y_RESOLUTION: (5, down),
            tiff.RESOLUTION_UNIT: (tiff.SHORT, 2),
        }
    if "icc_profile" in metadata:
        tags[tiff.ICC_PROFILE] = (tiff.UNDEFINED, metadata["icc_profile"])
    if "xmp" in metadata:
        tags[tiff.XMP] = (tiff.BYTE, metadata["xmp"])
    return tags | metadata.get("tiff_tags", {})


def options_for(kind: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """Arguments of Pillow's ``save`` for ``kind`` (not TIFF), for as much of the metadata as it holds."""
    kept = {key: value for key, value in metadata.items() if key in HOLDS[kind]}
    options: dict[str, Any] = {
        key: kept[key] for key in ("icc_profile", "exif", "dpi", "comment") if key in kept
    }
    if kind == "PNG":
        texts = PngInfo()
        for name, data in kept.get("png_chunks", {}).items():
            texts.add(name, data)
        for key, text in kept.get("text", []):
            _add_text(texts, key, text)
        if "xmp" in kept:
            texts.add_itxt(XMP_TEXT, kept["xmp"].decode("utf-8", "replace"))
        options["pnginfo"] = texts
    elif "xmp" in kept:
        options["xmp"] = kept["xmp"]
    if "iptc" in kept:
        options["extra"] = b"".join(
            b"\xff\xed" + struct.pack(">H", 2 + len(data)) + data for data in kept["iptc"]
        )
    return options


def _add_text(texts: PngInfo, key: str, text: str) -> None:
    language = getattr(text, "lang", None)
    if language is None:
        texts.add_text(key, text, zip=len(text) > 1024)
    else:
        texts.add_itxt(key, text, language, getattr(text, "tkey", "") or "", zip=len(text) > 1024)


def lost_in(kind: str, metadata: dict[str, Any]) -> list[str]:
    """One sentence on what a file of ``kind`` cannot hold, or none."""
    lost = [name for key, name in NAMES.items() if key in metadata and key not in HOLDS[kind]]
    if "dpi" in metadata and "exif" in metadata and "exif" in HOLDS[kind] and NAMES["dpi"] in lost:
        lost.remove(NAMES["dpi"])
    if NAMES["png_chunks"] in lost and _says_nothing(metadata):
        lost.remove(NAMES["png_chunks"])
    return [f"{kind} cannot hold {', '.join(lost)}"] if lost else []


def _says_nothing(metadata: dict[str, Any]) -> bool:
    """Whether the colours are those that are assumed without the PNG's chunks."""
    chunks = metadata["png_chunks"]
    if b"cICP" in chunks:
        return False
    return "icc_profile" in metadata or b"sRGB" in chunks or chunks.get(b"gAMA", USUAL_GAMMA) == USUAL_GAMMA
