from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

from sharpkd.losses.ssim import SSIMLoss


def test_is_one_minus_the_mean_of_scikit_image() -> None:
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(3, 3, 24, 20, generator=generator)
    output = sharp + 0.1 * torch.randn(3, 3, 24, 20, generator=generator)
    similar = [
        structural_similarity(
            a.numpy(),
            b.numpy(),
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
        )
        for a, b in zip(sharp, output, strict=True)
    ]
    assert SSIMLoss()(output, sharp).item() == pytest.approx(1 - sum(similar) / 3, abs=1e-4)


def test_a_step_down_the_gradient_makes_images_more_alike() -> None:
    generator = torch.Generator().manual_seed(1)
    sharp = torch.rand(1, 3, 24, 24, generator=generator)
    output = (sharp + 0.1 * torch.randn(1, 3, 24, 24, generator=generator)).requires_grad_()
    before = SSIMLoss()(output, sharp)
    (gradient,) = torch.autograd.grad(before, output)
    after = SSIMLoss()(output - 0.1 * gradient / gradient.abs().max(), sharp)
    assert after < before


def test_a_bad_window_fails_when_it_is_set() -> None:
    with pytest.raises(ValueError, match="window=10"):
        SSIMLoss(window=10)
