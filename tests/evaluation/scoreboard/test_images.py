"""Which images a scoreboard is held to, without any training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpkd.evaluation.scoreboard.images import FILE, hold_to_images
from sharpkd.runs.folder import RunFolderError

LABELLED = (["a", "b"], ["v"])
MORE = (["a", "b", "x"], ["v"])
OTHERS = (["a", "b", "y"], ["v"])


def trained(folder: Path, method: str) -> None:
    checkpoints = folder / "cells" / method / "seed0" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "last.ckpt").touch()


def test_a_method_that_was_left_out_for_a_while_is_held_to_its_images(tmp_path: Path) -> None:
    first = hold_to_images(tmp_path, {"scratch": LABELLED, "extra": MORE})
    trained(tmp_path, "scratch")
    trained(tmp_path, "extra")
    assert hold_to_images(tmp_path, {"scratch": LABELLED}) == {"scratch": first["scratch"]}
    assert set(json.loads((tmp_path / FILE).read_text())) == {"scratch", "extra"}
    with pytest.raises(RunFolderError, match="the images of the training are not those of extra in"):
        hold_to_images(tmp_path, {"scratch": LABELLED, "extra": OTHERS})
    assert hold_to_images(tmp_path, {"scratch": LABELLED, "extra": MORE}) == first


def test_images_may_change_until_something_is_trained(tmp_path: Path) -> None:
    hold_to_images(tmp_path, {"scratch": LABELLED, "extra": MORE})
    trained(tmp_path, "scratch")
    changed = hold_to_images(tmp_path, {"scratch": LABELLED, "extra": OTHERS})
    assert (changed["extra"].train_count, changed["extra"].held_out_count) == (3, 1)
    for hashes in ((["b", "a"], ["v"]), (["a", "b"], ["w"])):
        with pytest.raises(RunFolderError, match="2 to train on and 1 held out then, 2 and 1 now, or others"):
            hold_to_images(tmp_path, {"scratch": hashes})


def test_trainings_on_images_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    trained(tmp_path, "scratch")
    with pytest.raises(RunFolderError, match=rf"{FILE} does not say which images scratch was trained on"):
        hold_to_images(tmp_path, {"scratch": LABELLED})
