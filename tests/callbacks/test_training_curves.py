"""The curves' picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
from PIL import Image

from sharpkd.callbacks.training_curves import TrainingCurves, draw_curves

SERIES: dict[str, tuple[list[int], list[float]]] = {
    "train/loss": ([0, 1, 2], [0.5, 0.3, 0.2]),
    "train/ssim": ([0, 1, 2], [0.4, 0.0, float("nan")]),
    "train/lr": ([0, 1, 2], [1e-4, 2e-4, 1e-4]),
    "train/grad_norm": ([0, 1, 2], [10.0, 20.0, 30.0]),
    "val/psnr": ([2], [30.0]),
    "val/ssim": ([2], [0.9]),
    "val/lpips": ([2], [0.1]),
}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_every_series_changes_its_own_panel(tmp_path: Path) -> None:
    draw_curves(SERIES, tmp_path / "all.png")
    whole = pixels(tmp_path / "all.png")
    height, width = (side // 2 for side in whole.shape[:2])
    panels = {"train/ssim": (0, 0), "val/psnr": (0, 1), "val/lpips": (1, 0), "train/lr": (1, 1)}
    for left_out, (row, column) in panels.items():
        draw_curves({key: SERIES[key] for key in SERIES if key != left_out}, tmp_path / "part.png")
        changed = np.abs(pixels(tmp_path / "part.png") - whole).sum(axis=2) > 0
        quarters = {
            (r, c): changed[r * height :, c * width :][:height, :width].mean() for r in (0, 1) for c in (0, 1)
        }
        assert max(quarters, key=lambda place: quarters[place]) == (row, column)
        assert quarters[row, column] > 0.001


def test_the_gradient_norm_is_not_among_the_losses(tmp_path: Path) -> None:
    draw_curves(SERIES, tmp_path / "with.png")
    draw_curves({key: SERIES[key] for key in SERIES if key != "train/grad_norm"}, tmp_path / "without.png")
    assert np.array_equal(pixels(tmp_path / "with.png"), pixels(tmp_path / "without.png"))


def test_drawn_at_the_end_from_the_metrics_file(
    fit: Callable[..., pl.Trainer], tiny_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def draw(series: Any, path: Path, lpips: str) -> None:
        seen.append(series)
        draw_curves(series, path, lpips)

    monkeypatch.setattr("sharpkd.callbacks.training_curves.draw_curves", draw)
    fit(tiny_module(), [TrainingCurves(str(tmp_path))], epochs=2)
    assert len(seen) == 1
    assert seen[0]["train/loss"][0] == [0, 1, 2, 3, 4, 5]
    assert seen[0]["val/psnr"][0] == [2, 5]
    assert pixels(tmp_path / "curves.png").std() > 10
    assert list(tmp_path.glob("*.part*")) == []


def test_redrawn_after_validations_when_the_time_has_come(
    fit: Callable[..., pl.Trainer], tiny_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    monkeypatch.setattr(
        "sharpkd.callbacks.training_curves.draw_curves",
        lambda series, path, lpips: lengths.append(len(series["train/loss"][0])),
    )
    fit(tiny_module(), [TrainingCurves(str(tmp_path), redraw_every=0)], epochs=2)
    assert lengths == [3, 6, 6]


def test_lpips_has_its_backbones_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def panel(axes: Any, title: str, lines: Any) -> None:
        said.extend([title, *lines])

    monkeypatch.setattr("sharpkd.callbacks.training_curves._panel", panel)
    draw_curves(SERIES, tmp_path / "c.png", "lpips-vgg")
    assert [text for text in said if "lpips" in text] == ["validation SSIM, lpips-vgg", "val/lpips-vgg"]


def test_a_failed_run_has_its_curves(
    fit: Callable[..., pl.Trainer], tiny_module: Any, tmp_path: Path
) -> None:
    class Failing(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
            if trainer.global_step == 4:
                raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        fit(tiny_module(), [Failing(), TrainingCurves(str(tmp_path))])
    assert (tmp_path / "curves.png").is_file()
