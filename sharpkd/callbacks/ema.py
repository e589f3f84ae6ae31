"""Exponential moving average of the weights: what is validated, kept as best, and exported."""

from __future__ import annotations

from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class EMA(WeightAveraging):
    """Lightning's weight averaging with a decay that rises from 0.1 to ``decay``.

    ``decay_n = min(decay, (1 + n) / (10 + n))`` after n updates, so that short runs are not dominated by
    their first steps (the rule of TensorFlow's ``ExponentialMovingAverage(num_updates=…)``). Checkpoints hold
    the averaged weights in ``state_dict`` and the trained ones in ``current_model_state``; a resume restores
    both.

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
