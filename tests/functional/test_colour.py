from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from torch import Tensor

from sharpkd.functional.colour import rgb_to_y


def test_equals_scikit_image(photograph: Tensor) -> None:
    expected = rgb2ycbcr(photograph[0].permute(1, 2, 0).double().numpy())[..., 0] / 255
    np.testing.assert_allclose(rgb_to_y(photograph)[0, 0].numpy(), expected, atol=1e-6)


def test_black_and_white() -> None:
    image = torch.stack([torch.zeros(3, 1, 1), torch.ones(3, 1, 1)])
    assert (rgb_to_y(image) * 255).flatten().tolist() == pytest.approx([16, 235])


def test_needs_three_channels() -> None:
    with pytest.raises(ValueError, match=r"luma needs an \(N, 3, H, W\) RGB image, got shape \(1, 1, 4, 4\)"):
        rgb_to_y(torch.rand(1, 1, 4, 4))
