"""LPIPS as people read it while a net is trained."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console

from sharpkd.callbacks.lpips_label import lpips_label
from sharpkd.callbacks.progress import Progress
from sharpkd.callbacks.training_curves import TrainingCurves
from sharpkd.data.batch import Batch


@pytest.fixture
def measuring(tiny_module: Any) -> pl.LightningModule:
    """A module that validates with an LPIPS of this backbone."""

    class Measuring(tiny_module):
        metrics = {"lpips": SimpleNamespace(backbone="alex")}  # noqa: RUF012  # as nn.ModuleDict reads

        def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
            self.log("val/lpips", torch.tensor(0.25), batch_size=len(batch))
            return super().validation_step(batch, batch_idx)

    return Measuring()


def test_without_the_metric_there_is_no_backbone(tiny_module: Any, measuring: pl.LightningModule) -> None:
    assert lpips_label(tiny_module()) == "lpips"
    assert lpips_label(measuring) == "lpips-alex"


def test_lines_and_curves_name_it(
    fit: Callable[..., pl.Trainer],
    measuring: pl.LightningModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(
        "sharpkd.callbacks.training_curves.draw_curves", lambda series, path, lpips: drawn.append(lpips)
    )
    progress = Progress(console=Console(file=io.StringIO(), width=160))
    fit(measuring, [progress, TrainingCurves(str(tmp_path))], epochs=1, enable_progress_bar=True)
    assert drawn == ["lpips-alex"]
    assert isinstance(progress.console.file, io.StringIO)
    assert progress.console.file.getvalue().splitlines()[-1].endswith(", lpips-alex 0.25")
    # what programs read stays: sweep.monitor=val/lpips
    assert "val/lpips" in (tmp_path / "logs" / "metrics.csv").read_text().splitlines()[0].split(",")
