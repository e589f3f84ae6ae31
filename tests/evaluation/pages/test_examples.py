"""An example keeps outputs that can be laid on the sharp image."""

from __future__ import annotations

import numpy as np
import pytest

from sharpkd.evaluation.pages.examples import Example

SHARP = np.zeros((4, 6, 3), np.uint8)


def test_an_example_holds_what_it_is_given() -> None:
    example = Example("Set5/baby", "gaussian/1.6", SHARP, {"input": SHARP + 1})
    assert (example.image, example.condition) == ("Set5/baby", "gaussian/1.6")
    assert example.outputs["input"].max() == 1


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (np.zeros((6, 4, 3), np.uint8), r"uint8 of shape \(6, 4, 3\)"),
        (np.zeros((4, 6), np.uint8), r"uint8 of shape \(4, 6\)"),
        (np.zeros((4, 6, 3), np.float32), r"float32 of shape \(4, 6, 3\)"),
    ],
)
def test_an_output_of_another_shape_or_type_is_refused(output: np.ndarray, found: str) -> None:
    message = rf"^baby, sharp: student is {found}; expected uint8 of shape \(4, 6, 3\)$"
    with pytest.raises(ValueError, match=message):
        Example("baby", "sharp", SHARP, {"student": output})


def test_the_sharp_image_is_checked_too() -> None:
    with pytest.raises(ValueError, match="baby, sharp: the sharp image is float64"):
        Example("baby", "sharp", np.zeros((4, 6, 3)), {})  # type: ignore[arg-type]  # floats are what it refuses
