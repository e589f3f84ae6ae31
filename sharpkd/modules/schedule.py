"""Learning-rate schedules that step once per optimizer step."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer, total_steps: int, warmup_steps: int = 0, final_factor: float = 0.0
) -> LambdaLR:
    """Linear warm-up, then half a cosine from the optimizer's rate to ``final_factor`` of it.

    SGDR without restarts: Loshchilov & Hutter 2017, equation 5.

    Args:
        optimizer: its learning rates are the peak of the curve.
        total_steps: optimizer steps of the whole run.
        warmup_steps: steps of the linear rise; at most half of a short run is spent on it.
        final_factor: share of the peak that the last step keeps, in [0, 1].

    Raises:
        ValueError: a setting is out of its range.
    """
    if warmup_steps < 0:
        raise ValueError(f"scheduler.warmup_steps is {warmup_steps}; it must be >= 0")
    if not 0.0 <= final_factor <= 1.0:
        raise ValueError(f"scheduler.final_factor is {final_factor}; it must lie in [0, 1]")
    warmup = min(warmup_steps, total_steps // 2)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return final_factor + (1.0 - final_factor) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def warmup_constant(optimizer: Optimizer, total_steps: int, warmup_steps: int = 0) -> LambdaLR:
    """Linear warm-up, then the optimizer's rate unchanged.

    Raises:
        ValueError: ``warmup_steps`` is negative.
    """
    if warmup_steps < 0:
        raise ValueError(f"scheduler.warmup_steps is {warmup_steps}; it must be >= 0")
    warmup = min(warmup_steps, total_steps // 2)
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (warmup + 1)))
