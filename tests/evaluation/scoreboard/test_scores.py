"""When a kept score is measured anew."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from sharpkd.checkpoint import load_net
from sharpkd.data.albumentations_guard import A
from sharpkd.data.degradation import GaussianBlur
from sharpkd.evaluation.scoreboard.scores import Scoring

OWN = """
import albumentations as A

class Darker(A.ImageOnlyTransform):
    def apply(self, img, **params):
        return img // {factor}
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "one.png")
    return folder


def own(folder: Path, factor: int, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A user's module whose transform divides by ``factor``."""
    place = folder / f"by{factor}"
    place.mkdir()
    (place / "own_transforms.py").write_text(OWN.format(factor=factor))
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "own_transforms", raising=False)
    return importlib.import_module("own_transforms")


def key(scoring: Scoring, checkpoint: Path, kept: Path) -> str:
    scoring.of(load_net(checkpoint), "student", kept)
    return str(json.loads(kept.read_text())["key"])


def test_other_code_of_a_users_degradation_gives_other_scores(
    images: Path, student_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for factor in (2, 3):
        transform = own(tmp_path, factor, monkeypatch).Darker(p=1.0)
        for degradation in (transform, A.Compose([GaussianBlur(1.6), transform])):
            scoring = Scoring({"images": images}, degradation)
            keys.append(key(scoring, student_checkpoint, tmp_path / "scores.json"))
    assert len(set(keys)) == 4


def test_kept_scores_are_read_once_and_damaged_ones_measured_anew(
    images: Path, student_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "scores.json"
    scoring = Scoring({"images": images}, GaussianBlur(1.6))
    first = scoring.of(load_net(student_checkpoint), "student", kept)
    with monkeypatch.context() as patch:
        patch.setattr(Scoring, "_measure", lambda *arguments: pytest.fail("measured again"))
        assert scoring.of(load_net(student_checkpoint), "student", kept) == first
    kept.write_text("[]")
    assert scoring.of(load_net(student_checkpoint), "student", kept) == first
    monkeypatch.setattr("sharpkd.evaluation.scoreboard.scores.SOURCES", ("nets",))
    other = Scoring({"images": images}, GaussianBlur(1.6))
    assert key(other, student_checkpoint, kept) != key(scoring, student_checkpoint, tmp_path / "again.json")
