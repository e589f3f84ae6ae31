"""The CSV logger under Lightning's own resume."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from sharpkd.loggers.csv import read_rows


def test_a_resumed_training_has_every_step_once(
    fit: Callable[..., pl.Trainer], tiny_module: Any, tmp_path: Path
) -> None:
    def saving() -> pl.Callback:
        return pl.callbacks.ModelCheckpoint(tmp_path / "checkpoints", "last", enable_version_counter=False)

    fit(tiny_module(), [saving()], epochs=2)
    checkpoint = Path(shutil.copy(tmp_path / "checkpoints" / "last.ckpt", tmp_path / "kept.ckpt"))
    fit(tiny_module(), [saving()], epochs=4, checkpoint=checkpoint)
    # the second training went on to step 12 and is lost; the third continues from step 6 again
    fit(tiny_module(), [saving()], epochs=3, checkpoint=checkpoint)
    rows = read_rows(tmp_path / "logs" / "metrics.csv")
    assert [int(row["step"]) for row in rows if "train/loss" in row] == list(range(9))
    assert [int(row["step"]) for row in rows if "val/psnr" in row] == [2, 5, 8]
