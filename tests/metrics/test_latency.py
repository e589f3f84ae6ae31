from __future__ import annotations

import re
import time

import pytest
import torch
from torch import Tensor, nn

from sharpkd.metrics.latency import Latency, measure_latency, net_latency


class Clock:
    """A clock that only the measured function and the device's queue move forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.queued = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(torch.cuda, "synchronize", self.drain)

    def drain(self, device: torch.device) -> None:
        assert device.type == "cuda"
        self.now, self.queued = self.now + self.queued, 0.0


def test_median_and_extremes_without_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    durations = iter([9.0, 7.0, 0.002, 0.001, 0.004, 0.003, 0.1])

    def work(image: Tensor) -> Tensor:
        clock.now += next(durations)
        return image

    latency = measure_latency(work, torch.zeros(1), warmup=2, repeats=5)
    assert (latency.median_ms, latency.min_ms, latency.max_ms) == pytest.approx((3.0, 1.0, 100.0))
    assert next(durations, None) is None


def test_a_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def work() -> None:
        clock.queued += 0.005

    latency = measure_latency(work, (), warmup=1, repeats=3, device="cuda:0")
    assert latency.median_ms == pytest.approx(5.0)


def test_calls_the_net_with_its_arguments_in_inference_mode() -> None:
    seen = []

    def work(image: Tensor, condition: Tensor | None) -> Tensor:
        seen.append((image.shape, condition, torch.is_inference_mode_enabled()))
        return image

    latency = measure_latency(work, (torch.zeros(1, 3, 4, 4), None), warmup=1, repeats=2)
    assert seen == [((1, 3, 4, 4), None, True)] * 3
    assert isinstance(latency, Latency)
    assert 0 < latency.min_ms <= latency.median_ms <= latency.max_ms


@pytest.mark.parametrize(("warmup", "repeats"), [(-1, 5), (3, 0)])
def test_bad_counts_are_named(warmup: int, repeats: int) -> None:
    message = f"latency needs repeats >= 1 and warmup >= 0, got repeats={repeats}, warmup={warmup}"
    with pytest.raises(ValueError, match=re.escape(message)):
        measure_latency(lambda: None, (), warmup, repeats)


class Sizes(nn.Module):
    """Notes the sizes of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def forward(self, image: Tensor) -> Tensor:
        self.seen.add(tuple(image.shape))
        return image


@pytest.mark.parametrize(("scale", "given"), [(1, (480, 640)), (2, (240, 320)), (3, (160, 214))])
def test_a_net_is_timed_for_an_output_whatever_its_scale(scale: int, given: tuple[int, int]) -> None:
    net = Sizes()
    assert net_latency(net, scale=scale).median_ms > 0
    assert net.seen == {(1, 3, *given)}
