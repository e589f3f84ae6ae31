from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from sharpkd.data import sample as sample_module
from sharpkd.data.degradation import GaussianBlur
from sharpkd.data.images import read_image
from sharpkd.data.sample import SampleDataModule, SampleSource


def test_no_image_is_in_both_and_none_needs_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    source = SampleSource()
    source.prepare()
    train, val = source.train_files(), source.val_files()
    assert len(train) == 5
    assert len(val) == 2
    images = [read_image(path) for path in train + val]
    assert all(image.shape[2] == 3 and min(image.shape[:2]) >= 256 for image in images)
    assert len({image.tobytes() for image in images}) == 7


def test_colour_photographs_only() -> None:
    for path in SampleSource().train_files() + SampleSource().val_files():
        image = read_image(path).astype(int)
        assert np.abs(image[..., 0] - image[..., 2]).mean() > 3, path


def test_both_motorcycles_are_on_one_side() -> None:
    source = SampleSource()
    sides = [{path.name for path in files} for files in (source.train_files(), source.val_files())]
    assert any({"motorcycle_left.png", "motorcycle_right.png"} <= side for side in sides)


def test_batches(tmp_path: Path) -> None:
    data = SampleDataModule(
        degradation=GaussianBlur(sigma=1.6), cache_dir=tmp_path, batch_size=8, crops_per_image=2, workers=0
    )
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.sharp.shape == batch.degraded.shape == (8, 3, 128, 128)
    assert [batch.name for batch in data.val_dataloader()] == [["chelsea"], ["rocket"]]


def test_without_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"scikit-image, which is not installed.*data=folder"):
        SampleSource()


def test_a_wheel_without_a_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "VAL", ("chelsea.png", "cat.png"))
    with pytest.raises(FileNotFoundError, match=r"skimage/data lacks cat\.png"):
        SampleSource()
