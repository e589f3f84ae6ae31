"""Pictures of the validation images as training goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpkd.data.batch import Batch
from sharpkd.evaluation.pages.pictures import (
    Pixels,
    Tile,
    Window,
    most_changed_window,
    side_by_side,
    to_pixels,
)
from sharpkd.loggers.base import RunLogger
from sharpkd.modules.distill import DistillModule

log = logging.getLogger(__name__)


@dataclass
class _Shown:
    """What is kept of one validation image: the same square of every version of it."""

    name: str
    sharp: Pixels
    degraded: Pixels
    output: Pixels
    teacher: Pixels | None


class ImageGrid(pl.Callback):
    """Writes ``<run_dir>/images/<epoch>.png``: sharp | degraded | teacher | output, PSNR in dB under each.

    Shown are the first validation images, cut to the square in which the degradation changed them most; the
    PSNR belongs to that square. The teacher (``module.teacher``, where there is one) sees the square alone,
    so that a large teacher costs little, and only once, as it does not change.

    Args:
        run_dir: folder of the run.
        every_n_validations: how often; the last validation is always drawn.
        images: how many rows.
        size: side of the square in pixels.
        zoom_size: side of the enlarged place inside the square, in pixels.

    Raises:
        ValueError: a setting is below 1.
    """

    def __init__(
        self,
        run_dir: str,
        every_n_validations: int = 5,
        images: int = 4,
        size: int = 256,
        zoom_size: int = 48,
    ) -> None:
        settings = {"every_n_validations": every_n_validations, "images": images, "size": size}
        for field, value in {**settings, "zoom_size": zoom_size}.items():
            if value < 1:
                raise ValueError(f"image_grid.{field} is {value}, expected at least 1")
        self.folder = Path(run_dir) / "images"
        self.every_n_validations = every_n_validations
        self.images = images
        self.size = size
        self.zoom_size = zoom_size
        self._shown: list[_Shown] = []
        self._teacher_pixels: dict[int, Pixels] = {}
        self._validations = 0
        self._epoch = 0
        self._written = False

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the images of the validation before."""
        self._shown = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the square of the first images."""
        if trainer.sanity_checking or not trainer.is_global_zero or not isinstance(outputs, Mapping):
            return
        for index in range(min(self.images - len(self._shown), len(batch))):
            self._shown.append(self._keep(pl_module, batch, outputs["output"], index))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw every n-th time."""
        if trainer.sanity_checking or not self._shown:
            return
        self._validations += 1
        self._epoch = trainer.current_epoch
        self._written = False
        if self._validations % self.every_n_validations == 0:
            self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the last validation."""
        if self._shown and not self._written:
            self._write(trainer)

    def state_dict(self) -> dict[str, Any]:
        """How many validations there were, so that a resumed run draws the same ones."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the count."""
        self._validations = state_dict["validations"]

    def _keep(self, module: pl.LightningModule, batch: Batch, output: Tensor, index: int) -> _Shown:
        sharp = to_pixels(batch.sharp[index])
        small = batch.degraded[index : index + 1]
        degraded = to_pixels(_enlarged(small, sharp.shape[:2])[0])
        shown = module.teacher_input_of(batch) if isinstance(module, DistillModule) else batch.degraded
        shown = shown[index : index + 1]
        ratio = sharp.shape[1] // shown.shape[-1]
        window = _on_whole_pixels(most_changed_window(sharp, degraded, self.size), ratio)
        row, teacher = len(self._shown), getattr(module, "teacher", None)
        if teacher is not None and row not in self._teacher_pixels:
            told = batch.condition if getattr(module, "use_condition", False) else None
            condition = None if told is None else told[index : index + 1]
            self._teacher_pixels[row] = _teacher_pixels(teacher, shown, condition, window, ratio)
        return _Shown(
            name=batch.name[index],
            sharp=window.cut(sharp),
            degraded=window.cut(degraded),
            output=window.cut(to_pixels(output[index])),
            teacher=self._teacher_pixels.get(row),
        )

    def _write(self, trainer: pl.Trainer) -> None:
        self._written = True
        rows = [_tiles(shown) for shown in self._shown]
        path = self.folder / f"{self._epoch:04d}.png"
        picture = side_by_side(rows, [shown.name for shown in self._shown], zoom_size=self.zoom_size)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        except OSError as error:
            path.unlink(missing_ok=True)
            log.warning("%s cannot be written (%s); the training goes on", path, error.strerror or error)
            return
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.log_image("val/images", path, trainer.global_step)


def _enlarged(image: Tensor, size: tuple[int, ...]) -> Tensor:
    same = tuple(image.shape[-2:]) == tuple(size)
    return image if same else F.interpolate(image.float(), size=tuple(size), mode="bicubic")


def _on_whole_pixels(window: Window, ratio: int) -> Window:
    """The window moved and shrunk to whole pixels of an image that is ``ratio`` times smaller."""
    return Window(
        window.top // ratio * ratio, window.left // ratio * ratio, max(ratio, window.size // ratio * ratio)
    )


def _teacher_pixels(
    teacher: nn.Module, small: Tensor, condition: Tensor | None, window: Window, ratio: int
) -> Pixels:
    top, left, size = (value // ratio for value in (window.top, window.left, window.size))
    with torch.no_grad():
        output = teacher(small[..., top : top + size, left : left + size], condition)
    return to_pixels(_enlarged(output, (window.size, window.size))[0])


def _tiles(shown: _Shown) -> list[Tile]:
    name = "output" if shown.teacher is None else "student"
    versions = [("degraded", shown.degraded), ("teacher", shown.teacher), (name, shown.output)]
    return [Tile("sharp", shown.sharp)] + [
        Tile(title, pixels, f"{_psnr(pixels, shown.sharp):.2f} dB")
        for title, pixels in versions
        if pixels is not None
    ]


def _psnr(pixels: Pixels, sharp: Pixels) -> float:
    error = float(np.mean((pixels.astype(np.float64) - sharp) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))
