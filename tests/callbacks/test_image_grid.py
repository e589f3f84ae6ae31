"""Which pictures are drawn when, and that they show what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn

from sharpkd.callbacks.image_grid import ImageGrid
from sharpkd.data.batch import Batch
from sharpkd.evaluation.pages.pictures import Tile
from sharpkd.loggers.base import RunLogger

Fit = Callable[..., pl.Trainer]


class Drawn:
    """Keeps the tiles that would have been drawn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[list[Tile]] = []
        monkeypatch.setattr("sharpkd.callbacks.image_grid.side_by_side", self.draw)

    def draw(self, rows: list[list[Tile]], labels: list[str], zoom_size: int) -> Image.Image:
        self.rows, self.labels = rows, labels
        return Image.new("RGB", (1, 1))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    return Drawn(monkeypatch)


@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [(1, 3, ["0000", "0001", "0002"]), (2, 4, ["0001", "0003"]), (2, 3, ["0001", "0002"]), (9, 1, ["0000"])],
)
def test_every_nth_validation_and_the_last(
    fit: Fit, tiny_module: Any, tmp_path: Path, every: int, epochs: int, expected: list[str]
) -> None:
    fit(tiny_module(), [ImageGrid(str(tmp_path), every, images=1, size=16)], epochs)
    assert sorted(path.stem for path in (tmp_path / "images").iterdir()) == expected


def test_columns_show_the_same_square_and_its_psnr(
    fit: Fit, tiny_module: Any, darker_teacher: nn.Module, drawn: Drawn, tmp_path: Path
) -> None:
    module = tiny_module(darker_teacher)
    fit(module, [ImageGrid(str(tmp_path), images=3, size=16)], epochs=1)
    assert drawn.labels == ["picture0", "picture1", "picture2"]
    for row in drawn.rows:
        assert [tile.title for tile in row] == ["sharp", "degraded", "teacher", "student"]
        assert {tile.pixels.shape for tile in row} == {(16, 16, 3)}
        sharp, degraded, teacher, _ = (tile.pixels.astype(float) for tile in row)
        # the square holds the noise of the picture
        assert sharp.std() > 30
        assert np.abs(teacher - 0.8 * degraded).max() <= 1
        for tile in row[1:]:
            psnr = 10 * np.log10(255**2 / np.mean((tile.pixels.astype(float) - sharp) ** 2))
            assert tile.caption == f"{psnr:.2f} dB"
        assert row[0].caption == ""


def test_the_teacher_is_asked_once_for_each_picture(
    fit: Fit, tiny_module: Any, darker_teacher: Any, tmp_path: Path
) -> None:
    fit(tiny_module(darker_teacher), [ImageGrid(str(tmp_path), 1, images=3, size=16)], epochs=3)
    assert darker_teacher.calls == 3


def test_without_a_teacher_there_is_no_column_for_it(
    fit: Fit, tiny_module: Any, drawn: Drawn, tmp_path: Path
) -> None:
    fit(tiny_module(), [ImageGrid(str(tmp_path), images=1, size=16)], epochs=1)
    assert [tile.title for tile in drawn.rows[0]] == ["sharp", "degraded", "output"]


def test_the_file_is_a_picture_of_all_columns(
    fit: Fit, tiny_module: Any, darker_teacher: nn.Module, tmp_path: Path
) -> None:
    fit(tiny_module(darker_teacher), [ImageGrid(str(tmp_path), images=2, size=24)], epochs=1)
    with Image.open(tmp_path / "images" / "0000.png") as image:
        assert image.mode == "RGB"
        assert image.width > 4 * 200
        assert image.height > 2 * 400


def test_other_loggers_get_the_picture(
    fit: Fit, tiny_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(RunLogger, "log_image", lambda self, *arguments: calls.append(arguments))
    fit(tiny_module(), [ImageGrid(str(tmp_path), 1, images=1, size=16)], epochs=2)
    folder = tmp_path / "images"
    assert calls == [("val/images", folder / "0000.png", 3), ("val/images", folder / "0001.png", 6)]


def test_a_resumed_run_keeps_counting(tmp_path: Path) -> None:
    before, after = ImageGrid(str(tmp_path)), ImageGrid(str(tmp_path))
    before._validations = 3
    after.load_state_dict(before.state_dict())
    assert after.state_dict() == {"validations": 3}


def test_a_task_that_enlarges(tmp_path: Path) -> None:
    grid = ImageGrid(str(tmp_path), size=20)
    sharp = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    batch = Batch(torch.nn.functional.avg_pool2d(sharp, 4), sharp, ["small"])

    class Enlarging(nn.Module):
        def forward(self, degraded: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
            return torch.nn.functional.interpolate(degraded, scale_factor=4)

    class Module(pl.LightningModule):
        teacher = Enlarging()

    shown = grid._keep(Module(), batch, sharp, 0)
    assert shown.teacher is not None
    assert {shown.sharp.shape, shown.degraded.shape, shown.output.shape, shown.teacher.shape} == {(20, 20, 3)}
    # nearest enlargement of the same small pixels: constant in blocks of 4
    assert (shown.teacher.reshape(5, 4, 5, 4, 3) == shown.teacher[::4, ::4].reshape(5, 1, 5, 1, 3)).all()
    assert np.array_equal(shown.output, shown.sharp)


@pytest.mark.parametrize("field", ["every_n_validations", "images", "size", "zoom_size"])
def test_settings_below_one(tmp_path: Path, field: str) -> None:
    with pytest.raises(ValueError, match=rf"image_grid\.{field} is 0, expected at least 1"):
        ImageGrid(str(tmp_path), **{field: 0})
