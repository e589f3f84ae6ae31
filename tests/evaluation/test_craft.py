"""A published net, its weights and the `sr` track together give the number that others measured with it."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from sharpkd.data.images import read_image
from sharpkd.evaluation.benchmark.image_sets import find_images_of
from sharpkd.evaluation.models import specs_of
from sharpkd.evaluation.protocols import conditions, make_pair
from sharpkd.evaluation.scores import score_pair
from sharpkd.functional.torchvision_guard import define_missing_operators

define_missing_operators()

# PSNR on luma, ×4: measured with these weights by another program than this one.
SET5 = 32.40


@pytest.mark.real_data
def test_craft_x4_on_set5(sharpkd_weights: Path, sharpkd_data: Path) -> None:
    (spec,) = specs_of(str(sharpkd_weights / "craft_x4.pth"))
    model = spec.open()
    (condition,) = (one for one in conditions(["sr"]) if one.scale == 4)
    images, missing = find_images_of(sharpkd_data / "eval", ["Set5"])
    assert not missing
    found = []
    for image in images:
        pair = make_pair(condition, read_image(image.path), image.name)
        found.append(score_pair(condition, model.restore(pair, condition), pair.sharp)["psnr"] or 0.0)
    assert fmean(found) == pytest.approx(SET5, abs=0.03)
