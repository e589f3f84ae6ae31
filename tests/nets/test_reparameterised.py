"""Branches and the convolution that they collapse into, against branches run one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import laplace, sobel
from torch import Tensor, nn

from sharpkd.checkpoint import load_net, save_weights
from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.pixel_student import PixelStudent
from sharpkd.nets.reparameterised import ReparameterisedConv
from sharpkd.nets.stats import count_parameters

Image = Callable[..., Tensor]


def awake(block: ReparameterisedConv) -> ReparameterisedConv:
    """All branches at full strength, biases included."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return block


def edges(planes: Tensor) -> list[Tensor]:
    """Sobel across, Sobel down and Laplacian of each plane of (N, C, H, W), zeros outside, by SciPy."""
    # SciPy's sobel has the opposite sign, and would smooth along further axes
    by_scipy = (
        lambda plane: -sobel(plane, axis=1, mode="constant"),
        lambda plane: -sobel(plane, axis=0, mode="constant"),
        lambda plane: laplace(plane, mode="constant"),
    )
    flat = planes.flatten(0, 1).numpy()
    return [
        torch.from_numpy(np.stack([mask(plane) for plane in flat])).view(planes.shape) for mask in by_scipy
    ]


def branches(block: ReparameterisedConv, x: Tensor) -> Tensor:
    """Every branch run by itself, in double precision; the input is padded before the 1x1 convolutions."""
    twin = ReparameterisedConv(x.shape[1], block.plain.out_channels).double()
    twin.load_state_dict({key: value.double() for key, value in block.state_dict().items()})
    x = x.double()
    total = twin.plain(x) + F.conv2d(twin.expand(F.pad(x, (1, 1, 1, 1))), twin.squeeze.weight)
    for i in range(3):
        mixed = F.conv2d(x, twin.edges[i][..., None, None])
        total = total + twin.edge_factors[i][:, None, None] * edges(mixed)[i]
    return total + x if block.keeps_channels else total


@pytest.mark.parametrize(("channels", "out_channels"), [(5, 5), (3, 8), (12, 4)])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (17, 13)])
@torch.no_grad()
def test_sum_of_branches_block_and_collapsed_are_equal(
    channels: int, out_channels: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    block = awake(ReparameterisedConv(channels, out_channels))
    x = torch.rand(2, channels, *size)
    expected = branches(block, x)
    single = block.collapse()
    assert type(single) is nn.Conv2d
    assert count_parameters(single) == 9 * channels * out_channels + out_channels
    for found in (block(x), single(x)):
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_padded_in_between_the_border_would_be_another_one() -> None:
    """The mistake that the padding is minded for: inside nothing shows, at the border the bias is missing."""
    block = awake(ReparameterisedConv(4, 4))
    x = torch.rand(1, 4, 9, 9)
    right = F.conv2d(block.expand(F.pad(x, (1, 1, 1, 1))), block.squeeze.weight)
    wrong = F.conv2d(block.expand(x), block.squeeze.weight, padding=1)
    torch.testing.assert_close(wrong[..., 1:-1, 1:-1], right[..., 1:-1, 1:-1])
    difference = (wrong - right).abs().amax((0, 1))
    assert difference[0].min() > 1e-2
    assert difference[:, -1].min() > 1e-2


@torch.no_grad()
def test_a_collapsed_block_is_a_copy() -> None:
    block = ReparameterisedConv(3, 3)
    before = block(torch.ones(1, 3, 4, 4))
    for parameter in block.collapse().parameters():
        parameter.fill_(9)
    assert block(torch.ones(1, 3, 4, 4)).equal(before)


@pytest.mark.parametrize(
    "build",
    [
        lambda: PixelStudent(width=8, depth=4, rep=True),
        lambda: PixelStudent(unshuffle=3, width=6, depth=2, scale=2, luma_only=True, rep=True),
        lambda: AwareStudent(width=8, depth=4, rep=True, hidden=8),
    ],
    ids=["pixel_student", "luma-x2", "aware_student"],
)
@torch.no_grad()
def test_deployed_nets_give_the_same_and_load_as_every_net(
    build: Callable[[], PixelStudent], image: Image, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = build().eval()
    for block in net.modules():
        if isinstance(block, ReparameterisedConv):
            awake(block)
    net.tail.weight.normal_(std=0.1)
    drawn = torch.get_rng_state()
    plain, changed = net.deployed()
    assert torch.get_rng_state().equal(drawn)
    assert changed == {"rep": False}
    assert type(plain) is type(net)
    assert not plain.training
    assert plain.deployed() == (plain, {})
    assert not any(isinstance(part, ReparameterisedConv) for part in plain.modules())
    assert count_parameters(plain) < count_parameters(net)

    target = f"{type(net).__module__}.{type(net).__qualname__}"
    config = {"_target_": target, **net.arguments()} | changed
    save_weights(tmp_path / "net.safetensors", config, plain.state_dict(), {})
    loaded = load_net(tmp_path / "net.safetensors").net
    for size in ((1, 1), (7, 2), (33, 40)):
        degraded, condition = image(*size), torch.tensor([[1.6]])
        expected = net(degraded, condition)
        assert (expected - net(degraded, condition).mean()).abs().max() > 1e-2
        torch.testing.assert_close(plain(degraded, condition), expected, rtol=0, atol=1e-5)
        assert loaded(degraded, condition).equal(plain(degraded, condition))


def test_a_plain_net_is_deployed_as_it_is() -> None:
    net = PixelStudent(width=4, depth=2)
    assert net.deployed() == (net, {})


def test_starts_near_the_plain_convolution() -> None:
    torch.manual_seed(0)
    block = ReparameterisedConv(12, 32)
    added = block.kernel()[0] - block.plain.weight
    assert 0 < added.std() < 0.3 * block.plain.weight.std()
