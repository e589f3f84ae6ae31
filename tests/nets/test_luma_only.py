"""Luma is restored, chroma is kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr, rgb2yuv
from torch import Tensor

from sharpkd.functional.bicubic import enlarge
from sharpkd.nets.pixel_student import PixelStudent, luma_of
from sharpkd.nets.stats import count_parameters

Image = Callable[..., Tensor]


def visible(scale: int = 1) -> PixelStudent:
    torch.manual_seed(0)
    net = PixelStudent(width=6, depth=3, scale=scale, luma_only=True).eval()
    torch.nn.init.normal_(net.tail.weight, std=0.3)
    return net


def test_luma_is_that_of_bt_601(image: Image) -> None:
    picture = image(7, 9)
    expected = rgb2yuv(picture[0].permute(1, 2, 0).numpy())[..., 0]
    np.testing.assert_allclose(luma_of(picture)[0, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2])
@torch.no_grad()
def test_chroma_is_kept_and_luma_is_not(scale: int, image: Image) -> None:
    picture = image(14, 11)
    output = visible(scale)(picture)
    before, after = (
        rgb2ycbcr(one[0].permute(1, 2, 0).double().numpy()) for one in (enlarge(picture, scale), output)
    )
    # in levels of 8 bits
    np.testing.assert_allclose(after[..., 1:], before[..., 1:], atol=1e-3)
    assert np.abs(after[..., 0] - before[..., 0]).max() > 5


@torch.no_grad()
def test_what_is_added_depends_on_luma_alone(image: Image) -> None:
    net, picture = visible(), image(12, 12)
    grey = luma_of(picture).expand(-1, 3, -1, -1)
    torch.testing.assert_close(net(grey) - grey, net(picture) - picture, rtol=0, atol=1e-6)
    assert not picture.allclose(grey)


def test_first_and_last_convolution_have_a_third_of_the_channels() -> None:
    full, luma = PixelStudent(), PixelStudent(luma_only=True)
    # 9 weights for each of 8 channels fewer on either side, and the last one's 8 biases
    assert count_parameters(full) - count_parameters(luma) == 2 * 9 * 8 * 32 + 8
    assert luma.macs_per_pixel() == full.macs_per_pixel() - 2 * 9 * 8 * 32 / 4
