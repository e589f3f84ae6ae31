"""A student that is told the blur: what it is told, FiLM by hand, and the plain net that it folds into."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.pixel_student import PixelStudent
from sharpkd.nets.stats import count_parameters, describe

Image = Callable[..., Tensor]


def awake(net: AwareStudent) -> AwareStudent:
    """Weights with which the condition changes every layer by its own order, and the residual is visible."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name in ("modulation.body.2.weight", "modulation.body.2.bias", "tail.weight"):
            part = net.get_parameter(name)
            part.copy_(0.3 * torch.randn(part.shape, generator=generator))
    return net


@torch.no_grad()
def test_film_by_hand(image: Image) -> None:
    """One channel, one hidden unit, a first convolution that copies: the equations of the docstring."""
    net = AwareStudent(1, 1, 2, luma_only=True, condition_limits=[2.0], hidden=1)
    copying = torch.zeros(1, 1, 3, 3)
    copying[0, 0, 1, 1] = 1
    values = {
        **{f"{name}.weight": copying for name in ("body.0", "tail")},
        **{f"{name}.bias": torch.zeros(1) for name in ("body.0", "tail")},
        "body.1.weight": torch.tensor([0.25]),
        "modulation.body.0.weight": torch.tensor([[0.7]]),
        "modulation.body.0.bias": torch.tensor([0.2]),
        "modulation.body.2.weight": torch.tensor([[-1.5], [0.4]]),
        "modulation.body.2.bias": torch.tensor([0.1, -0.3]),
    }
    net.load_state_dict(values)

    grey = image(1, 1)[:, :1].expand(-1, 3, 4, 5)
    value = grey[0, 0, 0, 0].item()
    for sigma in (0.0, 0.5, 1.6, 2.0, 7.0):
        told = 0.7 * (2 * min(sigma / 2.0, 1.0) - 1) + 0.2
        hidden = told / (1 + math.exp(-told))
        modulated = (1 - 1.5 * hidden + 0.1) * value + 0.4 * hidden - 0.3
        expected = value + (modulated if modulated > 0 else 0.25 * modulated)
        output = net(grey, torch.tensor([[sigma]]))
        np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda: AwareStudent(),
        lambda: AwareStudent(unshuffle=3, width=5, depth=2, scale=2),
        lambda: AwareStudent(width=8, depth=4, luma_only=True),
        lambda: AwareStudent(width=8, depth=3, rep=True),
        lambda: AwareStudent(width=8, depth=3, condition_limits=[4.0, 10.0]),
    ],
    ids=["default", "x2", "luma", "rep", "two numbers"],
)
@torch.no_grad()
def test_the_folded_net_gives_the_same(build: Callable[[], AwareStudent], image: Image) -> None:
    torch.manual_seed(0)
    net = awake(build()).eval()
    outputs = []
    for sigma in (0.0, 0.3, 1.6, 3.2, 9.0):
        condition = torch.tensor([sigma, 2.5])[: net.condition_size]
        folded = net.fold(condition)
        assert type(folded) is PixelStudent
        assert not folded.training
        for height, width in ((1, 1), (2, 7), (37, 51), (64, 48)):
            degraded = image(height, width)
            expected = net(degraded, condition[None])
            torch.testing.assert_close(folded(degraded), expected, rtol=0, atol=1e-5)
        outputs.append(expected)
    assert all((a - b).abs().max() > 1e-2 for a, b in pairwise(outputs))


def test_the_folded_net_costs_what_a_plain_one_does() -> None:
    net = AwareStudent(rep=True)
    state, drawn = {key: value.clone() for key, value in net.state_dict().items()}, torch.get_rng_state()
    folded = net.fold(torch.tensor([1.6]))
    assert torch.get_rng_state().equal(drawn)
    assert describe(folded) == describe(PixelStudent())
    assert count_parameters(folded) == 44_108
    assert folded.training
    assert folded.taps == net.taps
    # nothing is shared
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.fill_(7)
    assert all(value.equal(state[key]) for key, value in net.state_dict().items())


@torch.no_grad()
def test_starts_as_its_blind_twin(image: Image) -> None:
    torch.manual_seed(5)
    net = AwareStudent()
    torch.manual_seed(5)
    twin = PixelStudent()
    scales, shifts = net.modulation(torch.tensor([[0.0], [1.6], [4.0]]))
    assert scales.shape == shifts.shape == (5, 3, 32)
    assert 0 < (scales - 1).abs().max() < 0.01
    assert 0 < shifts.abs().max() < 0.01
    degraded = image(24, 20)
    change = (net(degraded, torch.tensor([[1.6]])) - twin(degraded)).abs().max()
    assert change < 0.05 * (twin(degraded) - degraded).abs().max()


@torch.no_grad()
def test_what_is_told_is_bounded_and_comes_first(image: Image) -> None:
    net = awake(AwareStudent(width=4, depth=3, condition_limits=[3.0, 10.0])).eval()
    degraded = image(12, 9)

    def told(*condition: float) -> Tensor:
        return net(degraded, torch.tensor([condition]))

    assert net(degraded).equal(told(0, 0))
    assert told(3, 10).equal(told(30, 11))
    assert told(0, 0).equal(told(-1, 0))
    assert told(1, 5).equal(told(1, 5, 80))
    assert not told(1, 5).equal(told(1, 6))
    assert not told(1, 5).equal(told(1.1, 5))


@torch.no_grad()
def test_every_image_has_its_own_condition(image: Image) -> None:
    net = awake(AwareStudent(width=6, depth=4)).eval()
    degraded, conditions = image(18, 14, 3), torch.tensor([[0.4], [1.6], [3.0]])
    alone = [net(degraded[i : i + 1], conditions[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(net(degraded, conditions), torch.cat(alone), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "found"), [((2,), "(2,)"), ((1, 1), "(1, 1)"), ((2, 0), "(2, 0)"), ((3, 1), "(3, 1)")]
)
def test_bad_conditions_are_named(shape: tuple[int, ...], found: str, image: Image) -> None:
    message = (
        "condition: expected (2, k) with k >= 1, one row for each image and blur sigma first, found shape "
        + found
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        AwareStudent(width=4, depth=2)(image(6, 6, 2), torch.zeros(shape))


@pytest.mark.parametrize(("shape", "found"), [((1, 2), "(1, 2)"), ((1,), "(1,)"), ((), "()")])
def test_only_one_condition_is_folded(shape: tuple[int, ...], found: str) -> None:
    message = f"condition: expected the one of a single image, (k,) with k >= 2, found shape {found}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        AwareStudent(width=4, depth=2, condition_limits=[4, 10]).fold(torch.zeros(shape))
