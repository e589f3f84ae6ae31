"""Which place of an example is enlarged, what is written under it, and how it is kept small."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from sharpkd.evaluation.benchmark import example_pictures
from sharpkd.evaluation.benchmark.example_pictures import show_examples
from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.pages.pictures import Pixels
from sharpkd.evaluation.rows import Row


def decoded(uri: str) -> Pixels:
    data = base64.b64decode(uri.partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def example(name: str = "Set5/baby", height: int = 120, width: int = 200) -> Example:
    """``bad`` is wrong in one corner; ``cas`` is further off, everywhere."""
    sharp = np.random.default_rng(0).integers(40, 200, (height, width, 3), dtype=np.uint8)
    bad = sharp.copy()
    bad[-20:, -20:] += 30
    outputs = {
        "cas": sharp + np.uint8(50),
        "good": sharp + np.uint8(1),
        "bad": bad,
        "input": sharp - np.uint8(9),
    }
    return Example(name, "gaussian/1.6", sharp, outputs)


def row(model: str, psnr: float, condition: str = "gaussian/1.6") -> Row:
    return Row(model, "Set5", "baby", "face", "gaussian", condition, psnr, None, psnr, None)


ROWS = [row("input", 25.0), row("bad", 24.5), row("good", 27.0), row("good", 40.0, "gaussian/0.8")]


def test_the_place_is_where_the_worst_of_the_suspects_fails() -> None:
    (shown,) = show_examples([example()], ROWS, ["good", "bad"], 10**7)
    assert (shown["image"], shown["condition"]) == ("Set5/baby", "gaussian/1.6")
    assert (shown["width"], shown["height"], shown["worst"]) == (200, 120, "bad")
    left, top, side = shown["window"]
    assert side == 96
    # the wrong corner is inside
    assert left + side == 200
    assert top + side == 120
    assert [one["name"] for one in shown["outputs"]] == ["sharp image", "input", "good", "bad", "cas"]
    for one in shown["outputs"]:
        pixels = example().outputs.get(one["name"], example().sharp)
        assert np.array_equal(decoded(one["crop"]), pixels[top : top + side, left : left + side])
        assert decoded(one["whole"]).shape == (120, 200, 3)


def test_numbers_are_those_of_the_rows_and_blank_without_any() -> None:
    (shown,) = show_examples([example()], ROWS, ["bad"], 10**7)
    numbers = {one["name"]: (one["psnr"], one["gain"]) for one in shown["outputs"]}
    assert numbers == {
        "sharp image": (None, None),
        "input": (25.0, None),
        "good": (27.0, 2.0),
        "bad": (24.5, -0.5),
        "cas": (None, None),
    }
    (unknown,) = show_examples([example("Set14/baby")], ROWS, ["bad"], 10**7)
    assert {one["psnr"] for one in unknown["outputs"]} == {None}


def test_without_a_suspect_the_worst_of_all_is_shown() -> None:
    (shown,) = show_examples([example()], ROWS, [], 10**7)
    assert shown["worst"] == "cas"


def test_pictures_shrink_before_examples_are_dropped_from_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_pictures, "STEPS", ((200, 90), (100, 50)))
    both = [example("first"), example("second")]
    large, small = (
        sum(map(example_pictures._size, show_examples(both, ROWS, ["bad"], budget))) for budget in (10**7, 0)
    )
    assert small == 0
    shown = show_examples(both, ROWS, ["bad"], large - 1)
    assert [one["image"] for one in shown] == ["first", "second"]
    assert decoded(shown[0]["outputs"][0]["whole"]).shape == (60, 100, 3)
    half = sum(map(example_pictures._size, shown)) - 1
    assert [one["image"] for one in show_examples(both, ROWS, ["bad"], half)] == ["first"]


def test_of_the_untouched_image_nothing_is_gained() -> None:
    shown = Example("Set5/baby", "sharp", example().sharp, example().outputs)
    rows = [row("input", 100.0, "sharp"), row("bad", 24.5, "sharp")]
    (picture,) = show_examples([shown], rows, ["bad"], 10**7)
    figures = {one["name"]: (one["psnr"], one["gain"]) for one in picture["outputs"]}
    assert figures["bad"] == (24.5, None)
    assert figures["input"] == (None, None)
