"""What every page is made of: one look, parts put into a template, everything inside one file."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def asset(name: str) -> str:
    """The text of a file of ``sharpkd/evaluation``, such as ``pages/house/house.css``."""
    return files("sharpkd.evaluation").joinpath(*name.split("/")).read_text(encoding="utf-8")


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Put parts into a template, whose places are ``@@name@@``.

    Args:
        template: see :func:`asset`; besides the parts it may name ``house_head`` (what every page's head
            begins with, and the common look) and ``house_js`` (colours and axes for plotly, numbers,
            intervals, sortable tables, sliders).
        parts: HTML, CSS or scripts; nothing inside them is taken for a place to fill.

    Raises:
        ValueError: the template has a place for which there is no part.
    """
    head = asset("pages/house/head.html").replace("@@house_css@@", asset("pages/house/house.css"))
    known = {"house_head": head, "house_js": asset("pages/house/house.js"), **parts}
    pieces = asset(template).split("@@")
    unknown = sorted(set(pieces[1::2]) - set(known))
    if unknown:
        raise ValueError(
            f"{template} has places for {', '.join(unknown)}; given are {', '.join(sorted(known))}"
        )
    return "".join(known[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def script_json(data: Any) -> str:
    """JSON for the inside of ``<script type="application/json">``; NaN and infinities become null."""
    # Inside a script element only "<" could end it early
    return json.dumps(_finite(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def plotly_script() -> str:
    """The source of plotly.js, from the installed plotly package; about 5 MB."""
    return files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")


def data_uri(pixels: NDArray[np.uint8], quality: int | None = None) -> str:
    """An image as an address that holds it.

    Args:
        pixels: ``(H, W, 3)`` uint8 RGB.
        quality: of WebP, 1 to 100; None stores it without loss.
    """
    buffer = io.BytesIO()
    lossless = quality is None
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=lossless, quality=quality or 80, method=3)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def thinned(steps: Sequence[float], values: Sequence[float], points: int) -> dict[str, list[float]]:
    """At most ``points`` of a curve, evenly spread, with its first and last; five digits of each value."""
    last = len(steps) - 1
    everything = range(last + 1)
    kept = everything if last < points else sorted({round(i * last / (points - 1)) for i in range(points)})
    return {"x": [steps[i] for i in kept], "y": [float(f"{values[i]:.5g}") for i in kept]}


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a half."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
    # mkstemp makes files for the owner's eyes only; a report is for whoever may see the folder
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
