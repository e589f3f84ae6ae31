"""What there is to tell about a picture's file before anything is done to it."""

from __future__ import annotations

from sharpkd.inference.automatic import AutoSharpener
from sharpkd.inference.metadata import NAMES
from sharpkd.inference.picture import ImageFile

LEAST_COMPRESSION, LEAST_REDUCTION = 0.1, 0.2
"""Less is not told from none."""


def picture_rows(file: ImageFile, sharpener: AutoSharpener) -> dict[str, str]:
    """Name -> text, in the order to show them: what the file is, what was measured, what would be done.

    Args:
        file: decoded; the first of several pictures is measured.
        sharpener: measures, and would choose.
    """
    first, several = file.pictures[0], len(file.pictures)
    height, width = first.pixels.shape[:2]
    kind = "frames" if file.timing is not None else "pages"
    channels = ("grey" if first.grey else "RGB") + ("" if first.alpha is None else " with alpha")
    chosen = sharpener.chosen_for(file)
    assert chosen.estimate is not None
    rows = {
        "picture": f"{width}x{height}, {channels}, {8 * first.pixels.dtype.itemsize} bits a channel",
        "format": file.kind + ("" if several == 1 else f", {several} {kind}"),
        "metadata": ", ".join(NAMES[key] for key in first.metadata if key in NAMES) or "none",
    }
    found = zip(chosen.estimate.names, chosen.estimate.values, chosen.estimate.uncertainty, strict=True)
    for name, value, spread in found:
        title, text = _measured(name, float(value), float(spread))
        rows[title] = text
    return rows | {"auto": str(chosen.choice)}


def _measured(name: str, value: float, spread: float) -> tuple[str, str]:
    if name == "sigma":
        return "blur", f"sigma {value:.2f} ± {spread:.2f} px"
    if name == "noise":
        return "noise", f"{value:.1f} ± {spread:.1f} of 255 levels"
    if name == "compression":
        return "compression", "none" if value < LEAST_COMPRESSION else f"as JPEG {_quality(value):.0f}"
    return "enlarged", "no" if value < LEAST_REDUCTION else f"{1 + value:.1f} ± {spread:.1f} times"


def _quality(compression: float) -> float:
    """libjpeg's quality for a factor on the standard's tables; see `sharpkd.data.camera.compression_of`."""
    return 50 / compression if compression > 1 else 100 - 50 * compression
