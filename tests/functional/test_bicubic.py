"""Enlargement by convolution against Pillow's resampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sharpkd.functional.bicubic import REACH, enlarge, macs_per_pixel


def image(height: int = 17, width: int = 23, channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_equals_pillow_away_from_the_border(scale: int) -> None:
    small = image()
    large = enlarge(small, scale)
    assert large.shape == (2, 3, 17 * scale, 23 * scale)
    edge = REACH * scale
    for plane, found in zip(small.flatten(0, 1), large.flatten(0, 1), strict=True):
        size = (23 * scale, 17 * scale)
        expected = Image.fromarray(plane.numpy()).resize(size, Image.Resampling.BICUBIC)
        inside = (slice(edge, -edge), slice(edge, -edge))
        np.testing.assert_allclose(found.numpy()[inside], np.asarray(expected)[inside], atol=2e-6)


def test_scale_1_is_the_image_itself() -> None:
    small = image()
    assert enlarge(small, 1) is small


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
def test_flat_stays_flat_up_to_the_border(size: tuple[int, int]) -> None:
    flat = torch.full((1, 3, *size), 0.3)
    torch.testing.assert_close(enlarge(flat, 3), torch.full((1, 3, size[0] * 3, size[1] * 3), 0.3))


def test_a_ramp_stays_a_ramp() -> None:
    ramp = torch.arange(12.0).expand(1, 1, 5, 12)
    expected = (torch.arange(48.0) + 0.5) / 4 - 0.5
    torch.testing.assert_close(enlarge(ramp, 4)[0, 0, 10, 8:-8], expected[8:-8])


def test_autocast_does_not_reach_it() -> None:
    small = image()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(enlarge(small, 2), enlarge(small, 2).float())
        within = enlarge(small, 2)
    assert torch.equal(within, enlarge(small, 2))


def test_gradients_agree_with_finite_differences() -> None:
    small = image(3, 4, 2).double().requires_grad_()
    torch.autograd.gradcheck(lambda x: enlarge(x, 2), small)


def test_no_scale_below_1() -> None:
    with pytest.raises(ValueError, match=r"^enlarge: the scale must be at least 1, found 0$"):
        enlarge(image(), 0)


def test_cost() -> None:
    assert (macs_per_pixel(3, 1), macs_per_pixel(3, 4)) == (0, 75)
