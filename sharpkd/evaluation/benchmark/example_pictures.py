"""Examples as a page shows them: whole images to slide over, and the worst place of each without loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from sharpkd.evaluation.benchmark.summary import SHARP as UNTOUCHED
from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.pages.page import data_uri
from sharpkd.evaluation.pages.pictures import Pixels, most_changed_window
from sharpkd.evaluation.rows import INPUT, Row

STEPS = ((768, 80), (640, 70), (512, 60))
"""Longest side and WebP quality of whole images: the first that fits is taken."""
CROP = 96
SHARP = "sharp image"

Picture = dict[str, Any]


def show_examples(
    examples: Sequence[Example], rows: Sequence[Row], suspects: Sequence[str], budget: int
) -> list[Picture]:
    """The leading examples that fit, ready for JSON.

    Args:
        examples: the most important one first.
        rows: PSNR and gain are taken from them where they tell of the example's image and condition.
        suspects: whose failure is shown: of these models, the one furthest from the sharp image decides which
            place is enlarged. Without any of them it is the input.
        budget: bytes for all pictures.

    Returns:
        For each: ``image``, ``condition``, ``width``, ``height``, ``worst`` (a model), ``window`` (left, top
        and side of the enlarged place, in the image's pixels) and ``outputs``: ``name``, ``psnr``, ``gain``
        (dB or None), ``whole`` (lossy) and ``crop`` (lossless), the sharp image first, then the input.
    """
    shown: list[Picture] = []
    for side, quality in STEPS:
        shown = [_picture(example, rows, suspects, side, quality) for example in examples]
        if sum(map(_size, shown)) <= budget:
            return shown
    while shown and sum(map(_size, shown)) > budget:
        shown.pop()
    return shown


def _size(picture: Picture) -> int:
    return sum(len(output["whole"]) + len(output["crop"]) + 200 for output in picture["outputs"]) + 400


def _picture(
    example: Example, rows: Sequence[Row], suspects: Sequence[str], side: int, quality: int
) -> Picture:
    sharp = example.sharp
    names = sorted(example.outputs, key=lambda name: (name != INPUT, name not in suspects))
    accused = [name for name in names if name in suspects and name != INPUT] or names
    worst = max(accused, key=lambda name: _squared_error(example.outputs[name], sharp), default=SHARP)
    window = most_changed_window(sharp, example.outputs.get(worst, sharp), CROP)
    psnr = _psnr(example, rows)
    before = psnr.get(INPUT)
    if example.condition == UNTOUCHED:
        # nothing can be gained over the truth, and its own PSNR is no number
        psnr, before = {name: value for name, value in psnr.items() if name != INPUT}, None
    outputs = []
    for name, pixels in {SHARP: sharp, **{name: example.outputs[name] for name in names}}.items():
        value = psnr.get(name)
        outputs.append({
            "name": name,
            "psnr": value,
            "gain": value - before if name != INPUT and value is not None and before is not None else None,
            "whole": data_uri(_reduced(pixels, side), quality),
            "crop": data_uri(window.cut(pixels)),
        })  # fmt: skip
    return {
        "image": example.image,
        "condition": example.condition,
        "width": sharp.shape[1],
        "height": sharp.shape[0],
        "worst": worst,
        "window": [window.left, window.top, window.size],
        "outputs": outputs,
    }


def _psnr(example: Example, rows: Sequence[Row]) -> Mapping[str, float]:
    return {
        row.model: row.psnr
        for row in rows
        if row.condition == example.condition and example.image in (f"{row.set}/{row.image}", row.image)
    }


def _squared_error(output: Pixels, sharp: Pixels) -> float:
    return float(np.square(output.astype(np.float32) - sharp).mean())


def _reduced(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return pixels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
