"""Pooling in windows against a brute-force loop, and what it does for a net."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sharpkd.nets.attention_teacher import AttentionTeacher
from sharpkd.nets.base import RestorationNet
from sharpkd.nets.mobile_student import MobileStudent
from sharpkd.nets.pooling import AttentionPool

Image = Callable[..., Tensor]


def windows(length: int, cell: int, cells: int) -> list[slice]:
    """For each cell the part of the map that its window covers, moved inside at the borders."""
    count = math.ceil(length / cell)
    size = min(cells, count)
    starts = [min(max(i - size // 2, 0), count - size) for i in range(count)]
    return [slice(s * cell, min((s + size) * cell, length)) for s in starts]


@pytest.mark.parametrize("shape", [(40, 33), (41, 100), (7, 90), (1, 60), (23, 23)])
@pytest.mark.parametrize("window", [5, 16, 30])
def test_windows_equal_brute_force(shape: tuple[int, int], window: int) -> None:
    pool = AttentionPool(window, stride=1).eval()
    features = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    if pool.is_global(features):
        expected = features.mean((2, 3), keepdim=True)
    else:
        rows = windows(shape[0], pool.cell, pool.cells)
        columns = windows(shape[1], pool.cell, pool.cells)
        expected = torch.stack(
            [torch.stack([features[..., r, c].mean((2, 3)) for c in columns], -1) for r in rows], -2
        )
    torch.testing.assert_close(pool(features), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2, 8])
@pytest.mark.parametrize("window", [1, 20, 128, 192])
def test_window_is_at_least_as_large_as_asked(window: int, stride: int) -> None:
    pool = AttentionPool(window, stride)
    side = pool.cell * pool.cells * stride
    assert window <= side <= window + 3 * stride * pool.cell


def test_spread_keeps_a_constant_and_hits_the_centres() -> None:
    pool = AttentionPool(24, stride=1).eval()
    assert pool.cell == 3
    features = torch.zeros(1, 2, 40, 31)
    assert pool.is_global(features) is False
    grid = torch.rand(1, 2, 14, 11, generator=torch.Generator().manual_seed(0))
    spread = pool.spread(grid, features)
    assert spread.shape == features.shape
    torch.testing.assert_close(spread[..., 1::3, 1::3], grid[..., :13, :10])
    torch.testing.assert_close(
        pool.spread(torch.full_like(grid, 0.5), features), torch.full_like(features, 0.5)
    )


def nets(window: int | None) -> list[RestorationNet]:
    """In double precision, with a residual of the image's order: the start would hide any difference."""
    torch.manual_seed(0)
    built: list[RestorationNet] = [
        AttentionTeacher(width=4, depths=[1, 1], attention_window=window),
        MobileStudent(width=4, blocks=2, attention_window=window),
    ]
    with torch.no_grad():
        for net in built:
            net.double().eval().get_submodule("tail").get_parameter("weight").mul_(1000)
    return built


@torch.no_grad()
def test_images_not_larger_than_the_window_are_pooled_globally(image: Image) -> None:
    for local, whole in zip(nets(64), nets(None), strict=True):
        for size in ((64, 64), (32, 50), (1, 1)):
            degraded = image(*size).double()
            torch.testing.assert_close(local(degraded), whole(degraded), rtol=0, atol=0)


@torch.no_grad()
def test_path_of_the_exported_graph_agrees(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    for net in nets(48):
        for size in ((48, 48), (31, 20), (3, 1), (100, 70)):
            degraded = image(*size).double()
            expected = net(degraded)
            with monkeypatch.context() as patch:
                patch.setattr(torch.compiler, "is_exporting", lambda: True)
                output = net(degraded)
            torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_far_places_do_not_matter_in_evaluation_and_do_in_training(image: Image) -> None:
    degraded = image(400, 24).double()
    changed = degraded.clone()
    changed[..., 300:, :] = 0
    for net in nets(32):
        torch.testing.assert_close(net(degraded)[..., :40, :], net(changed)[..., :40, :], rtol=0, atol=1e-12)
        net.train()
        assert (net(degraded)[..., :40, :] - net(changed)[..., :40, :]).abs().max() > 1e-6
