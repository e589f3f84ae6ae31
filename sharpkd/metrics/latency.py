"""Inference time, measured so that it means something."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

LATENCY_SIZE = (480, 640)
"""Height and width of the output whose time stands beside a net's other figures."""


@dataclass(frozen=True)
class Latency:
    """Wall-clock milliseconds of one call: the median of the repeats, and their extremes."""

    median_ms: float
    min_ms: float
    max_ms: float


def measure_latency(
    fn: Callable[..., Any],
    inputs: torch.Tensor | Sequence[Any],
    warmup: int = 3,
    repeats: int = 10,
    device: str | torch.device = "cpu",
) -> Latency:
    """Time ``fn(*inputs)`` in inference mode, after a warm-up, waiting for a GPU before each clock reading.

    Args:
        fn: a net in eval mode, or any callable.
        inputs: one tensor, or the positional arguments.
        warmup: calls before the first timed one (allocation, kernel selection, compilation).
        repeats: timed calls.
        device: where ``fn`` computes; a CUDA device is synchronised.

    Raises:
        ValueError: ``repeats < 1`` or ``warmup < 0``.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(
            f"latency needs repeats >= 1 and warmup >= 0, got repeats={repeats}, warmup={warmup}"
        )
    arguments = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    device = torch.device(device)
    times = []
    with torch.inference_mode():
        for call in range(warmup + repeats):
            _wait_for(device)
            start = time.perf_counter()
            fn(*arguments)
            _wait_for(device)
            if call >= warmup:
                times.append(1000 * (time.perf_counter() - start))
    return Latency(statistics.median(times), min(times), max(times))


def net_latency(net: nn.Module, size: tuple[int, int] = LATENCY_SIZE, scale: int = 1) -> Latency:
    """Time a net for one float32 output of ``size`` on the CPU: torch eager, channels_last.

    Args:
        net: in eval mode, on the CPU.
        size: (height, width) of the output.
        scale: how many times the net enlarges; it is given that much smaller an image.
    """
    height, width = (-(-side // scale) for side in size)
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return measure_latency(net, image.contiguous(memory_format=torch.channels_last), warmup=1, repeats=5)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
