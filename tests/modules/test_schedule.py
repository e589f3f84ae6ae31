"""Learning-rate curves against their formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

from sharpkd.modules.schedule import warmup_constant, warmup_cosine


def _optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def _curve(optimizer: torch.optim.Optimizer, scheduler: LRScheduler, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_cosine_rises_then_falls_to_the_final_share() -> None:
    optimizer = _optimizer()
    rates = _curve(optimizer, warmup_cosine(optimizer, 100, warmup_steps=9, final_factor=0.1), 101)
    assert rates[:9] == pytest.approx([2.0 * (i + 1) / 10 for i in range(9)])
    assert rates[9] == pytest.approx(2.0)
    expected = [2.0 * (0.1 + 0.9 * (1 + math.cos(math.pi * (i - 9) / 91)) / 2) for i in range(9, 101)]
    assert rates[9:] == pytest.approx(expected)
    assert rates[100] == pytest.approx(0.2)


def test_warm_up_takes_at_most_half_of_a_short_run() -> None:
    optimizer = _optimizer()
    rates = _curve(optimizer, warmup_cosine(optimizer, 10, warmup_steps=500), 10)
    assert max(rates) == rates[5] == 2.0


def test_constant_stays() -> None:
    optimizer = _optimizer()
    rates = _curve(optimizer, warmup_constant(optimizer, 20, warmup_steps=3), 20)
    assert rates == pytest.approx([0.5, 1.0, 1.5] + [2.0] * 17)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scheduler\.warmup_steps is -1; it must be >= 0"):
        warmup_cosine(_optimizer(), 10, warmup_steps=-1)
    with pytest.raises(ValueError, match=r"scheduler\.warmup_steps is -1; it must be >= 0"):
        warmup_constant(_optimizer(), 10, warmup_steps=-1)
    with pytest.raises(ValueError, match=r"scheduler\.final_factor is 2; it must lie in \[0, 1\]"):
        warmup_cosine(_optimizer(), 10, final_factor=2)
