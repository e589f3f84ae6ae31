"""Exponential moving average of the weights: what is validated, kept as best, and exported."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from sharpkd.modules.restoration import RestorationModule


class EMA(WeightAveraging):
    """Lightning's weight averaging with a decay that rises from 0.1 to ``decay``.

    ``decay_n = min(decay, (1 + n) / (10 + n))`` after n updates, so that short runs are not dominated by
    their first steps (the rule of TensorFlow's ``ExponentialMovingAverage(num_updates=…)``). Checkpoints hold
    the averaged weights in ``state_dict`` and the trained ones in ``current_model_state``; a resume restores
    both. A step that the module has skipped is no update.

    Args:
        decay: limit of the decay, in [0, 1).

    Raises:
        ValueError: the decay is out of range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"callbacks.ema.decay is {decay}; it must lie in [0, 1)")

        def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
            count = int(updates)
            weight = min(decay, (1 + count) / (10 + count))
            return averaged.lerp(current.to(averaged.dtype), 1.0 - weight)

        super().__init__(use_buffers=True, avg_fn=average)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(pl_module, RestorationModule) and pl_module.steps.skipped == trainer.global_step - 1:
            self._latest_update_step = trainer.global_step
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
